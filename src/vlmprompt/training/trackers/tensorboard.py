"""TensorBoard's event files, by its own package: the extra `tensorboard`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from vlmprompt.errors import InputError
from vlmprompt.training.trackers.contract import Ending, TrackedRun, Tracker, flat

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FOLDER = "tensorboard"
EVENTS = "events.out.tfevents.*"
# What says where a record belongs, and is no curve.
PLACE = ("step", "epoch", "epoch_end")


class TensorBoardTracker(Tracker):
    """Event files in the folder tensorboard of the run: the numbers of log.jsonl over optimiser steps.

    Tags: `step/loss` of a step, `epoch/loss` of an epoch; tables in a record go on with a slash, `step/parts/ce`,
    `epoch/diagnostics/..`. Values are single precision, as TensorBoard's are. The configuration is a text of step 0.
    A run that goes on makes what was recorded after its checkpoint void; of a run that was begun without this tracker
    the whole log is told first. Look at them with `tensorboard --logdir runs`.
    """

    files = (FOLDER,)

    def __init__(self) -> None:
        if find_spec("tensorboard") is None:
            raise InputError(
                "tracker tensorboard needs the package tensorboard", hint="pip install 'vlmprompt[tensorboard]'"
            )
        self._writer: SummaryWriter

    def start(self, run: TrackedRun) -> None:
        """Open an event file."""
        from torch.utils.tensorboard import SummaryWriter

        folder = run.folder / FOLDER
        fresh = not any(folder.glob(EVENTS))
        # A reader drops what older files say of this step and those behind it. The step itself is told again: its
        # epoch may have ended after the checkpoint.
        self._writer = SummaryWriter(str(folder), purge_step=run.steps or None)
        if fresh:
            self._writer.add_text("config", f"```json\n{json.dumps(run.config, indent=2)}\n```", 0)
        for record in run.records():
            if fresh or record["step"] >= run.steps:
                self.record(record)

    def record(self, record: Mapping[str, Any]) -> None:
        """A point of every curve."""
        if "error" in record:
            self._writer.add_text("error", record["error"], record["step"])
            return
        kind = "epoch" if record.get("epoch_end") else "step"
        for name, value in flat(record).items():
            if name not in PLACE and isinstance(value, int | float):
                self._writer.add_scalar(f"{kind}/{name.replace('.', '/', 1)}", value, record["step"])

    def flush(self) -> None:
        """Write out what is waiting."""
        self._writer.flush()

    def end(self, ending: Ending, error: str | None) -> None:
        """Nothing more comes."""
        self._writer.close()
