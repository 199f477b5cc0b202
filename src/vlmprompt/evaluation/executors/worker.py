"""What carries tasks out, in whatever process: towers, data and features stay loaded from one task to the next."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from vlmprompt.errors import InputError, Interrupted, VlmPromptError
from vlmprompt.evaluation.executors.contract import Send, SweepOutcome, SweepTask
from vlmprompt.evaluation.executors.tasks import Plan, plan_of, runs_of
from vlmprompt.evaluation.executors.told import Relayed
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.sweep_work import SweepWork


class SweepWorker:
    """Carries out tasks one after the other.

    Rows are appended to the sweep's one `results.jsonl` as they are measured, under claims in its folder; the outcome
    repeats them. So any number of workers, and whoever else shares the sweep, measure each number once.

    Args:
        send: gets the events of its progress.
    """

    def __init__(self, send: Send) -> None:
        self.progress = Relayed(send)
        self._resources: dict[str, Resources] = {}
        self._work: dict[str, SweepWork] = {}

    def do(self, task: SweepTask) -> SweepOutcome:
        """Carry a task out, or what is left of it.

        Raises:
            Interrupted: by a signal to stop, or `stop`; everything finished is kept.
        """
        plan, runs = plan_of(task), runs_of(task)
        try:
            _stand_in(plan)
            work = self._work_of(plan)
            for _ in work.carry_out([runs]):
                pass
        except Interrupted:
            raise
        except VlmPromptError as error:
            return SweepOutcome(refused=(error.message, error.hint))
        rows = {run.folder.name: [row.model_dump(mode="json") for row in work.found(run.folder)] for run in runs}
        return SweepOutcome({name: found for name, found in rows.items() if found})

    def stop(self) -> None:
        """Have `do`, in another thread, stop at its next step."""
        self.progress.stopping = True

    def _work_of(self, plan: Plan) -> SweepWork:
        """One a sweep, so that what has failed since the sweep began is not tried again."""
        shared, key = plan.runtime.model_dump_json(), json.dumps(plan.dump(), sort_keys=True)
        if shared not in self._resources:
            self._resources[shared] = Resources(plan.runtime, self.progress)
        if key not in self._work:
            self._work[key] = SweepWork(plan, self._resources[shared], force=False)
        return self._work[key]


def _stand_in(plan: Plan) -> None:
    """Be where the command was given.

    Raises:
        InputError: this machine does not have the folders of the sweep.
    """
    for folder in (plan.cwd, plan.out):
        if not (plan.cwd / folder).is_dir():
            raise InputError(
                f"{socket.gethostname()} does not have the folder {folder}",
                hint="all workers need the sweep's folder under one path, such as that of a network drive; "
                "machines that share nothing take --shard",
            )
    if Path.cwd() != plan.cwd:
        os.chdir(plan.cwd)
