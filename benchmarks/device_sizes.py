"""How large the measurements on a device are, and how time and memory are read there."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.frame import timed


@dataclass(frozen=True)
class Sizes:
    """Of what is measured.

    Attributes:
        tower: with random weights, for whole steps.
        classes: of the steps.
        images: of a step.
        files: JPEG files to read.
        side: their edge in pixels.
        matmul: edge of the square matrices whose product gives the rate of the device's arithmetic.
        repeats: of each measured time.
    """

    tower: str
    classes: int
    images: int
    files: int
    side: int
    matmul: int
    repeats: int


FULL = Sizes("ViT-B-16-quickgelu", classes=1000, images=32, files=2048, side=320, matmul=8192, repeats=5)
TINY = Sizes("doodle-clip", classes=20, images=4, files=96, side=72, matmul=256, repeats=2)


@dataclass(frozen=True)
class Setting:
    """Where, and how much, is measured."""

    device: torch.device
    sizes: Sizes
    workers: int

    @property
    def cuda(self) -> bool:
        """Whether time and memory are those of a card."""
        return self.device.type == "cuda"

    def finish(self) -> None:
        """Wait until the device has done what it was told."""
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def once(self, run: Callable[[], object]) -> float:
        """Seconds of one call and of all that it has told the device to do."""

        def finished() -> None:
            run()
            self.finish()

        self.finish()
        return timed(finished)

    def seconds(self, run: Callable[[], object]) -> float:
        """Median seconds of a call, behind one that is not counted."""
        run()
        return statistics.median(self.once(run) for _ in range(self.sizes.repeats))

    def peak_gb(self, run: Callable[[], object]) -> dict[str, float]:
        """Gigabytes that a call holds at most above what was held before; no figure where there is no card."""
        if not self.cuda:
            return {}
        self.finish()
        torch.cuda.reset_peak_memory_stats(self.device)
        held = torch.cuda.memory_allocated(self.device)
        run()
        self.finish()
        return {"peak GB": (torch.cuda.max_memory_allocated(self.device) - held) / 1e9}

    def matmul_rate(self) -> float:
        """FLOPs a second of a square fp32 product, TF32 off."""
        n = self.sizes.matmul
        a, b, out = (torch.ones(n, n, device=self.device) for _ in range(3))
        return 2 * n**3 / self.seconds(lambda: torch.mm(a, b, out=out))
