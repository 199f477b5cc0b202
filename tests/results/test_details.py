"""The file of what was said of each image: read as it was written, whole, small, and without torch."""

from __future__ import annotations

import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.metrics import confusion_matrix, recall_score

from tests.results.result_rows import row
from vlmprompt.errors import InputError
from vlmprompt.results.classes import ClassLine, class_lines, class_table, confusion, once, per_class_accuracy
from vlmprompt.results.details import OF_IMAGES, Details, details_file
from vlmprompt.results.reporters import as_markdown

NAMES = ("red fox", "green frog", "blue whale", "nothing")


def said(seed: int = 0, n: int = 40) -> Details:
    """Answers over four classes, of which the last has no images."""
    noise = np.random.default_rng(seed)
    label, prediction = noise.integers(3, size=n), noise.integers(4, size=n)
    probability = {name: noise.random(n) for name in OF_IMAGES if OF_IMAGES[name] == np.float32}
    return Details(
        "classification",
        "folder:photos",
        NAMES,
        "accuracy",
        "test",
        ids=tuple(f"test/Füchse/{i}.png" for i in range(n)),
        label=label,
        prediction=prediction,
        runner_up=noise.integers(-1, 4, size=n),
        **probability,  # type: ignore[arg-type]
    )


def scores() -> Details:
    """Two scores of three images inside and two outside."""
    inside = {"mcm": np.array([0.5, 0.25, 1.0]), "msp": np.array([1.0, 2.0, 3.0])}
    outside = {"mcm": np.array([0.125, 0.0]), "msp": np.array([0.0, -1.0])}
    ids = {"in_ids": ("a", "b", "c"), "out_ids": ("d", "e")}
    return Details(
        "scores", "doodles", NAMES, "ood", "x/mcm", None, inside=inside, outside=outside, companion="o", **ids
    )  # type: ignore[arg-type]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    details = replace(said(), temperature=1.25)
    details.write(tmp_path / "details" / "one.safetensors")
    found = Details.read(tmp_path / "details" / "one.safetensors")
    for name in ("kind", "dataset", "class_names", "suite", "cell", "temperature", "ids", "companion"):
        assert getattr(found, name) == getattr(details, name)
    for name, kept in OF_IMAGES.items():
        assert getattr(found, name).dtype == kept
        assert getattr(found, name).tolist() == getattr(details, name).astype(kept).tolist()
    assert len(found) == 40 and found.correct.tolist() == (details.label == details.prediction).tolist()
    assert [file.name for file in (tmp_path / "details").iterdir()] == ["one.safetensors"]


def test_scores_are_read_as_they_were_written(tmp_path: Path) -> None:
    scores().write(tmp_path / "s.safetensors")
    found = Details.read(tmp_path / "s.safetensors")
    assert (found.kind, found.companion, len(found)) == ("scores", "o", 5)
    assert {name: values.tolist() for name, values in found.inside.items()} == {
        "mcm": [0.5, 0.25, 1.0],
        "msp": [1.0, 2.0, 3.0],
    }
    assert {name: values.tolist() for name, values in found.outside.items()} == {
        "mcm": [0.125, 0.0],
        "msp": [0.0, -1.0],
    }
    assert (found.in_ids, found.out_ids, len(found.label)) == (("a", "b", "c"), ("d", "e"), 0)
    assert load_file(tmp_path / "s.safetensors").keys() == {
        "in/mcm",
        "in/msp",
        "out/mcm",
        "out/msp",
        "in_ids",
        "out_ids",
    }


def test_equal_content_gives_equal_bytes() -> None:
    assert len({said().bytes() for _ in range(8)}) == 1
    assert said(1).bytes() != said().bytes()


def test_fifty_thousand_images_take_less_than_three_megabytes() -> None:
    """Numbers are noise, which nothing makes smaller; the ids are as long as ImageNet's."""
    n, noise = 50_000, np.random.default_rng(0)
    ids = tuple(f"images/val/n{noise.integers(10**8):08}/ILSVRC2012_val_{i:08}.JPEG" for i in range(n))
    parts = {name: (noise.random(n) * 1000).astype(kept) for name, kept in OF_IMAGES.items()}
    names = tuple(f"class {i}" for i in range(1000))
    assert len(Details("classification", "coop:imagenet", names, ids=ids, **parts).bytes()) < 3e6


def test_the_reader_and_the_metrics_need_no_torch() -> None:
    modules = "vlmprompt.results.details, vlmprompt.results.calibration, vlmprompt.results.classes"
    check = f"import sys, {modules}, vlmprompt.predict.conformal\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def _longer(arrays: dict[str, np.ndarray]) -> None:
    arrays["confidence"] = np.zeros(41, dtype=np.float32)


def _unknown_class(arrays: dict[str, np.ndarray]) -> None:
    arrays["prediction"][3] = 4


def _other_ids(arrays: dict[str, np.ndarray]) -> None:
    arrays["ids"] = np.frombuffer(zlib.compress(b'{"a": 1}'), dtype=np.uint8)


def _torn_ids(arrays: dict[str, np.ndarray]) -> None:
    arrays["ids"] = arrays["ids"][:-9]


def _without(arrays: dict[str, np.ndarray]) -> None:
    del arrays["label"]


@pytest.mark.parametrize("damage", [_longer, _unknown_class, _other_ids, _torn_ids, _without])
def test_what_does_not_fit_together_is_refused(tmp_path: Path, damage: object) -> None:
    file = tmp_path / "one.safetensors"
    said().write(file)
    header = file.read_bytes()[8:].split(b'"vlmprompt":', 1)[1]
    text = header[: header.index(b'"}')].decode().removeprefix('"').replace('\\"', '"')
    arrays = {name: array.copy() for name, array in load_file(file).items()}
    save_file(arrays, file, {"vlmprompt": text})
    assert len(Details.read(file)) == 40  # taken apart and put together again it is what it was
    assert callable(damage)
    damage(arrays)
    save_file(arrays, file, {"vlmprompt": text})
    with pytest.raises(InputError, match=r"one\.safetensors is damaged") as found:
        Details.read(file)
    assert "--force" in str(found.value.hint)


@pytest.mark.parametrize("content", [b"", b"abc", b"\xff" * 64])
def test_what_is_no_such_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "one.safetensors"
    with pytest.raises(InputError, match="there are no details"):
        Details.read(file)
    file.write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        Details.read(file)
    save_file({"a": np.zeros(3)}, file)
    with pytest.raises(InputError, match="is damaged"):
        Details.read(file)


def test_a_key_that_is_no_digest_names_no_file(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    assert details_file(results, "a" * 64) == tmp_path / "details" / f"{'a' * 64}.safetensors"
    assert [details_file(results, key) for key in ("", "../" * 21 + "a", "A" * 64, "a" * 65)] == [None] * 4


def test_confusion_and_accuracy_by_class() -> None:
    details = said()
    assert (confusion(details) == confusion_matrix(details.label, details.prediction, labels=range(4))).all()
    accuracy = per_class_accuracy(details)
    expected = recall_score(details.label, details.prediction, labels=range(3), average=None)
    assert accuracy[:3].tolist() == pytest.approx(expected.tolist()) and np.isnan(accuracy[3])


def by_hand() -> Details:
    """Foxes: two of three right; frogs: none of three, twice a whale; whales: all right."""
    label, prediction = [0, 0, 0, 1, 1, 1, 2], [0, 0, 3, 2, 0, 2, 2]
    return replace(said(n=7), label=np.array(label), prediction=np.array(prediction))


def test_classes_by_hand_the_worst_first() -> None:
    assert class_lines(by_hand()) == [
        ClassLine("green frog", 3, 0, "blue whale", 2),
        ClassLine("red fox", 3, 2, "nothing", 1),
        ClassLine("blue whale", 1, 1),
    ]
    text = as_markdown(class_table(row(cell="test"), by_hand()))
    assert "| green frog | 3 | 0.00 | blue whale (2) |" in text and "| blue whale | 1 | 100.00 | – |" in text
    assert "1 classes without images" not in text and "1 class without images is left out" in text


def test_what_two_suites_say_alike_is_shown_once() -> None:
    details, other = by_hand(), replace(by_hand(), ids=tuple("abcdefg"))
    few, own = row(suite="few-shot", cell="16-shot"), row(suite="accuracy", cell="test")
    domain, beside = row(suite="domain-generalization", cell="paint"), row(method="zeroshot")
    found = once([(few, details), (own, details), (domain, other), (beside, details)])
    assert [(r.suite, r.method) for r, _ in found] == [
        ("accuracy", "coop"),
        ("accuracy", "zeroshot"),
        ("domain-generalization", "coop"),
    ]
