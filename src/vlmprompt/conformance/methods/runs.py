"""What the real trainer makes of a method: runs that can be repeated, and gone on with."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vlmprompt.config.models import RunConfig, Runtime, TrainConfig
from vlmprompt.conformance import material
from vlmprompt.conformance.check import require, skip
from vlmprompt.conformance.methods.case import MethodCase, changed, loops
from vlmprompt.methods.build import method_config
from vlmprompt.progress import SilentProgress, Task
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.run import train

FILE = "checkpoint.safetensors"
BREAK = 3  # the step after which a run dies: the first of its second epoch of two


class Died(BaseException):
    """Ends a run as a power cut does: nothing catches it."""


class _Dying(SilentProgress):
    """Ends training after some steps."""

    def __init__(self, steps: int) -> None:
        super().__init__()
        self._left = steps

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[Task]:
        """Counts the steps of the training loop."""
        with super().task(description, total, unit=unit) as silent:
            yield self if description == "training" else silent

    def advance(self, amount: int = 1, **fields: float | str) -> None:
        """One step more."""
        self._left -= amount
        if self._left < 0:
            raise Died


def run_config(case: MethodCase) -> RunConfig:
    """Two epochs of two steps on two pictures a class, a checkpoint after each step."""
    schedule = TrainConfig(epochs=2, batch_size=4, checkpoint_every=1, warmup_epochs=0, lr=0.01)
    return RunConfig(
        method=case.name,
        data=material.DATA,
        backbone="tiny-vit",
        shots=2,
        seed=1,
        train=schedule,
        options=method_config(case.name, case.options).model_dump(mode="json"),
    )


def _train(case: MethodCase, folder: Path, *, resume: bool = False, dies_after: int | None = None) -> Checkpoint:
    train(
        run_config(case),
        Runtime(device="cpu", workers=0, runs_dir=folder.parent),
        out=folder,
        resume=resume,
        progress=None if dies_after is None else _Dying(dies_after),
        backbone=material.towers(),
        descriptions=material.description_file(),
    )
    return Checkpoint.load(folder / FILE)


def same_run_same_checkpoint(case: MethodCase) -> None:
    """The same run, trained twice by the toolkit, ends with the same checkpoint, byte for byte."""
    if loops(case.build()):
        skip("that a resumed run equals the whole one says it")
    with tempfile.TemporaryDirectory() as folder, material.tiny_data():
        first, again = (Path(folder, name) for name in ("first", "again"))
        _train(case, first)
        _train(case, again)
        same = (first / FILE).read_bytes() == (again / FILE).read_bytes()
    require(same, "two runs of one seed end with different checkpoints", "take every random number from self.generator")


def resumes_bit_for_bit(case: MethodCase) -> None:
    """A run of the real trainer that dies within an epoch goes on to the same checkpoint, byte for byte."""
    if not loops(case.build()):
        skip("it has no training loop")
    with tempfile.TemporaryDirectory() as folder, material.tiny_data():
        whole, broken = (Path(folder, name) for name in ("whole", "broken"))
        expected = _train(case, whole)
        with suppress(Died):
            _train(case, broken, dies_after=BREAK)
        found = _train(case, broken, resume=True)
        same = (whole / FILE).read_bytes() == (broken / FILE).read_bytes()
    name = changed(dict(expected.state), dict(found.state))
    require(
        same,
        f"the resumed run ends with another {f'tensor {name!r}' if name else 'checkpoint'}",
        "keep what later steps depend on in the state: a persistent buffer, named in passing where it comes and goes",
    )
