"""A run that is stopped anywhere and resumed ends in the very bytes of a run that was not."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.processes import Process, Stepwise
from tests.training import train_tiny
from tests.training.material import STEPS, Hooked, Noisy, config, log_lines, registered, runtime
from vlmprompt.atomic import parts
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.errors import ExitCode, InputError, Interrupted
from vlmprompt.training import checkpoint
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

VARIANTS: list[Any] = [
    {},
    {"views": 2},
    pytest.param({"optimizer": "adamw"}, marks=pytest.mark.long),
    pytest.param({"views": 1, "max_steps": 8}, marks=pytest.mark.long),
    pytest.param({"method": "bloom", "fusion": "routing"}, marks=pytest.mark.long),
    {
        "validate_every": 1,
        "keep": "best",
        "patience": 3,
        "sampling": "balanced",
        "class_weights": {"red fox": 3.0},
        "schedule": "step",
        "milestones": (1,),
    },
]


class Killed(BaseException):
    """Ends a run between two instructions, as SIGKILL would, as far as its files are concerned."""


@pytest.fixture(scope="module", autouse=True)
def _noisy() -> Iterator[None]:
    with registered("noisy", Noisy):
        yield


@pytest.fixture(scope="module", params=VARIANTS, ids=str)
def settings(request: pytest.FixtureRequest, photos: Path) -> RunConfig:
    return config(photos, **{"method": "noisy", **request.param})


@pytest.fixture(scope="module")
def whole(settings: RunConfig, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without a break."""
    out = tmp_path_factory.mktemp("whole") / "run"
    return train(settings, runtime(out.parent), out=out, backbone=tiny_backbone).run


def assert_same(run: Path, whole: Path) -> None:
    name = "checkpoint.safetensors"
    assert (run / name).read_bytes() == (whole / name).read_bytes()
    assert log_lines(run) == log_lines(whole)
    assert sorted(p.name for p in run.iterdir()) == sorted(p.name for p in whole.iterdir())
    ours, theirs = (json.loads((folder / "run.json").read_text()) for folder in (run, whole))
    for info in (ours, theirs):
        for key in ("name", "started", "finished", "seconds", "peak_memory"):
            del info[key]
        del info["metrics"]["seconds"], info["metrics"]["images_per_s"]
    assert ours == theirs


def interrupt_at(step: int) -> Callable[[int], None]:
    def act(now: int) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGINT)

    return act


def kill_at(step: int) -> Callable[[int], None]:
    def act(now: int) -> None:
        if now == step:
            raise Killed

    return act


@pytest.mark.parametrize("step", range(1, STEPS))
def test_ctrl_c_after_any_step(
    settings: RunConfig, whole: Path, tiny_backbone: Backbone, tmp_path: Path, step: int
) -> None:
    place = runtime(tmp_path)
    with pytest.raises(Interrupted, match=f"stopped after step {step} of") as stopped:
        train(settings, place, progress=Hooked(interrupt_at(step)), backbone=tiny_backbone)
    assert "--resume" in str(stopped.value.hint) and stopped.value.exit_code == ExitCode.INTERRUPTED
    (folder,) = tmp_path.iterdir()
    assert load_run(folder).info.status == "interrupted"
    progress = Hooked()
    run = train(settings, place, resume=True, progress=progress, backbone=tiny_backbone).run
    total = settings.train.max_steps or STEPS
    assert progress.steps == total - step  # nothing was done twice
    assert_same(run, whole)


@pytest.mark.parametrize("step", range(1, STEPS))
def test_death_after_any_step_and_then_again(
    settings: RunConfig, whole: Path, tiny_backbone: Backbone, tmp_path: Path, step: int
) -> None:
    place = runtime(tmp_path)
    for after in (step, 2):
        progress = Hooked(kill_at(after))
        try:
            train(settings, place, resume=True, progress=progress, backbone=tiny_backbone)
        except Killed:
            (folder,) = tmp_path.iterdir()
            assert load_run(folder).info.status == "failed"
    run = train(settings, place, resume=True, backbone=tiny_backbone).run
    assert_same(run, whole)


@pytest.mark.parametrize("nth", range(1, 8))
def test_death_while_a_checkpoint_is_written(
    settings: RunConfig,
    whole: Path,
    tiny_backbone: Backbone,
    tmp_path: Path,
    nth: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written = 0

    def half(path: Path, content: bytes, *, make_folder: bool) -> None:
        nonlocal written
        written += 1
        if written == nth:
            path.with_name(f".{nth:016x}.vlmprompt-part").write_bytes(content[:100])
            raise Killed
        path.write_bytes(content)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(checkpoint, "write_atomic", half)
        train(settings, runtime(tmp_path), backbone=tiny_backbone)
    assert_same(train(settings, runtime(tmp_path), resume=True, backbone=tiny_backbone).run, whole)


def dying(nth: int, act: Callable[[], object]) -> int:
    """Do something in a process of its own, which SIGKILL ends before its n-th call that changes a file.

    Returns:
        Its exit code.
    """
    calls = itertools.count(1)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **named: Any) -> Any:
            if next(calls) == nth:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **named)

        return wrapped

    def body() -> None:
        for name in ("fsync", "replace", "write", "unlink", "ftruncate", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        act()

    process = multiprocessing.get_context("fork").Process(target=body)
    process.start()
    process.join()
    return process.exitcode or 0


@pytest.mark.long
def test_kill_9_between_any_two_writes(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    settings = config(photos, method="noisy", shots=1, views=1, max_steps=1, checkpoint_every=1)
    place = runtime(tmp_path)
    whole = train(settings, place, out=tmp_path / "whole", backbone=tiny_backbone).run
    for nth in itertools.count(1):
        out = tmp_path / f"run{nth}"
        code = dying(nth, partial(train, settings, place, out=out, backbone=tiny_backbone))
        assert_same(train(settings, place, out=out, resume=True, backbone=tiny_backbone).run, whole)
        if code == 0:
            break
        assert code == -signal.SIGKILL
    assert nth > 25  # run.json and the checkpoint are written twice, with four calls each


@pytest.mark.parametrize("seed", [1, 2])
def test_kill_9_while_another_run_is_replaced(photos: Path, tiny_backbone: Backbone, tmp_path: Path, seed: int) -> None:
    """What is left is never taken for the new run, nor for the old one unless that is whole."""
    old = config(photos, method="noisy", shots=1, views=1, max_steps=1)
    new, place = old.model_copy(update={"seed": seed}), runtime(tmp_path)
    before, whole = (
        train(run, place, out=tmp_path / f"{run.seed}{run is new}", backbone=tiny_backbone).run for run in (old, new)
    )
    for nth in range(1, 14):  # past the removal of the old files and the first run.json of the new run
        out = tmp_path / f"run{nth}"
        shutil.copytree(before, out)
        code = dying(nth, partial(train, new, place, out=out, force=True, backbone=tiny_backbone))
        assert code == -signal.SIGKILL
        try:
            train(new, place, out=out, resume=True, backbone=tiny_backbone)
        except InputError:
            train(new, place, out=out, force=True, backbone=tiny_backbone)
        for part in parts(out):  # of a run that was found to be whole, so that nothing was written since
            part.unlink()
        assert_same(out, whole)


def test_a_second_ctrl_c_stops_at_once(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    def twice(step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(config(photos), runtime(tmp_path), progress=Hooked(twice), backbone=tiny_backbone)
    assert signal.getsignal(signal.SIGINT) is before
    (folder,) = tmp_path.iterdir()
    assert load_run(folder).info.status == "interrupted"


def stop_after_one_step(settings: RunConfig, backbone: Backbone, tmp_path: Path) -> Path:
    with pytest.raises(Interrupted):
        train(settings, runtime(tmp_path), progress=Hooked(interrupt_at(1)), out=tmp_path / "run", backbone=backbone)
    return tmp_path / "run"


def test_changed_settings_are_named(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    run = stop_after_one_step(config(photos), tiny_backbone, tmp_path)
    other = config(photos, lr=0.5, n_ctx=3, shots=2)
    with pytest.raises(InputError) as error:
        train(other, runtime(tmp_path), out=run, resume=True, backbone=tiny_backbone)
    for named in ("options.n_ctx (2 -> 3)", "shots (3 -> 2)", "train.lr (0.02 -> 0.5)"):
        assert named in error.value.message
    assert "epochs" not in error.value.message and "--out" in str(error.value.hint)


def test_changed_towers_are_named(photos: Path, tiny_backbone: Backbone, tiny_resnet: Backbone, tmp_path: Path) -> None:
    run = stop_after_one_step(config(photos), tiny_backbone, tmp_path)
    with pytest.raises(InputError, match="backbone is not what it was"):
        train(config(photos), runtime(tmp_path), out=run, resume=True, backbone=tiny_resnet)


def test_a_lost_log_is_named(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    run = stop_after_one_step(config(photos), tiny_backbone, tmp_path)
    (run / "log.jsonl").unlink()
    with pytest.raises(InputError, match=r"log\.jsonl has 0 lines, the checkpoint was made at line 1"):
        train(config(photos), runtime(tmp_path), out=run, resume=True, backbone=tiny_backbone)


def test_an_unfinished_run_is_not_overwritten(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    run = stop_after_one_step(config(photos), tiny_backbone, tmp_path)
    with pytest.raises(InputError, match=r"unfinished run \(interrupted\)") as error:
        train(config(photos), runtime(tmp_path), out=run, backbone=tiny_backbone)
    assert "--resume" in str(error.value.hint) and "--force" in str(error.value.hint)
    with pytest.raises(InputError, match="is not finished"):
        load_run(run).build_method(tiny_backbone)
    train(config(photos), runtime(tmp_path), out=run, force=True, backbone=tiny_backbone)
    assert len(log_lines(run)) == STEPS + 3


@pytest.mark.long
def test_real_signals_at_random_points(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    """SIGKILL, SIGINT and SIGTERM, each in a process of its own, then to the end."""
    rng = random.Random(7)
    out = tmp_path / "run"
    for number in (signal.SIGKILL, signal.SIGINT, signal.SIGTERM):
        process = Stepwise(train_tiny.main, photos, out, number != signal.SIGKILL)
        for _ in range(rng.randint(3, 8)):
            process.step()
            process.go_on()
        process.send_signal(number)  # somewhere in the next step
        process.run_free()
        _, errors = process.communicate()
        assert process.returncode == (-9 if number == signal.SIGKILL else 130), errors
        status = json.loads((out / "run.json").read_text())["status"]
        assert status == ("running" if number == signal.SIGKILL else "interrupted")
    last = Process(train_tiny.main, photos, out, True)
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    settings = train_tiny.tiny_config(photos)
    whole = train(settings, runtime(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
    assert_same(out, whole)
