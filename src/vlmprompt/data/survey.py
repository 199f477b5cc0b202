"""Benchmarks as they are published, and what is there of them by the looks of it: nothing large is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprompt.data.coop.facts import COPIES, SPLITS_SOURCE, Benchmark, benchmark, benchmarks
from vlmprompt.data.coop.listing import published_split
from vlmprompt.data.coop.place import Place


def survey(root: Path | None) -> list[dict[str, Any]]:
    """Every benchmark, and what is there of it by the looks of it: no image is looked for, no list is read."""
    return [_surveyed(Place.below(root, facts)) for facts in benchmarks().values()]


def _surveyed(place: Place) -> dict[str, Any]:
    facts = place.benchmark
    lacks = _split_state(place)
    base = place.find_images(facts.within) if facts.within else _first_images(place)
    if base is None:
        lacks.append("no images")
    return {
        "name": facts.name,
        "spec": facts.spec,
        "title": facts.title,
        "classes": facts.classes,
        "images": facts.images,
        "template": facts.template,
        "source": facts.source,
        "folders": [str(folder) for folder in place.folders],
        "status": "absent" if not place.folders else "incomplete" if lacks else "there",
        "lacks": lacks,
    }


def _split_state(place: Place) -> list[str]:
    """What is wrong with the files of the split, by the looks of them."""
    facts = place.benchmark
    if facts.lists:
        files = [facts.lists.classes, *facts.lists.splits.values()]
        return [f"no {file}" for file in files if place.find(file) is None]
    if facts.split is None:
        return []
    found = place.find(facts.split.file)
    if found is None:
        return ["no split file"]
    return [] if published_split(facts.split, found) else ["not the published split file"]


def _first_images(place: Place) -> Path | None:
    """The image folder, as far as one can know without reading the split."""
    named = [name for name in place.benchmark.image_folders if name != "."]
    found = [folder / name for folder in place.folders for name in named if (folder / name).is_dir()]
    return found[0] if found else place.folders[0] if place.folders and "." in place.benchmark.image_folders else None


def published_facts(spec: str, protocol: str) -> dict[str, Any] | None:
    """What is known of a benchmark without looking for it; None for any other data set.

    Raises:
        UsageError: there is no benchmark of this name.
    """
    facts = facts_of(spec)
    if facts is None:
        return None
    facts = facts.under(protocol)
    known = {key: getattr(facts, key) for key in ("name", "spec", "title", "classes", "images", "template", "source")}
    if facts.archive:
        known["copy"] = f"{facts.archive} of https://huggingface.co/{COPIES}"
    files = [facts.split.file] if facts.split else list(facts.lists.splits.values()) if facts.lists else []
    known |= {"layout": f"{facts.layout}/", "split_file": ", ".join(files)}
    return known | ({"split_source": SPLITS_SOURCE, "sha256": facts.split.sha256} if facts.split else {})


def facts_of(spec: str) -> Benchmark | None:
    """The benchmark that a spec names; None for any other data set.

    Raises:
        UsageError: there is no benchmark of this name.
    """
    scheme, colon, name = spec.partition(":")
    if scheme == "coop":
        return benchmark(name)
    return benchmarks().get(spec) if not colon else None
