"""SIGKILL at random moments, and the same command again until it is done."""

from __future__ import annotations

import random
from collections.abc import Callable

from faults.process import watch
from faults.trial import Tally, Trial


def killed(trial: Trial, rng: random.Random, kills: int) -> Tally:
    """Kill until there were so many; each piece of work is killed again and again until it gets through."""
    tally = Tally(f"{trial.command.name} killed")
    while tally.tried < kills:
        folder, times = trial.folder(), 0
        while True:
            process = trial.start(folder, again=times > 0)
            hit = times + tally.tried < kills and watch(process, folder, moment(trial, rng))
            if hit:
                process.kill()
            ended = process.wait()
            if not hit or ended.code != -9:  # it was faster
                break
            times += 1
        if times or ended.code:
            tally.count(trial.wrong(folder, ended), max(times, 1))
    return tally


def moment(trial: Trial, rng: random.Random) -> Callable[[int, float], bool]:
    """Of all that can be seen, or of all the time that it takes, a random part; at least one step gets done."""
    if rng.random() < 0.5:
        number = rng.randint(1, trial.whole.events)
        return lambda seen, seconds: seen >= number
    after_s = rng.random() * trial.whole.seconds
    return lambda seen, seconds: seconds >= after_s
