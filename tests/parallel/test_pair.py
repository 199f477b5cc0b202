"""Two processes of one run give what one gives: prompts, logs, rows of an evaluation."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.describe.material import NAMES, write_descriptions
from tests.parallel import pair
from tests.training.material import Breaking, Hooked, config, log_lines, make_photos, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import Interrupted
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.run import train

SAME = 1e-6  # of a state after some steps in fp32
EXACT = 1e-12  # in float64


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes, 5 train and 2 test images each; beside them descriptions."""
    folder = tmp_path_factory.mktemp("data")
    write_descriptions(folder / "descriptions.jsonl", sorted(NAMES))
    return make_photos(folder / "photos", splits={"train": 5, "test": 2})


@pytest.fixture(scope="module")
def folder(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left; the same by one, below "one"."""
    place = tmp_path_factory.mktemp("pair")
    with pytest.raises(Interrupted):
        _train(pair.settings(photos, "gallop"), place / "begun", tiny_backbone, Hooked(_stop_after(1)))
    _train(config(photos, eval_batch_size=3), place / "measured", tiny_backbone)
    shutil.copytree(place / "measured", place / "one" / "measured")
    both = pair.start(place, photos)
    for name in pair.TRAINED:
        _train(pair.settings(photos, name), place / "one" / name, tiny_backbone)
    for process in both:
        _, errors = process.communicate()
        assert process.returncode == 0, errors
    return place


def _train(settings: Any, out: Path, backbone: Backbone, progress: Hooked | None = None, resume: bool = False) -> Path:
    return train(settings, runtime(out.parent), out=out, resume=resume, progress=progress, backbone=backbone).run


def _stop_after(last: int) -> Any:
    def hook(step: int) -> None:
        if step == last:
            os.kill(os.getpid(), signal.SIGINT)

    return hook


def told(folder: Path, name: str) -> list[Any]:
    """What each process has found."""
    return [json.loads((folder / f"{name}-{rank}.json").read_text()) for rank in range(2)]


def require_near(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], most: float = SAME) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert float((found[name] - tensor).abs().max()) <= most, name


def numbers(line: Mapping[str, Any]) -> dict[str, float | None]:
    """What a line of a log says, flat."""
    flat: dict[str, float | None] = {}
    for name, value in line.items():
        flat |= {f"{name}.{key}": own for key, own in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def require_same_log(run: Path, other: Path) -> None:
    for found, expected in zip(log_lines(run), log_lines(other), strict=True):
        assert numbers(found) == pytest.approx(numbers(expected), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("name", pair.TEXTS)
def test_text_in_shares_of_the_classes_has_the_values_and_gradients_of_the_whole(folder: Path, name: str) -> None:
    method = pair.text_method(name)
    expected = pair.text_of(method, pair.weights(method))
    first, second = (load_file(folder / f"text-{name}-{rank}.safetensors") for rank in range(2))
    assert torch.equal(first["features"], second.pop("features"))
    require_near({key: own + second.get(key, 0) for key, own in first.items()}, expected, EXACT)


def test_gradients_that_two_processes_compare_are_those_of_the_whole_batch(folder: Path) -> None:
    two, one = ([line.get("gradients") for line in log_lines(place / "dual_pt")] for place in (folder, folder / "one"))
    (first, *_), (expected, *_) = two, one
    assert set(expected) == {"ce.norm", "llm.norm", "llm.ratio"} and min(expected.values()) > 0
    assert first == pytest.approx(expected, rel=1e-5)
    assert [own is None for own in two] == [own is None for own in one] and None in one


@pytest.mark.parametrize("name", pair.TRAINED)
def test_a_run_of_two_processes_ends_like_that_of_one(folder: Path, name: str) -> None:
    two, one = (Checkpoint.load(place / name / "checkpoint.safetensors") for place in (folder, folder / "one"))
    require_near(two.state, one.state)
    require_near(two.optimizer, one.optimizer, 1e-5)
    assert torch.equal(two.rng["method"], one.rng["method"])
    require_same_log(folder / name, folder / "one" / name)


def test_what_is_divided_is_said(folder: Path) -> None:
    first, second = told(folder, "train")
    both = "2 processes divide the images of each batch and the text of the classes"
    assert {name for name, said in first.items() if both in said} == {"gallop", "bloom", "coop", "dual_pt"}
    assert "2 processes divide the text of the classes" in first["plot"]
    assert any("plot" in text and "does not divide a batch" in text for text in first["plot"])
    assert second == {name: [] for name in first}


def test_processes_that_were_given_other_settings_are_refused(folder: Path) -> None:
    assert told(folder, "differ") == ["process 2 of 2 has other settings than the first (give the same)"] * 2


def test_a_run_of_one_process_goes_on_in_two(folder: Path) -> None:
    two, one = (Checkpoint.load(folder / path / "checkpoint.safetensors") for path in ("begun", "one/gallop"))
    require_near(two.state, one.state)
    require_same_log(folder / "begun", folder / "one" / "gallop")


def test_a_signal_to_one_stops_both_and_one_goes_on_alone(
    folder: Path, photos: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    first, second = told(folder, "stop")
    assert first[-1].startswith("stopped after step 3 of 9; the state is in") and len(second) == 1
    run = folder / "stopped"
    assert load_run_info(run)["status"] == "interrupted" and len(log_lines(run)) == 3  # saved once, by one
    with registered("breaking", Breaking):
        settings = config(photos, method="breaking", lr=0.005)
        whole = _train(settings, tmp_path / "whole", tiny_backbone)
        _train(settings, run, tiny_backbone, resume=True)
    two, one = (Checkpoint.load(place / "checkpoint.safetensors") for place in (run, whole))
    require_near(two.state, one.state)
    require_same_log(run, whole)


def test_an_evaluation_in_two_processes_gives_the_same_rows(folder: Path, tiny_backbone: Backbone) -> None:
    one = folder / "one" / "measured"
    evaluate(one, "accuracy", runtime(folder / "one"), backbone=tiny_backbone)
    found, expected = (rows(place / "results.jsonl") for place in (folder / "measured", one))
    assert found == expected
    assert told(folder, "evaluate") == [len(expected), 0]


def test_an_error_of_one_ends_both_and_the_first_says_whose_it_is(folder: Path) -> None:
    (kind, words), (own_kind, own) = told(folder, "fail")
    assert own_kind == "InputError" and own.startswith("cannot read ")
    assert (kind, words) == ("PeerError", f"process 2 of 2: {own}")
    assert load_run_info(folder / "failed")["status"] == "failed"
    assert not list(folder.glob("*-rescued*"))


def rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def load_run_info(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "run.json").read_text())
    return found
