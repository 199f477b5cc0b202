"""A part of a grid, for processes that share nothing: which runs are this one's is arithmetic."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from vlmprompt.errors import UsageError

SLURM = "slurm"
_TASK, _COUNT, _FIRST, _STEP = (f"SLURM_ARRAY_TASK_{name}" for name in ("ID", "COUNT", "MIN", "STEP"))
Item = TypeVar("Item")


@dataclass(frozen=True)
class Shard:
    """Part `index` (from 1) of `count`."""

    index: int
    count: int

    @classmethod
    def parse(cls, text: str, environment: Mapping[str, str]) -> Shard:
        """Read "2/7", or "slurm": the place of this task in its SLURM array.

        Raises:
            UsageError: it is neither, no part of so many, or there is no array.
        """
        if text == SLURM:
            return cls._of_slurm(environment)
        found = re.fullmatch(r"(\d+)/(\d+)", text.strip())
        if found is None:
            raise UsageError(f"--shard {text!r} is not I/N", hint="such as --shard 2/7, or --shard slurm in an array")
        return cls._checked(int(found[1]), int(found[2]), f"--shard {text}")

    @classmethod
    def _of_slurm(cls, environment: Mapping[str, str]) -> Shard:
        values = {name: environment.get(name, "") for name in (_TASK, _COUNT, _FIRST, _STEP)}
        if not values[_TASK]:
            raise UsageError(
                f"--shard slurm, but {_TASK} is not set: this is no task of a SLURM array",
                hint="submit with sbatch --array=1-N, or write --shard I/N",
            )
        try:
            # An array may begin anywhere and leave numbers out, as in --array=10-40:10.
            task, first, step = (int(values[name] or "1") for name in (_TASK, _FIRST, _STEP))
            count = int(values[_COUNT])
        except ValueError as error:
            said = ", ".join(f"{name}={value!r}" for name, value in values.items())
            raise UsageError(f"--shard slurm cannot read {said}", hint="write --shard I/N") from error
        return cls._checked((task - first) // max(step, 1) + 1, count, f"--shard slurm ({_TASK}={task})")

    @classmethod
    def _checked(cls, index: int, count: int, said: str) -> Shard:
        if not 1 <= index <= count:
            raise UsageError(f"{said}: there is no part {index} of {count}", hint="parts count from 1: 1/N to N/N")
        return cls(index, count)

    def of(self, groups: Sequence[Sequence[Item]]) -> list[Sequence[Item]]:
        """The groups that are this part's: each is one part's, for any number of parts.

        Large groups are dealt first, each to the part that has least by then; of equals to the first.
        """
        loads = [0] * self.count
        mine: list[int] = []
        for place in sorted(range(len(groups)), key=lambda i: -len(groups[i])):
            part = loads.index(min(loads))
            loads[part] += len(groups[place])
            if part == self.index - 1:
                mine.append(place)
        return [groups[place] for place in sorted(mine)]

    def after(self, groups: int) -> Shard:
        """The same part of what follows so many groups, so that parts of many small grids are equal, too."""
        return Shard((self.index - 1 - groups) % self.count + 1, self.count)

    def __str__(self) -> str:
        return f"part {self.index} of {self.count}"
