"""Zero-shot by descriptions in tables: as a run, as a reference, on classes that a run has not seen."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.describe.material import NAMES, PHRASES, write_descriptions
from tests.evaluation.material import accuracies, patches
from tests.evaluation.test_context import make_bank
from tests.training.material import Hooked, config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.images import read_image
from vlmprompt.errors import InputError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.subjects import run_subject
from vlmprompt.methods.build import build_method
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

SORTED = tuple(sorted(NAMES))
OTHER = PHRASES | {"red fox": ["a wet nose"]}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def file(here: Path) -> Path:
    return write_descriptions(here / "prompts_cache/photos/openai--m-1--features.jsonl", SORTED)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / trained.name))


def accuracy(run: Path, backbone: Backbone, **more: object) -> dict[str, ResultRow]:
    rows = evaluate(run, "accuracy", runtime(run.parent), backbone=backbone, **more)  # type: ignore[arg-type]
    return {row.method: row for row in rows if row.metric == "top1"}


def by_hand(run: Path, backbone: Backbone, phrases: dict[str, list[str]], labels: list[int]) -> float:
    """Accuracy on test images of some classes, image by image."""
    data = load_run(run).load_dataset().restrict(labels, suffix="")
    method = build_method(
        "descriptions", backbone, data.class_names, descriptions=[phrases[name] for name in data.class_names]
    )
    transform = backbone.transform(train=False)
    with torch.no_grad():
        guesses = [int(method(transform(read_image(r))[None]).logits.argmax()) for r in data.splits["test"]]
    return sum(g == r.label for g, r in zip(guesses, data.splits["test"], strict=True)) / len(guesses)


def test_a_row_beside_any_run(run: Path, file: Path, tiny_backbone: Backbone) -> None:
    rows = accuracy(run, tiny_backbone)
    assert list(rows) == ["coop", "zeroshot", "descriptions", "linear_probe"]
    row = rows["descriptions"]
    assert (row.status, row.shots, row.seed) == ("ok", None, None)
    assert row.value == by_hand(run, tiny_backbone, PHRASES, [0, 1, 2, 3])
    info = load_run(next((run / "references").glob("descriptions-*"))).info.descriptions
    assert info is not None and info.file == str(file)


def test_no_descriptions_no_row(run: Path, tiny_backbone: Backbone) -> None:
    progress = Hooked()
    assert list(accuracy(run, tiny_backbone, progress=progress)) == ["coop", "zeroshot", "linear_probe"]
    assert progress.warnings == []


def test_an_unclear_choice_costs_only_the_row(run: Path, file: Path, tiny_backbone: Backbone) -> None:
    other = write_descriptions(file.with_name("openai--m-1--list.jsonl"), SORTED, OTHER)
    progress = Hooked()
    assert list(accuracy(run, tiny_backbone, progress=progress)) == ["coop", "zeroshot", "linear_probe"]
    (warning,) = progress.warnings
    assert "no row of descriptions" in warning and "--descriptions" in warning
    rows = accuracy(run, tiny_backbone, descriptions=other)
    assert rows["descriptions"].value == by_hand(run, tiny_backbone, OTHER, [0, 1, 2, 3])
    with pytest.raises(InputError, match="cannot read the descriptions"):
        accuracy(run, tiny_backbone, descriptions=Path("none.jsonl"))


def test_changed_descriptions_are_measured_again(run: Path, file: Path, tiny_backbone: Backbone) -> None:
    first = accuracy(run, tiny_backbone)
    write_descriptions(file, SORTED, OTHER)
    again = accuracy(run, tiny_backbone)
    assert again["descriptions"].key != first["descriptions"].key
    assert again["descriptions"].value == by_hand(run, tiny_backbone, OTHER, [0, 1, 2, 3])
    assert {m: r.key for m, r in again.items() if m != "descriptions"} == {
        m: r.key for m, r in first.items() if m != "descriptions"
    }


def test_as_a_run_on_both_halves_of_the_classes(photos: Path, file: Path, tiny_backbone: Backbone, here: Path) -> None:
    settings = config(photos, method="descriptions", setting="base-to-new")
    folder = train(settings, runtime(here / "runs"), backbone=tiny_backbone).run
    file.unlink()  # the run has its own copy
    rows = evaluate(folder, "base-to-new", runtime(here), backbone=tiny_backbone, reference=False)
    values = {row.cell: row.value for row in accuracies(rows)}
    assert values["base"] == by_hand(folder, tiny_backbone, PHRASES, [0, 1])
    assert values["new"] == by_hand(folder, tiny_backbone, PHRASES, [2, 3])
    # Beside a run that read descriptions the reference reads the same ones.
    taught = accuracy(folder, tiny_backbone, reference=["zeroshot"])
    assert list(taught) == ["descriptions", "zeroshot"]


def test_classes_of_other_data_need_their_own(photos: Path, file: Path, tiny_backbone: Backbone, here: Path) -> None:
    settings = config(photos, method="descriptions")
    run = load_run(train(settings, runtime(here / "runs"), backbone=tiny_backbone).run)
    subject = run_subject(run, Resources(runtime(here), Hooked(), tiny_backbone))
    context = Context(subject, run.load_dataset(), make_bank(tiny_backbone))
    other = patches(2, 1, [])
    with pytest.raises(InputError, match="no descriptions of the classes of 'made-up:patches'"):
        context.method_over(other)
    phrases = {"thing a": ["an edge"], "thing b": ["a corner"]}
    path = write_descriptions(here / "prompts_cache/patches/a--b--c.jsonl", other.class_names, phrases)
    assert context.method_over(other).descriptions == (("an edge",), ("a corner",))
    write_descriptions(path, other.class_names, {"thing a": ["an edge"]})
    with pytest.raises(InputError, match="does not describe 1 of 2 classes: 'thing b'"):
        context.method_over(other)
    given = replace(other, descriptions=(("a line",), ("a dot",)))
    assert context.method_over(given).descriptions == given.descriptions
