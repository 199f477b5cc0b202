"""`python -m faults.run`: disturbs the program at random moments, and counts what is lost."""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

from faults.commands import DATA, commands
from faults.disk import full_disk
from faults.kills import killed
from faults.process import Process, warm_up
from faults.together import together
from faults.trial import Tally, Trial


def main() -> int:
    """Run all trials, or those whose names begin as given; 1 if anything was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only these: kill, disk, four")
    parser.add_argument("--only", nargs="*", help="these commands: train, evaluate, sweep, reproduce")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20, help="of each command")
    given = parser.parse_args()
    wanted = given.names or ["kill", "disk", "four"]
    warm_up(DATA)
    with tempfile.TemporaryDirectory(prefix="faults-") as place:
        tallies = list(_trials(Path(place), wanted, given))
    print(f"\n{'what':34} {'tried':>6} {'survived':>9} {'lost':>5}")
    for tally in tallies:
        print(f"{tally.name:34} {tally.tried:6} {tally.survived:9} {tally.lost:5}")
    return 1 if any(tally.lost for tally in tallies) else 0


def _trials(place: Path, wanted: list[str], given: argparse.Namespace) -> list[Tally]:
    trained = place / "trained" / "run"
    known = commands(trained, place / "small.toml")
    trained.parent.mkdir()
    ended = Process(known[0].arguments(trained.parent), place / "first").wait()
    assert ended.code == 0, ended.errors
    tallies = []
    for command in (one for one in known if not given.only or one.name in given.only):
        trial = Trial(command, place / command.name)
        print(f"{command.name}: {trial.whole.seconds:.1f} s and {trial.whole.events} events undisturbed", flush=True)
        rng = {name: random.Random(f"{name} {command.name} {given.seed}") for name in wanted}
        if "kill" in wanted:
            tallies.append(_timed(killed(trial, rng["kill"], given.kills)))
        if "disk" in wanted and command.name in ("train", "evaluate"):
            tallies += [_timed(tally) for tally in full_disk(trial, rng["disk"])]
        if "four" in wanted:
            tallies.append(_timed(together(trial, rng["four"])))
    return tallies


def _timed(tally: Tally) -> Tally:
    print(f"{time.strftime('%H:%M:%S')} {tally.name}: {tally.survived} of {tally.tried}", flush=True)
    return tally


if __name__ == "__main__":
    sys.exit(main())
