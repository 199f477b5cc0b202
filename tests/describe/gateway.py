"""Class descriptions asked of a gateway that nobody here wrote: LiteLLM's proxy, whose models give set answers.

    python -m tests.describe.gateway LITELLM

`LITELLM` is the proxy's program; `nox -s gateway` installs it into an environment of its own. Prints what was tried and
what came of it, and fails where that is not what it should be. Nothing leaves the machine.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from vlmprompt.cli.main import main

KEY = "sk-the-key-of-the-gateway"
CLASSES = [f"made-up animal {i}" for i in range(12)]
PATIENCE_S = 300  # for the proxy to start
LIST = "- a bushy tail\n- orange fur"
TEXTS = ["a bushy tail", "orange fur"]
SCHEMA = '{"type": "object", "properties": {"descriptions": {"type": "array", "items": {"type": "string"}}}}'
# Model -> what it answers; the proxy makes errors of those that begin with its name.
MODELS = {
    "plain": LIST,
    "json": '{"descriptions": ["a bushy tail", "orange fur"]}',
    "thinks": f"Okay, the user wants features.</think>\n{LIST}",
    "channels": f"<|channel|>analysis<|message|>Hm.<|end|><|channel|>final<|message|>{LIST}<|return|>",
    "ends": f"{LIST}<|im_end|>",
    "endless": "<think>Okay, the user wants features",
    "echo": SCHEMA,
    "limited": "litellm.RateLimitError",
    "broken": "litellm.InternalServerError",
    "narrow": "litellm.ContextWindowExceededError",
}


@dataclass(frozen=True)
class Trial:
    """One order, and what should come of it.

    Attributes:
        about: for people.
        code: exit code.
        said: in what is printed.
        most: requests that reach the gateway.
    """

    about: str
    model: str
    code: int
    said: str
    most: int
    key: str = KEY
    path: str = "/v1"


N = len(CLASSES)
FEW = 2 + 3 - 1  # requests until it is seen that all are refused alike: those under way at once, and three in all
TRIALS = [
    Trial("a list", "plain", 0, "", N),
    Trial("JSON by the schema", "json", 0, "", N),
    Trial("thoughts without a beginning", "thinks", 0, "", N),
    Trial("channels", "channels", 0, "", N),
    Trial("a mark of an end", "ends", 0, "", N),
    Trial("an address with a query", "plain", 0, "", N, path="/v1?api-version=2026-01-01"),
    Trial("thoughts without an end", "endless", 5, "its thoughts have no end", 2 * N),
    Trial("the schema in place of an answer", "echo", 5, "it repeats the schema", 2 * N),
    Trial("a rate limit", "limited", 5, "limits the rate", 2 * N),
    Trial("a broken server", "broken", 5, "answers 500", 2 * N),
    Trial("questions that are too long", "narrow", 3, "context window", FEW),
    Trial("a wrong key", "plain", 3, "No connected db.", FEW, key="sk-another-key-altogether"),
    Trial("an unknown model", "gpt-99", 3, "Invalid model name", FEW),
    Trial("a wrong path", "plain", 3, "knows no chat completions", 2, path="/nothing"),
]


def run(program: str) -> int:
    """Try everything; gives the number of failures."""
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "animals.txt").write_text("\n".join(CLASSES), encoding="utf-8")
        with gateway(program, folder) as (url, log):
            for i, trial in enumerate(TRIALS):
                before = log.read_text(encoding="utf-8").count("POST ")
                code, printed, texts = ask(trial, url, folder / str(i))
                requests = log.read_text(encoding="utf-8").count("POST ") - before
                good = code == trial.code and trial.said in printed and requests <= trial.most
                good = good and KEY not in printed and (code != 0 or texts == [TEXTS] * N)
                failures += not good
                verdict = "as it should be" if good else f"WRONG, not {trial.code} with {trial.said!r}\n{printed}"
                print(f"{trial.about:34} exit {code}, {requests:2} requests  {verdict}", flush=True)
    print(f"{len(TRIALS)} tried, {failures} failed")
    return failures


def ask(trial: Trial, url: str, folder: Path) -> tuple[int, str, list[list[str]]]:
    """Exit code, what was printed, and the descriptions by class."""
    os.environ |= {"OPENAI_API_KEY": trial.key, "VLMPROMPT_CACHE_DIR": str(folder / "cache")}
    arguments = ["describe-classes", "--classes", str(folder.parent / "animals.txt"), "--provider", "openai"]
    arguments += ["--base-url", f"{url}{trial.path}", "--model", trial.model, "--out", str(folder / "out")]
    printed = StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        code = main([*arguments, "--concurrency", "2", "--max-retries", "0"])
    found: dict[int, list[str]] = {}
    for path in folder.rglob("*.jsonl"):
        for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            found.setdefault(row["class_index"], []).append(row["text"])
    return code, printed.getvalue(), list(found.values())


@contextmanager
def gateway(program: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """The proxy's address and its log, while it runs."""
    models = [
        {"model_name": name, "litellm_params": {"model": "openai/none", "api_key": "none", "mock_response": answer}}
        for name, answer in MODELS.items()
    ]
    config, log = folder / "config.yaml", folder / "log.txt"
    config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": KEY}}), encoding="utf-8")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    command = [program, "--config", str(config), "--host", "127.0.0.1", "--port", port, "--telemetry", "False"]
    offline = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "NO_COLOR": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env=os.environ | offline, cwd=folder)
        try:
            wait_for(f"http://127.0.0.1:{port}/health/liveliness", process, log)
            yield f"http://127.0.0.1:{port}", log
        finally:
            process.terminate()
            process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the proxy answers."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"the proxy did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    raise SystemExit(1 if run(sys.argv[1]) else 0)
