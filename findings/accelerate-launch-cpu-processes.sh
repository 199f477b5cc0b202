#!/usr/bin/env bash
# What: `accelerate launch --cpu --num_processes 2 script.py` starts one process, without a word, with all values given
#       on the command line. The number counts there only with --mpirun_hostfile, which it does not ask
#       for. `torchrun --nproc_per_node 2` starts the two that the same script then finds.
# Why it matters: whoever tries a data-parallel run on a CPU before a GPU is rented tests nothing, and the run takes
#       as long, and sees as many images a step, as one process does.
# Seen with: accelerate 1.15.0, torch 2.13.0, Python 3.11; 2026-11-29.
# Output seen: accelerate launch --cpu --num_processes 2: world of 1
#              torchrun --nproc_per_node 2: world of 2
#       The script fails if that changes.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 accelerate==1.15.0 numpy==2.4.6

cat > "$work/world.py" <<'PY'
from accelerate import Accelerator

accelerator = Accelerator(cpu=True)
if accelerator.is_main_process:
    print(accelerator.num_processes)
accelerator.end_training()
PY
export OMP_NUM_THREADS=1 HF_HOME="$work" # no configuration of accelerate's own
launched=$("$work/env/bin/accelerate" launch --cpu --num_processes 2 --num_machines 1 --mixed_precision no \
    --dynamo_backend no "$work/world.py" 2> "$work/said")
started=$("$work/env/bin/torchrun" --nproc_per_node 2 "$work/world.py" 2> /dev/null)
echo "accelerate launch --cpu --num_processes 2: world of $launched"
echo "torchrun --nproc_per_node 2: world of $started"
[ "$launched" = 1 ] && [ "$started" = 2 ]
if [ -s "$work/said" ]; then
    echo "it has something to say now:" >&2
    cat "$work/said" >&2
    exit 1
fi
echo "as described: one process in silence"
