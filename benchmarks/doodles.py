"""The built-in world: how long a picture takes, and how much of its classes raw pixels give away."""

from __future__ import annotations

from functools import partial

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.frame import Mark, Row, side_by_side
from vlmprompt.doodles.domains import DOMAINS
from vlmprompt.doodles.pictures import COUNTS, members, picture
from vlmprompt.methods.logistic import Regression

STRENGTHS = (0.01, 0.1, 1.0)  # of the probe; the best one counts


def measure(repeats: int = 5) -> list[Row]:
    """Milliseconds a picture in each domain; accuracy of a linear probe on 16 x 16 pixels of `paint`."""
    return [_rendering(repeats), _raw_pixels()]


def _rendering(repeats: int) -> Row:
    """A picture's share of the time that a quarter of the classes takes."""
    names = members("")[::4]

    def draw(domain: str) -> None:
        for name in names:
            picture(name, 0, domain=domain)

    runs = [partial(draw, domain) for domain in DOMAINS]
    for run in runs:
        run()
    seconds = side_by_side(dict.fromkeys(runs, repeats))
    figures = {f"{domain} ms": 1e3 * s / len(names) for domain, s in zip(DOMAINS, seconds, strict=True)}
    return Row("doodles", "rendering a picture", figures)


def _raw_pixels() -> Row:
    (train_x, train_y), (test_x, test_y) = _small("train"), _small("test")
    regression = Regression(torch.from_numpy(train_x), torch.tensor(train_y), len(set(train_y)))
    fits = (regression.fit(c) for c in STRENGTHS)
    best = max(float(np.mean((test_x @ w_Kd.numpy().T + b_K.numpy()).argmax(1) == test_y)) for w_Kd, b_K, _ in fits)
    marks = (Mark("accuracy of a probe on raw pixels", best, 0.60, at_least=False),)
    return Row("doodles", "16 x 16 pixels, all train and test pictures", {"accuracy": best}, marks)


def _small(split: str) -> tuple[npt.NDArray[np.float64], list[int]]:
    """Pictures at 16 x 16 around zero, (N, 768), and their labels."""
    keys = [(label, name, i) for label, name in enumerate(members("")) for i in range(COUNTS[split])]
    images = [np.asarray(picture(name, i, split=split).image.reduce(4)).ravel() for _, name, i in keys]
    return np.stack(images) / 255 - 0.5, [label for label, _, _ in keys]
