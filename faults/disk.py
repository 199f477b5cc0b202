"""A disk that is full from a random moment on, and has space again later."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from faults.kills import moment
from faults.process import watch
from faults.trial import Tally, Trial

SIZE_MB, TRIALS = 24, 5


def full_disk(trial: Trial, rng: random.Random) -> list[Tally]:
    """While the command works, and for evaluate while features are kept, too: afterwards it ends as it should."""
    kinds = {"": [], " with a feature cache": ["--feature-cache"]}
    tallies = [Tally(f"{trial.command.name}{kind}, disk full") for kind in kinds]
    with _small_disk(trial.place / "disk") as disk:
        if disk is None:
            print("no small disk could be mounted here (that takes root): a full disk was not tried")
            return []
        for tally, option in zip(tallies, kinds.values(), strict=True):
            for _ in range(TRIALS):
                folder = trial.folder(disk)
                more = [*option, str(folder / "cache")] if option else []
                tally.count(_once(trial, folder, disk, rng, more))
                subprocess.run(["rm", "-rf", str(folder)], check=True)
    return tallies


def _once(trial: Trial, folder: Path, disk: Path, rng: random.Random, more: list[str]) -> list[str]:
    process = trial.start(folder, *more)
    if watch(process, folder, moment(trial, rng)):
        _fill(disk / "ballast")
    ended = process.wait()
    (disk / "ballast").unlink(missing_ok=True)
    said = [] if ended.code in (0, 3, 5) else [f"exit code {ended.code} on a full disk: {ended.errors[-300:]}"]
    again = trial.start(folder, *more, again=True).wait()
    subprocess.run(["rm", "-rf", str(folder / "cache")], check=True)
    return said + trial.wrong(folder, again)


def _fill(ballast: Path) -> None:
    """Leave not a byte."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        for size in (1 << 20, 1 << 12, 1):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    os.fsync(file.fileno())


@contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        yield None
        return
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)
