#!/usr/bin/env bash
# What: Accelerator.gather_for_metrics cuts every tensor of the last batch to its first r rows, where r is the number
#       of samples that the last round holds, whether or not the rows are samples: sums over classes (a row a class),
#       one loss a process, features laid end to end. It does so in a single process too, where nothing was
#       gathered and nothing was added to the batch. Nothing is said.
# Why it matters: a confusion matrix or an accuracy by class that is summed up batch by batch loses images of the last
#       one, and of them only those of classes with a high number. Gather a row a sample, and sum afterwards.
# Seen with: accelerate 1.15.0, torch 2.13.0 (gloo, two processes), Python 3.11; 2026-11-29.
# Output seen: 1 process, a row a class: images by class [3, 3, 2]; a row an image: [3, 3, 3]
#              2 processes, a row a class: images by class [4, 3, 2]; a row an image: [3, 3, 3]
#       (With two, an image that fills up the last round is counted, and the real one is not.)
#       The script fails if that changes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy==2.4.6

cat > "$work/count.py" <<'PY'
import torch
from accelerate import Accelerator
from torch.nn.functional import one_hot
from torch.utils.data import DataLoader

CLASSES = 3
accelerator = Accelerator(cpu=True)
loader = accelerator.prepare(DataLoader(torch.arange(9), batch_size=2))
sums, rows = torch.zeros(CLASSES, dtype=torch.long), torch.zeros(CLASSES, dtype=torch.long)
for image in loader:  # image i is of class i % 3
    hot = one_hot(image % CLASSES, CLASSES)
    by_process = accelerator.gather_for_metrics(hot.sum(dim=0))
    padded = torch.nn.functional.pad(by_process, (0, -len(by_process) % CLASSES))
    sums += padded.view(-1, CLASSES).sum(dim=0)
    rows += accelerator.gather_for_metrics(hot).sum(dim=0)
if accelerator.is_main_process:
    world = accelerator.num_processes
    name = "1 process" if world == 1 else f"{world} processes"
    print(f"{name}, a row a class: images by class {sums.tolist()}; a row an image: {rows.tolist()}")
    assert rows.tolist() == [3, 3, 3]
    assert sums.tolist() == ([3, 3, 2] if world == 1 else [4, 3, 2])
accelerator.end_training()
PY
export OMP_NUM_THREADS=1
"$work/env/bin/python" "$work/count.py"
"$work/env/bin/torchrun" --nproc_per_node 2 "$work/count.py" 2> "$work/errors" || { cat "$work/errors" >&2; exit 1; }
echo "as described: sums over classes are wrong for the last batch"
