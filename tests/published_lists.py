"""Compare what the reader and the few-shot sampler give with published k-shot lists, element by element.

    python tests/published_lists.py DIR

DIR holds CoOp's split files, in `splits/` or in a folder there for each data set
(`splits/split_zhou_<Name>.json`, `splits/fgvc_aircraft/variants.txt`, ...), and
`fewshot_indices/<data set>/shot_<k>-seed_<s>.json`, the subsets that others drew from them by CoOp's procedure:
{"train": [[path, label, class name], ...], "val": ...}, paths with any one prefix. Exits with 1 on any difference,
and where there is nothing to compare.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from vlmprompt.data.fewshot import sample
from vlmprompt.data.load import load_dataset
from vlmprompt.data.records import Dataset, Record

# What the folders of lists are called, where it is not the data set's name.
NAMES = {"oxford_flowers": "flowers102"}


def read_split(folder: Path, name: str) -> Dataset:
    """A published split as a data set; the images need not be there. Any split is read, its notes say which."""
    spec = f"coop:{NAMES.get(name, name)}"
    return load_dataset(spec, root=folder / "splits", accept_split=True, need_images=False)


def difference(drawn: tuple[Record, ...], published: list[list[object]], names: tuple[str, ...]) -> str:
    """Where two lists differ first; empty if they are equal."""
    if len(drawn) != len(published):
        return f"{len(drawn)} drawn, {len(published)} published"
    prefixes = set()
    for i, (record, (path, label, name)) in enumerate(zip(drawn, published, strict=True)):
        text = str(path)
        if not text.endswith(record.id) or (record.label, names[record.label]) != (label, name):
            return f"element {i}: drawn {record.id} ({record.label}), published {text} ({label})"
        prefixes.add(text.removesuffix(record.id))
    return "" if len(prefixes) <= 1 else f"paths have several prefixes: {sorted(prefixes)}"


def compare(file: Path, dataset: Dataset) -> tuple[int, int, int, int, str]:
    """Shots, seed, number of train and val elements, and the first difference."""
    match = re.fullmatch(r"shot_(\d+)-seed_(\d+)", file.stem)
    assert match, f"unexpected file name {file}"
    shots, seed = int(match[1]), int(match[2])
    published = json.loads(file.read_text(encoding="utf-8"))
    drawn = sample(dataset, shots, seed, allow_fewer=True)
    parts = {"train": drawn.train, "val": drawn.val}
    found = {part: difference(rows, published[part], dataset.class_names) for part, rows in parts.items()}
    text = "; ".join(f"{part}: {what}" for part, what in found.items() if what)
    return shots, seed, len(drawn.train), len(drawn.val), text


def main(folder: Path) -> int:
    """Print a table, one line a list."""
    print(f"{'data set':<16}{'split':<10}{'k':>4}{'seed':>6}{'train':>7}{'val':>6}  result")
    compared = different = 0
    for lists in sorted(folder.glob("fewshot_indices/*/")):
        dataset = read_split(folder, lists.name)
        verified = dataset.notes["split"]["verified"]  # type: ignore[index]
        rows = sorted(compare(file, dataset) for file in lists.glob("shot_*.json"))
        for shots, seed, n_train, n_val, text in rows:
            print(f"{lists.name:<16}{verified:<10}{shots:>4}{seed:>6}{n_train:>7}{n_val:>6}  {text or 'equal'}")
            different += bool(text)
        compared += len(rows)
    print(f"{compared} lists, {different} differ")
    return int(different > 0 or compared == 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(main(Path(sys.argv[1])))
