"""Four processes with one folder, and one of them killed."""

from __future__ import annotations

import random
from pathlib import Path

from faults.kills import moment
from faults.process import Ended, watch
from faults.trial import Tally, Trial

PROCESSES, TRIALS = 4, 3


def together(trial: Trial, rng: random.Random) -> Tally:
    """The others finish the work, once; they all print the same table, which is that of one process alone."""
    tally = Tally(f"{trial.command.name} by {PROCESSES}, one killed")
    for _ in range(TRIALS):
        folder = trial.folder()
        processes = [trial.start(folder, again=True) for _ in range(PROCESSES)]
        victim = rng.randrange(PROCESSES)
        if watch(processes[victim], folder, moment(trial, rng)):
            processes[victim].kill()
        ended = [process.wait() for process in processes]
        others = [end for end in ended if end.code != -9]
        tally.count([*_refused(trial, others), *trial.wrong(folder, _last(trial, folder, others))])
    return tally


def _refused(trial: Trial, ended: list[Ended]) -> list[str]:
    """Where a process ended otherwise than it should."""
    if trial.command.name == "train":  # one run has one owner
        good = [end for end in ended if end.code == 0 or (end.code == 3 and "is in use by process" in end.errors)]
    else:
        good = [end for end in ended if end.code == 0 and end.output == trial.whole.ended.output]
    return [f"exit code {end.code}: {end.errors[-300:]}{end.output[-300:]}" for end in ended if end not in good]


def _last(trial: Trial, folder: Path, ended: list[Ended]) -> Ended:
    """The end of whoever was last; a run of one owner, if that was the one killed, is gone on with."""
    if any(end.code == 0 for end in ended):
        return Ended(0, "", "")
    return trial.start(folder, again=True).wait()
