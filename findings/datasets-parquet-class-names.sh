#!/usr/bin/env bash
# What: `load_dataset` reads all parquet files of a data set by the class names that the first file holds, although
#       each file holds names of its own. A file that lists the same classes in another order gets wrong labels.
#       Nothing is said; the files may be of one split or of several.
# Why it matters: files that were made one by one, such as a train and a test file, list their classes in the order of
#       appearance. Accuracy on such a test file is that of a model which confuses the classes: here 0 % for a right one.
# Seen with: datasets 5.2.0, pyarrow 26.0.1, Python 3.11; 2026-11-28.
# Output seen: written as fox, wolf; read as wolf, fox
#       (right is: read as fox, wolf). The script fails if that changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/python -m pip install --quiet datasets==5.2.0 pyarrow==26.0.1
venv/bin/python -m pip freeze | grep -E '^(datasets|pyarrow)=='

cat > show.py <<'PYTHON'
from pathlib import Path

from datasets import ClassLabel, Dataset, Features, Value, load_dataset


def written(file: str, names: list[str], animals: list[str]) -> Dataset:
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    rows = {"text": animals, "label": [names.index(animal) for animal in animals]}
    table = Dataset.from_dict(rows, features=features)
    table.to_parquet(file)
    return table


def spelt(table: Dataset) -> str:
    return ", ".join(table.features["label"].int2str(table["label"][:]))


Path("animals").mkdir()
written("animals/train.parquet", ["wolf", "fox"], ["wolf", "fox"])
test = written("animals/test.parquet", ["fox", "wolf"], ["fox", "wolf"])
print(f"written as {spelt(test)}; read as {spelt(load_dataset('animals')['test'])}")
assert spelt(Dataset.from_parquet("animals/test.parquet")) == spelt(test)  # the file itself says it right
PYTHON
seen=$(HF_HOME="$work/cache" HF_HUB_OFFLINE=1 venv/bin/python show.py 2>show.log) || { cat show.log; exit 1; }
echo "$seen"
test "$seen" = "written as fox, wolf; read as wolf, fox"
