"""Training from Python is the command: the same runs, the same refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.training.material import Hooked
from vlmprompt.api import Backbone, Run, Runtime, UsageError, evaluate, load_dataset, train
from vlmprompt.cli.main import main
from vlmprompt.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:the run ends at the rate")  # of two epochs

QUICK: dict[str, Any] = {"epochs": 2, "batch_size": 4, "lr": 0.02, "warmup_epochs": 0}
FLAGS = ["--epochs", "2", "--batch-size", "4", "--lr", "0.02", "--shots", "3", "--seed", "4"]
FLAGS += ["--set", "n_ctx=2", "--set", "warmup_epochs=0"]


@pytest.fixture
def here(tmp_path: Path) -> Runtime:
    return Runtime(device="cpu", workers=0, runs_dir=tmp_path / "runs")


def small(photos: Path, backbone: Backbone, where: Runtime, **changes: Any) -> Run:
    settings = {"shots": 3, "seed": 4, "options": {"n_ctx": 2}, "runtime": where} | QUICK | changes
    return train("coop", f"folder:{photos}", backbone, **settings)


@pytest.mark.usefixtures("tiny_spec")
def test_the_same_run_as_the_command(photos: Path, tiny_backbone: Backbone, here: Runtime, tmp_path: Path) -> None:
    run = small(photos, tiny_backbone, here)
    what = ["--method", "coop", "--data", f"folder:{photos}", "--backbone", "tiny-vit"]
    where = ["--device", "cpu", "--workers", "0", "--out", str(tmp_path / "by command")]
    assert main(["train", *what, *FLAGS, *where]) == 0
    name = "checkpoint.safetensors"
    assert (run.path / name).read_bytes() == (tmp_path / "by command" / name).read_bytes()
    assert run.path == here.runs_dir / "coop-photos-tiny-vit-3shot-seed4"
    sources = run.info.sources
    assert (sources["train.lr"], sources["options.n_ctx"]) == ("argument lr", "argument n_ctx")
    assert sources["train.momentum"] == "default"


def test_what_comes_back_can_be_used(photos: Path, tiny_backbone: Backbone, here: Runtime) -> None:
    run = small(photos, tiny_backbone, here, epochs=1)
    test = load_dataset(f"folder:{photos}").split("test")
    found = run.classifier(tiny_backbone)(test)
    assert found.class_names == run.class_names
    accuracy = sum(a == record.label for a, record in zip(found.labels_B.tolist(), test, strict=True)) / len(test)
    rows = evaluate(run, "accuracy", here, reference=False, backbone=tiny_backbone)
    assert rows[0].value == pytest.approx(accuracy)


def test_repeated_resumed_replaced(photos: Path, tiny_backbone: Backbone, here: Runtime, tmp_path: Path) -> None:
    class Stop(BaseException):
        pass

    def stop(step: int) -> None:
        if step == 2:
            raise Stop

    out = tmp_path / "mine"
    with pytest.raises(Stop):
        small(photos, tiny_backbone, here, out=out, progress=Hooked(stop))
    with pytest.raises(InputError, match="holds an unfinished run"):
        small(photos, tiny_backbone, here, out=out)
    with pytest.raises(InputError, match=r"another configuration: train.lr \(0.02 -> 0.5\)"):
        train(out=out, resume=True, lr=0.5, runtime=here, backbone=tiny_backbone)
    run = train(out=str(out), resume=True, runtime=here, backbone=tiny_backbone)
    assert run.info.status == "finished" and run.info.sources["train.lr"] == "argument lr"
    whole = small(photos, tiny_backbone, here)
    assert run.digest == whole.digest
    finished = whole.info.finished
    assert small(photos, tiny_backbone, here).info.finished == finished  # as it is
    assert small(photos, tiny_backbone, here, out=out, force=True, seed=9).config.seed == 9


def test_all_images_and_files(photos: Path, tiny_backbone: Backbone, here: Runtime, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_text("whale\nfrog\nwolf\nfox\n")
    toml = tmp_path / "run.toml"
    toml.write_text("[train]\nmax_steps = 1\n")
    run = small(photos, tiny_backbone, here, shots="all", class_names=names, config=toml)
    assert run.config.shots is None and run.info.steps == 1
    assert run.class_names == ("whale", "frog", "wolf", "fox")


def test_warnings_are_pythons(photos: Path, tiny_backbone: Backbone, here: Runtime) -> None:
    with pytest.warns(UserWarning, match="method 'zeroshot' has no training loop: max_steps has no effect"):
        train("zeroshot", f"folder:{photos}", tiny_backbone, max_steps=3, runtime=here)


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"learning_rate": 1}, "there is no setting 'learning_rate'", "options={'learning_rate': ...}"),
        ({"epoch": 1}, "there is no setting 'epoch'", "did you mean 'epochs'?"),
        ({"device": "cpu"}, "'device' is where a run is made", "runtime=Runtime(device=...)"),
        ({"lr": -1.0}, r"train.lr = -1.0 \(argument lr\) is not allowed", "peak learning rate"),
        ({"shots": "many"}, r"shots = many \(argument shots\) is not allowed", "shots"),
        (
            {"options": {"n_ctxt": 2}},
            r"unknown configuration key 'options.n_ctxt' \(argument n_ctxt\)",
            "options.n_ctx",
        ),
    ],
)
def test_what_is_refused(
    changes: dict[str, Any], message: str, hint: str, photos: Path, tiny_backbone: Backbone, here: Runtime
) -> None:
    with pytest.raises(UsageError, match=message) as error:
        small(photos, tiny_backbone, here, **changes)
    assert hint in str(error.value.hint)


def test_data_in_memory_have_no_place_in_a_run(photos: Path, tiny_backbone: Backbone, here: Runtime) -> None:
    dataset: Any = load_dataset(f"folder:{photos}")
    with pytest.raises(UsageError, match="the spec of a data set, such as 'folder:photos', and not a Dataset"):
        train("coop", dataset, tiny_backbone, runtime=here)
    with pytest.raises(UsageError, match="no method given"):
        train(data=f"folder:{photos}", runtime=here)
