"""How many images a data set has of each class, and where its split comes from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from vlmprompt.data.records import Dataset


def per_class(dataset: Dataset) -> list[dict[str, Any]]:
    """For each class in label order its name, and its number of images in each split."""
    counts = _counts(dataset)
    return [
        {"class": name, **{split: found[label] for split, found in counts.items()}}
        for label, name in enumerate(dataset.class_names)
    ]


def imbalance(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """For each split its smallest and its largest class, by name and number, and how many times larger that is.

    `ratio` is None where a class has no images.
    """
    found = {}
    for split, counts in _counts(dataset).items():
        labels = range(len(dataset.class_names))
        small, large = min(labels, key=lambda label: counts[label]), max(labels, key=lambda label: counts[label])
        found[split] = {
            "smallest": dataset.class_names[small],
            "fewest": counts[small],
            "largest": dataset.class_names[large],
            "most": counts[large],
            "ratio": counts[large] / counts[small] if counts[small] else None,
        }
    return found


def split_origin(dataset: Dataset) -> str:
    """Where the split is from, in words."""
    note = dataset.notes.get("split")
    if not isinstance(note, Mapping):
        folders = dataset.notes.get("folders")
        where = [f"{split} in {folder}" for split, folder in folders.items()] if isinstance(folders, Mapping) else []
        return f"its own: {', '.join(where)}" if where else "its own"
    if "seed" in note:
        return f"drawn by seed {note['seed']}: {note.get('rule', 'no rule is recorded')}"
    if note.get("verified") == "accepted":
        return "not the published one, accepted"
    return "as published"


def _counts(dataset: Dataset) -> dict[str, Counter[int]]:
    return {split: Counter(record.label for record in records) for split, records in dataset.splits.items()}
