#!/usr/bin/env bash
# What: LiteLLM's proxy without a database, with a master key, answers a wrong key with status 400 and "No connected db.",
#       and an unknown model with status 400, too. OpenAI and most others answer 401 and 404.
# Why it matters: 400 says that this one request is at fault. Who asks many questions goes on with the next one, and asks
#       all of them in vain; and the words send the user to look for a database.
# Seen with: litellm 1.100.4 (extra proxy), Python 3.11; 2026-11-29.
# Output seen: right key: 200
#              wrong key: 400 No connected db.
#              unknown model: 400 /chat/completions: Invalid model name passed in model=gpt-99. Call `/v1/models` ...
#       The script fails if that changes.
set -euo pipefail

work=$(mktemp -d)
trap 'kill "${proxy:-}" 2> /dev/null || true; wait; rm -rf "$work"' EXIT
cd "$work"
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q 'litellm[proxy]==1.100.4'

cat > config.yaml <<'YAML'
model_list:
  - model_name: parrot
    litellm_params: {model: openai/none, api_key: none, mock_response: "hello"}
general_settings: {master_key: sk-the-right-key}
YAML
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
export LITELLM_LOCAL_MODEL_COST_MAP=True no_proxy=127.0.0.1
"$work/venv/bin/litellm" --config config.yaml --host 127.0.0.1 --port "$port" --telemetry False > log.txt 2>&1 &
proxy=$!

cat > ask.py <<'PY'
import json
import sys
import time
import urllib.error
import urllib.request

url = f"http://127.0.0.1:{sys.argv[1]}"
end = time.monotonic() + 300
while True:
    try:
        urllib.request.urlopen(f"{url}/health/liveliness", timeout=5).close()
        break
    except OSError:
        if time.monotonic() > end:
            sys.exit(f"the proxy did not start: {open('log.txt').read()[-2000:]}")
        time.sleep(0.5)


def ask(what, key, model):
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": "hi"}]}).encode()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}/v1/chat/completions", body, headers)) as answer:
            status, said = answer.status, ""
    except urllib.error.HTTPError as error:
        status, said = error.code, json.load(error)["error"]["message"]
    print(f"{what}: {status} {said}")
    return status, said


assert ask("right key", "sk-the-right-key", "parrot") == (200, "")
assert ask("wrong key", "sk-another-key", "parrot") == (400, "No connected db.")
status, said = ask("unknown model", "sk-the-right-key", "gpt-99")
assert status == 400 and "Invalid model name" in said
PY
python3 ask.py "$port"
echo "as described: a wrong key and an unknown model are a bad request each"
