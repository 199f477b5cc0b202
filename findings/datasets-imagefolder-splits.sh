#!/usr/bin/env bash
# What: `load_dataset("imagefolder")` puts test images into the training set when the folder of a class has the word
#       of a split in its name ("train_station", "bullet train"), and lists training images twice. Nothing is said.
# Why it matters: a model is trained on the images that it is tested on, and the numbers look good. The library looks
#       for such words in every folder of a path, not only in the outermost, and a file may fit several splits.
# Related: huggingface/datasets issues 5021 and 7201, on words of splits in the names of files.
# Seen with: datasets 5.2.0, pyarrow 26.0.1, pillow 13.0.0, Python 3.11; 2026-11-28.
# Output seen: train: 12 rows; 4 files of train/, 4 of them twice; 4 files of test/
#       (right is: 4 rows; 4 files of train/, none twice; none of test/). The script fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1 pillow==13.0.0
venv/bin/python -m pip freeze | grep -E '^(datasets|pyarrow|pillow)=='

cat > show.py <<'PYTHON'
from collections import Counter
from pathlib import Path

import datasets
from PIL import Image

photos = Path("photos").resolve()
for split in ("train", "test"):
    for name in ("train_station", "bullet train"):
        (photos / split / name).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8), (40 * i, 90, 160)).save(photos / split / name / f"{i}.png")

table = datasets.load_dataset("imagefolder", data_dir=str(photos))["train"]
cells = table.cast_column("image", datasets.Image(decode=False))["image"][:]
times = Counter(str(Path(cell["path"]).relative_to(photos)) for cell in cells)
own = [n for path, n in times.items() if path.startswith("train/")]
print(
    f"train: {len(cells)} rows; {len(own)} files of train/, {sum(n > 1 for n in own)} of them twice;"
    f" {len(times) - len(own)} files of test/"
)
PYTHON
seen=$(HF_HOME="$work/cache" HF_HUB_OFFLINE=1 venv/bin/python show.py 2>show.log) || { cat show.log; exit 1; }
echo "$seen"
test "$seen" = "train: 12 rows; 4 files of train/, 4 of them twice; 4 files of test/"
