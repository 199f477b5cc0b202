"""The run folder: whose files are whose, whether a checkpoint is the run's own, and a folder that vanishes."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from tests.training.material import STEPS, Hooked, config, log_lines, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import ExitCode, InputError
from vlmprompt.training.checkpoint import Checkpoint, file_digest
from vlmprompt.training.folder import RunFolder
from vlmprompt.training.rescue import VanishedError
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

Go = Callable[..., Path]
OURS = (
    *("run.json", "checkpoint.safetensors", "log.jsonl", "log.csv", "tensorboard", "descriptions.jsonl"),
    *("MODEL_CARD.md", "results.jsonl"),
)


@pytest.fixture
def go(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> Go:
    """Train into `tmp_path/run`; settings by keyword, zero-shot unless said otherwise."""

    def act(method: str = "zeroshot", out: str = "run", progress: Any = None, seed: int = 1, **how: Any) -> Path:
        settings = config(photos, method=method, seed=seed, views=0 if method == "zeroshot" else 1)
        place = runtime(tmp_path)
        return train(settings, place, out=tmp_path / out, backbone=tiny_backbone, progress=progress, **how).run

    return act


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change tensors of a checkpoint and nothing else."""
    with safe_open(path, framework="pt") as file:
        tensors, told = {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata()  # noqa: SIM118
    change(tensors)
    save_file(tensors, path, told)


def interrupt(step: int) -> None:
    if step == 5:
        raise KeyboardInterrupt


# -- whose files -------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", [*OURS, "references"])
def test_what_a_user_calls_like_ours_is_never_lost(go: Go, tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text('{"mine": true}')
    for how in ({}, {"force": True}, {"resume": True}):
        with pytest.raises(InputError) as error:
            go(**how)
        assert "\n" not in error.value.message
    assert f"{name} was not written by a run" in refusal(go, force=True)
    assert (tmp_path / "run" / name).read_text() == '{"mine": true}'
    assert [file.name for file in (tmp_path / "run").iterdir()] == [name]


def refusal(go: Go, **how: Any) -> str:
    with pytest.raises(InputError) as error:
        go(**how)
    return error.value.message


def test_force_and_resume_keep_a_users_other_files(go: Go, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        go("coop", progress=Hooked(interrupt))
    mine = ("probe", "notes.md", ".run.json-1.tmp", ".hidden.tmp")
    for name in mine:
        (tmp_path / "run" / name).write_text(name)
    go("coop", resume=True)
    go("coop", seed=2, force=True)
    go("zeroshot", force=True)
    for name in mine:
        assert (tmp_path / "run" / name).read_text() == name
    assert sorted(file.name for file in (tmp_path / "run").iterdir() if file.name not in mine) == [
        "MODEL_CARD.md", "checkpoint.safetensors", "run.json",
    ]  # fmt: skip


def test_a_run_lists_its_files_and_another_does_not_take_what_is_not_on_the_list(go: Go, tmp_path: Path) -> None:
    run = go()
    assert load_run(run).info.files == ("checkpoint.safetensors", "MODEL_CARD.md")
    (run / "log.jsonl").write_text("my log\n")  # zero-shot writes none
    assert "log.jsonl was not written by a run" in refusal(go, method="coop", force=True)
    assert (run / "log.jsonl").read_text() == "my log\n" and load_run(run).info.status == "finished"


def test_a_run_of_an_older_version_lists_none_and_is_replaced(go: Go) -> None:
    run = go("coop")
    told = json.loads((run / "run.json").read_text())
    del told["files"], told["checkpoint"]
    (run / "run.json").write_text(json.dumps(told))
    assert go("zeroshot", force=True) == run
    assert not (run / "log.jsonl").exists()


def test_a_folder_in_the_place_of_a_file_is_named(go: Go) -> None:
    run = go()
    (run / "MODEL_CARD.md").unlink()
    (run / "MODEL_CARD.md").mkdir()
    assert "MODEL_CARD.md was not written by a run" in refusal(go, force=True)


def test_a_run_with_a_damaged_run_json_is_still_known_by_its_checkpoint(go: Go) -> None:
    run = go()
    (run / "run.json").write_text('{"name": "ha')
    assert "run.json is damaged" in refusal(go)
    assert go(force=True) == run
    (run / "run.json").write_text('{"name": "ha')
    (run / "checkpoint.safetensors").unlink()
    assert "run.json was not written by a run" in refusal(go, force=True)


def test_a_folder_with_nothing_but_a_half_written_file_is_empty(go: Go, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / f".{1:016x}.vlmprompt-part").write_text("")
    assert sorted(file.name for file in go().iterdir()) == ["MODEL_CARD.md", "checkpoint.safetensors", "run.json"]


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("[" * 100_000, "recursion"),
        ('{"sources": ' * 1000 + "1" + "}" * 1000, "recursion"),
        ('{"steps": ' + "9" * 100_000 + "}", "is damaged"),
        ("", "is damaged"),
        ("\0" * 50, "is damaged"),
        ("\udce4", "is damaged"),
    ],
    ids=["deep", "nested", "digits", "empty", "nul", "bytes"],
)
def test_odd_run_json_is_one_line(go: Go, content: str, word: str) -> None:
    run = go()
    (run / "run.json").write_bytes(content.encode(errors="surrogateescape"))
    message = refusal(go)
    assert "run.json is damaged" in message and word in message and "\n" not in message and len(message) < 500


def test_a_run_json_that_is_too_large_to_be_one(go: Go, monkeypatch: pytest.MonkeyPatch) -> None:
    run = go()
    monkeypatch.setattr("vlmprompt.training.run_info.MOST_BYTES", 1 << 10)
    with pytest.raises(InputError, match=r"run\.json is no run\.json: it is larger than"):
        load_run(run)


def test_a_byte_order_mark_and_windows_line_ends_in_run_json(go: Go) -> None:
    run = go()
    before, content = load_run(run).info, (run / "run.json").read_bytes()
    (run / "run.json").write_bytes(b"\xef\xbb\xbf" + content.replace(b"\n", b"\r\n"))
    assert load_run(run).info == before


# -- whose checkpoint --------------------------------------------------------------------------------
def test_the_checkpoint_of_another_run_is_named(go: Go, tiny_backbone: Backbone) -> None:
    first, second = go("coop", "a", seed=1), go("coop", "b", seed=2)
    shutil.copy(second / "checkpoint.safetensors", first / "checkpoint.safetensors")
    with pytest.raises(InputError, match=r"checkpoint\.safetensors is of another run: seed \(1 -> 2\)") as error:
        load_run(first).build_method(tiny_backbone)
    assert "--force" in str(error.value.hint) and "\n" not in error.value.message
    assert "seed (1 -> 2)" in refusal(go, method="coop", out="a")  # not "already done"
    go("coop", "a", seed=1, force=True)
    assert load_run(first).build_method(tiny_backbone).class_names


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"class_names": ("a", "b", "c", "d")}, "class names"),
        ({"digests": {"dataset": "d", "few-shot sample": "f", "backbone": "b"}}, "dataset, few-shot sample, backbone"),
    ],
)
def test_other_classes_and_other_data_are_named(
    go: Go, tiny_backbone: Backbone, changes: dict[str, Any], words: str
) -> None:
    run = go("coop")
    path = run / "checkpoint.safetensors"
    own = Checkpoint.load(path)
    Checkpoint(own.header.model_copy(update=changes), own.state, own.optimizer, own.rng).save(path)
    with pytest.raises(InputError, match=f"is of another run: {words}$"):
        load_run(run).build_method(tiny_backbone)


def test_changed_tensors_are_noticed(go: Go, tiny_backbone: Backbone) -> None:
    run = go("coop")
    rewrite(run / "checkpoint.safetensors", lambda tensors: tensors["ctx"].mul_(-1))
    with pytest.raises(InputError, match="is damaged: its content is not that of its digest"):
        load_run(run).build_method(tiny_backbone)
    assert "is damaged" in refusal(go, method="coop")


def test_another_training_of_the_same_settings_is_noticed(go: Go, tiny_backbone: Backbone) -> None:
    """As from another machine: sound in itself, same configuration, other numbers."""
    run = go("coop")
    path = run / "checkpoint.safetensors"
    assert load_run(run).info.checkpoint == file_digest(path)
    own = Checkpoint.load(path)
    Checkpoint(own.header, {"ctx": own.state["ctx"] + 1}, own.optimizer, own.rng).save(path)
    with pytest.raises(InputError, match=r"is not what the training of run ended with: its SHA-256 is not that in run"):
        load_run(run).build_method(tiny_backbone)


def test_resume_goes_on_from_its_own_checkpoint_alone(go: Go, tmp_path: Path) -> None:
    for out, seed in (("a", 1), ("b", 2)):
        with pytest.raises(KeyboardInterrupt):
            go("coop", out, seed=seed, progress=Hooked(interrupt))
    ours, theirs = (tmp_path / out / "checkpoint.safetensors" for out in "ab")
    own = ours.read_bytes()
    shutil.copy(theirs, ours)
    assert "of another run: seed (1 -> 2)" in refusal(go, method="coop", out="a", resume=True)
    ours.write_bytes(own)
    rewrite(ours, lambda tensors: tensors["optimizer/ctx/momentum_buffer"].mul_(2))
    assert "is damaged" in refusal(go, method="coop", out="a", resume=True)
    ours.write_bytes(own)
    whole = go("coop", "whole")
    assert (go("coop", "a", resume=True) / ours.name).read_bytes() == (whole / ours.name).read_bytes()


def test_a_run_of_an_older_version_is_used_with_a_warning(go: Go, tiny_backbone: Backbone) -> None:
    run = go("coop")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_run(run).build_method(tiny_backbone)
    told = json.loads((run / "run.json").read_text())
    del told["files"], told["checkpoint"]
    (run / "run.json").write_text(json.dumps(told))
    with pytest.warns(UserWarning, match=r"is of an older version: no digest to check its checkpoint by"):
        load_run(run).build_method(tiny_backbone)


def test_a_finished_run_without_its_checkpoint_is_not_done(go: Go) -> None:
    run = go("coop")
    (run / "checkpoint.safetensors").unlink()
    assert "there is no checkpoint" in refusal(go, method="coop")


# -- a log that is none ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "content", [b"\0" * 99, b"garbage\n" * 9, b"[1]\n" * 9, b'{"seconds": "x"}\n' * 9, b"[" * 99_999 + b"\n" * 9]
)
def test_a_garbage_log_is_named_on_resume(go: Go, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(KeyboardInterrupt):
        go("coop", progress=Hooked(interrupt))
    log = tmp_path / "run" / "log.jsonl"
    log.write_bytes(content)
    message = refusal(go, method="coop", resume=True)
    assert "log.jsonl" in message and "\n" not in message
    assert log.read_bytes() == content
    log.unlink()
    log.mkdir()
    assert "cannot read" in refusal(go, method="coop", resume=True)
    if hasattr(os, "mkfifo"):
        log.rmdir()
        os.mkfifo(log)
        assert "log.jsonl: it is a named pipe, not a file" in refusal(go, method="coop", resume=True)


# -- a folder that vanishes --------------------------------------------------------------------------
def away(run: Path) -> None:
    shutil.rmtree(run)


def renamed(run: Path) -> None:
    run.rename(run.with_name("elsewhere"))


def replaced(run: Path) -> None:
    shutil.rmtree(run)
    run.mkdir()
    (run / "log.jsonl").write_text("somebody else's")


def without_log(run: Path) -> None:
    (run / "log.jsonl").unlink()


@pytest.mark.parametrize("loss", [away, renamed, replaced, without_log])
@pytest.mark.parametrize("step", [1, 4, STEPS])
def test_a_vanished_folder_is_named_and_the_run_goes_on_beside_it(
    go: Go, tmp_path: Path, loss: Callable[[Path], None], step: int
) -> None:
    whole = go("coop", "whole")
    run = tmp_path / "run"
    with pytest.raises(VanishedError, match=r"/run was removed, .* after step \d is in .*/run-rescued$") as error:
        go("coop", progress=Hooked(lambda now: loss(run) if now == step else None))
    assert error.value.exit_code == ExitCode.INPUT and f"--out {tmp_path / 'run-rescued'}" in str(error.value.hint)
    if loss is replaced:
        assert [file.name for file in run.iterdir()] == ["log.jsonl"]
        assert (run / "log.jsonl").read_text() == "somebody else's"
    info = load_run(tmp_path / "run-rescued").info
    assert (info.status, info.name) == ("failed", "run-rescued") and "was removed" in str(info.error)
    progress = Hooked()
    rescued = go("coop", "run-rescued", resume=True, progress=progress)
    assert progress.steps <= STEPS - step  # what was done is not done again
    name = "checkpoint.safetensors"
    assert (rescued / name).read_bytes() == (whole / name).read_bytes()
    assert log_lines(rescued) == log_lines(whole)


def test_a_second_rescue_takes_another_name(go: Go, tmp_path: Path) -> None:
    (tmp_path / "run-rescued").mkdir()
    with pytest.raises(VanishedError, match=r"is in .*/run-rescued-2$"):
        go("coop", progress=Hooked(lambda now: away(tmp_path / "run") if now == 2 else None))
    assert list((tmp_path / "run-rescued").iterdir()) == []


def test_a_fit_without_a_loop_is_saved_beside_as_well(go: Go, tmp_path: Path) -> None:
    class Fitting(Hooked):
        def message(self, text: str) -> None:
            if "computing features of 12" in text:
                away(tmp_path / "run")

    with pytest.raises(VanishedError, match=r"its state is in .*/run-rescued$"):
        go("linear_probe", progress=Fitting())
    assert Checkpoint.load(tmp_path / "run-rescued" / "checkpoint.safetensors").state["weight"].shape == (4, 32)


def test_a_parent_folder_that_vanished_too(go: Go, tmp_path: Path) -> None:
    with pytest.raises(VanishedError):
        go("coop", "runs/run", progress=Hooked(lambda now: away(tmp_path / "runs") if now == 2 else None))
    assert RunFolder(tmp_path / "runs" / "run-rescued").checkpoint.exists()


def test_no_place_beside_it_is_said(go: Go, tmp_path: Path) -> None:
    def act(now: int) -> None:
        if now == 2:
            away(tmp_path / "runs")
            (tmp_path / "runs").write_text("a file")

    with pytest.raises(InputError, match=r"was removed, .* cannot be saved beside it: cannot write") as error:
        go("coop", "runs/run", progress=Hooked(act))
    assert not isinstance(error.value, VanishedError)
