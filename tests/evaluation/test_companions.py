"""Suites on several data sets: domains of the same classes, targets with others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.evaluation.material import accuracies, patches
from tests.evaluation.test_context import make_bank, make_context
from tests.training.material import CLASSES, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.metrics import top1
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.suites.cross_dataset import CrossDatasetSuite
from vlmprompt.evaluation.suites.domain_generalization import DomainGeneralizationSuite, shared_labels
from vlmprompt.evaluation.suites.ood import OodSuite
from vlmprompt.results.rows import ResultRow
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos; two domains, one of them with two of the classes in another order of labels; one other data set."""
    folder = tmp_path_factory.mktemp("world")
    make_photos(folder / "photos", splits={"train": 4, "test": 3})
    make_photos(folder / "prints", splits={"test": 2}, seed=1)
    make_photos(folder / "scans", splits={"test": 5}, classes=(CLASSES[3], CLASSES[1]), seed=2)
    make_photos(folder / "tools", splits={"test": 4}, classes=("hammer", "saw", "drill"), seed=3)
    return folder


@pytest.fixture(scope="module")
def run(world: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(world / "photos"), runtime(tmp_path_factory.mktemp("runs")), backbone=tiny_backbone).run


def measure(
    run: Path, backbone: Backbone, suite: str, companions: Mapping[str, Sequence[str]], *, reference: bool = False
) -> list[ResultRow]:
    return evaluate(run, suite, runtime(run.parent), backbone=backbone, reference=reference, companions=companions)


def test_domains_and_their_mean(run: Path, world: Path, tiny_backbone: Backbone) -> None:
    domains = [f"folder:{world / name}" for name in ("prints", "scans")]
    rows = measure(run, tiny_backbone, "domain-generalization", {"domains": domains}, reference=True)
    by_method = {m: {r.cell: r for r in rows if r.method == m} for m in ("coop", "zeroshot", "linear_probe")}
    for cells in by_method.values():
        assert list(cells) == ["source", "prints", "scans", "mean"]
        assert [cells[name].n for name in cells] == [12, 8, 10, 18]
        assert cells["mean"].value == pytest.approx((cells["prints"].value + cells["scans"].value) / 2)
        assert "2 classes" in cells["scans"].note and "2 classes" not in cells["prints"].note


def test_a_domain_with_some_classes_restricts_the_classifier_to_them(
    run: Path, world: Path, tiny_backbone: Backbone
) -> None:
    """By hand: logits over all four classes, the columns of the two that are there, labels in their order."""
    spec = f"folder:{world / 'scans'}"
    method = load_run(run).build_method(tiny_backbone)
    context = make_context(load_run(run).load_dataset(), make_bank(tiny_backbone), method)
    scans = context.companion(spec)
    assert scans.class_names == ("green frog", "grey wolf") and method.class_names.index("grey wolf") != 1
    logits = context.predict(method, scans)
    columns = [method.class_names.index(name) for name in scans.class_names]
    expected = top1(logits.logits_BK[:, columns], logits.labels_B)
    measured = measure(run, tiny_backbone, "domain-generalization", {"domains": [spec]})
    rows = {r.cell: r for r in accuracies(measured)}
    assert rows["scans"].value == expected


def test_targets_have_their_own_classes(run: Path, world: Path, tiny_backbone: Backbone) -> None:
    targets = {"targets": [f"folder:{world / 'tools'}", f"folder:{world / 'prints'}"]}
    rows = measure(run, tiny_backbone, "cross-dataset", targets, reference=True)
    ours = {r.cell: r for r in rows if r.method == "coop"}
    assert [(cell, row.n, row.status) for cell, row in ours.items()] == [
        ("tools", 12, "ok"),
        ("prints", 8, "ok"),
        ("mean", 20, "ok"),
    ]
    probe = [r for r in rows if r.method == "linear_probe"]
    assert {r.status for r in probe} == {"not_applicable"} and "cannot serve classes" in probe[0].note


def test_prompts_meet_the_names_of_the_target(run: Path, world: Path, tiny_backbone: Backbone) -> None:
    spec = f"folder:{world / 'tools'}"
    method = load_run(run).build_method(tiny_backbone)
    context = make_context(load_run(run).load_dataset(), make_bank(tiny_backbone), method)
    tools = context.companion(spec)
    other = method.with_classes(tools.class_names)
    predictions = context.predict(other, tools)
    measured = measure(run, tiny_backbone, "cross-dataset", {"targets": [spec]})
    rows = {r.cell: r for r in accuracies(measured)}
    assert rows["tools"].value == top1(predictions.logits_BK, predictions.labels_B)


@pytest.mark.parametrize(
    ("suite", "kind", "flag", "metrics"),
    [("domain-generalization", "domains", "--domain", 2), ("cross-dataset", "targets", "--target", 1)],
)
def test_without_companions_and_with_one_that_is_missing(
    suite: str, kind: str, flag: str, metrics: int, run: Path, world: Path, tiny_backbone: Backbone
) -> None:
    none = accuracies(measure(run, tiny_backbone, suite, {}))
    assert len(none) == metrics and none[-1].status == "missing" and f"{flag} SPEC" in none[-1].note
    specs = [f"folder:{world / name}" for name in ("prints", "nowhere")]
    rows = {r.cell: r for r in accuracies(measure(run, tiny_backbone, suite, {kind: specs}))}
    assert rows["prints"].status == "ok"
    missing = rows[specs[1]]
    assert missing.status == "failed" and "nowhere" in missing.note
    assert rows["mean"].status == "failed"


def test_what_was_measured_is_not_measured_again_and_other_data_are(
    run: Path, world: Path, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = f"folder:{world / 'tools'}"
    first = measure(run, tiny_backbone, "cross-dataset", {"targets": [spec]})
    forbidden: Callable[..., None] = lambda *a, **k: pytest.fail("measured again")  # noqa: E731
    with monkeypatch.context() as patched:
        patched.setattr(Context, "predict", forbidden)
        assert measure(run, tiny_backbone, "cross-dataset", {"targets": [spec]}) == first
    other = make_photos(world / "tools2", splits={"test": 1}, classes=("hammer", "saw", "drill"), seed=4)
    assert {r.n for r in measure(run, tiny_backbone, "cross-dataset", {"targets": [f"folder:{other}"]})} == {3}


def test_companions_of_the_data_set_itself(tiny_backbone: Backbone) -> None:
    data = replace(patches(3, 1, []), companions={"domains": ("x:1",), "ood": ("x:2",)})
    bank = make_bank(tiny_backbone)
    assert make_context(data, bank).companions("domains") == ("x:1",)
    given = Context(make_context(data, bank).subject, data, bank, companions={"domains": ["y:1"], "ood": ()})
    assert (given.companions("domains"), given.companions("ood")) == (("y:1",), ("x:2",))
    assert given.companions("targets") == ()


def test_classes_are_matched_by_name(tiny_backbone: Backbone) -> None:
    data = patches(4, 1, [])
    context = make_context(data, make_bank(tiny_backbone))
    some = data.restrict([3, 1], suffix="-some")
    assert shared_labels(context, some) == [0, 1]
    stranger = Dataset("s", "made-up:s", ("thing a", "thing z"), {})
    with pytest.raises(InputError, match="'thing z' of domain made-up:s is none of made-up:patches's"):
        shared_labels(context, stranger)


def test_names_of_suites() -> None:
    assert (DomainGeneralizationSuite.name, CrossDatasetSuite.name) == ("domain-generalization", "cross-dataset")


def test_the_same_images_for_every_suite(tiny_backbone: Backbone, tmp_path: Path) -> None:
    """Of a set of other images all count, for the suite `ood` and for one from outside; of a domain its test split."""
    for split, count in (("train", 7), ("test", 3)):
        for i in range(count):
            file = tmp_path / "others" / split / "dots" / f"{i}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (40, 36), (i, 50, 60)).save(file)
    spec, data = f"folder:{tmp_path / 'others'}", patches(3, 1, [])
    bank = make_bank(tiny_backbone)
    subject = make_context(data, bank).subject
    context = Context(subject, data, bank, companions={"ood": [spec]})
    (msp,) = [cell for cell in OodSuite().cells(context) if cell.name == "others/msp"]
    assert {value.n for value in msp.measure().values} == {3 + 10}
    assert len(context.companion(*context.companions("ood")).split("test")) == 10
    assert len(context.companion(spec, "domains").split("test")) == 3
    domains = Context(subject, data, bank, companions={"domains": [spec]})
    assert len(domains.companion(spec).split("test")) == 3
    assert len(domains.companion(spec, "ood").split("test")) == 10
