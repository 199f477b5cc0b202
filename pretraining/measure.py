"""How good a model is: zero-shot over domains and sets, probes on its features and on raw pixels.

Shapes: N pictures, K classes, d joint width.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.doodles.domains import DOMAINS
from vlmprompt.doodles.parse import GROUPS
from vlmprompt.doodles.pictures import COUNTS, DEFAULT_DOMAIN, members, picture
from vlmprompt.methods.logistic import Regression

TEMPLATE = "a photo of a {}."
_BATCH = 128
_PROBE_C = 100.0  # inverse strength of the penalty on unit features; chosen on the val split
_PIXELS = 16  # side of the pictures that the raw-pixel probe sees


@cache
def images(domain: str, split: str, count: int | None = None) -> tuple[Sequence[Any], Tensor]:
    """The first `count` pictures of every class (default: all), and their labels."""
    shown, labels = [], []
    for label, name in enumerate(members("")):
        for index in range(count or COUNTS[split]):
            shown.append(picture(name, index, domain=domain, split=split).image)
            labels.append(label)
    return shown, torch.tensor(labels)


def features(backbone: Backbone, domain: str, split: str, count: int | None = None) -> tuple[Tensor, Tensor]:
    """Unit features (N,d) and labels (N)."""
    shown, labels = images(domain, split, count)
    transform = backbone.transform(train=False)
    parts = [
        backbone.encode_image(torch.stack([transform(image) for image in shown[i : i + _BATCH]])).global_Bd
        for i in range(0, len(shown), _BATCH)
    ]
    return F.normalize(torch.cat(parts), dim=-1), labels


def zero_shot(backbone: Backbone, split: str, count: int | None = None) -> Iterator[tuple[str, float]]:
    """Top-1 among all classes in every domain, then on each group of the default domain among its own classes."""
    names = members("")
    with torch.no_grad():
        text_Kd = F.normalize(backbone.text.encode_template(TEMPLATE, names), dim=-1)
    for domain in DOMAINS:
        image_Nd, labels = features(backbone, domain, split, count)
        sim_NK = image_Nd @ text_Kd.T
        yield domain, _accuracy(sim_NK.argmax(1), labels)
        if domain == DEFAULT_DOMAIN:
            kept = sim_NK, labels
    for group in GROUPS:
        own = torch.tensor([names.index(name) for name in members(group)])
        mine = torch.isin(kept[1], own)
        yield group, _accuracy(own[kept[0][mine][:, own].argmax(1)], kept[1][mine])


def feature_probe(backbone: Backbone, split: str, shots: int | None) -> float:
    """Logistic regression on unit features of the default domain, trained on `shots` pictures a class (None: all)."""
    train = features(backbone, DEFAULT_DOMAIN, "train", shots)
    return _probe(train, features(backbone, DEFAULT_DOMAIN, split), _PROBE_C)


def pixel_probe(split: str, shots: int | None) -> float:
    """The same on pictures of 16 x 16 pixels."""
    return _probe(_small("train", shots), _small(split, None), 1.0)


def _small(split: str, count: int | None) -> tuple[Tensor, Tensor]:
    shown, labels = images(DEFAULT_DOMAIN, split, count)
    pixels = [np.asarray(image.resize((_PIXELS, _PIXELS))).ravel() for image in shown]
    return torch.from_numpy(np.stack(pixels)).float() / 255 - 0.5, labels


def _probe(train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], c: float) -> float:
    weight_Kd, bias_K, _ = Regression(*train, int(train[1].max()) + 1).fit(c)
    return _accuracy((test[0].double() @ weight_Kd.T + bias_K).argmax(dim=-1), test[1])


def _accuracy(predicted: Tensor, labels: Tensor) -> float:
    return float(predicted.eq(labels).float().mean())
