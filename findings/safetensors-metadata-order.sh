#!/usr/bin/env bash
# What: safetensors writes the entries of a file's metadata in an order that it draws anew for each file. The same tensors
#       saved with the same metadata, in one process, give other bytes each time. With one entry they are the same.
# Why it matters: the digest of a checkpoint is used to tell whether two trainings ended alike, or whether a file is
#       the one that a number came from. With two entries of metadata it tells nothing, and a test that saves once passes.
# Seen with: safetensors 0.8.0, numpy 2.4.6, Python 3.11; 2026-11-29.
# Output seen: 12 entries, 50 saves: 50 different files
#              1 entry, 50 saves: 1 file
#       (How many of the 50 differ varies; the script fails if all are the same.)
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q safetensors==0.8.0 numpy==2.4.6

cat > "$work/save.py" <<'PY'
import numpy as np
from safetensors.numpy import save

TENSORS = {"weight": np.arange(6, dtype=np.float32)}


def files(entries):
    metadata = {f"key{i}": str(i) for i in range(entries)}
    return {save(TENSORS, metadata=dict(metadata)) for _ in range(50)}


many, one = files(12), files(1)
print(f"12 entries, 50 saves: {len(many)} different files")
print(f"1 entry, 50 saves: {len(one)} file")
assert len(many) > 1
assert len(one) == 1
PY
"$work/env/bin/python" "$work/save.py"
echo "as described: equal contents, other bytes"
