"""The random numbers of one picture, the same on every machine and Python version."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """A stream of random numbers named by a key.

    Everything is built from `random.Random(int).random()`, whose sequence Python promises to keep, and from
    SHAKE-256, which is a standard. Python's `choice`, `sample` and `gauss`, and numpy's generators, may change
    between versions and are not used.
    """

    def __init__(self, *key: str | int) -> None:
        self._digest = hashlib.sha256(json.dumps(key).encode()).digest()
        self._random = random.Random(int.from_bytes(self._digest, "big")).random

    def fork(self, purpose: str) -> Draws:
        """A stream of its own, so that drawing more for one purpose leaves the others as they were."""
        return Draws(self._digest.hex(), purpose)

    def uniform(self, low: float, high: float) -> float:
        """A number in [low, high)."""
        return low + (high - low) * self._random()

    def around(self, spread: float) -> float:
        """A number in (-spread, spread), small ones more often (triangular)."""
        return spread * (self._random() - self._random())

    def integer(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random() < probability

    def choice(self, options: Sequence[T]) -> T:
        """One of the options."""
        return options[int(self._random() * len(options))]

    def some(self, options: Sequence[T], n: int) -> list[T]:
        """n different ones of the options, in random order."""
        rest = list(options)
        return [rest.pop(int(self._random() * len(rest))) for _ in range(n)]

    def octets(self, n: int) -> bytes:
        """n random bytes; the same ones at every call."""
        return hashlib.shake_256(self._digest).digest(n)
