"""TDA against a loop in NumPy that keeps lists, image by image, by the formulas of the paper."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vlmprompt.api import Backbone, ImageFeatures, build_method
from vlmprompt.config.overrides import override_layers
from vlmprompt.config.resolve import resolve

NAMES = ["cat", "red_panda", "tench, fish", "owl", "ash"]
WIDTH = 32
# Wide enough for random towers, whose entropies are high, to fill both caches, and to push images out of them.
OPTIONS: dict[str, Any] = {"entropy_low": 0.05, "entropy_high": 0.68, "mask_low": 0.1, "neg_alpha": 0.7}


def stream(text_Kd: Tensor, n: int = 40) -> Tensor:
    """Raw features (n,d) of images near the classes' texts, some more so than others."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(len(text_Kd), (n,), generator=generator)
    noise = torch.randn(n, WIDTH, generator=generator) * torch.rand(n, 1, generator=generator)
    return 3 * (text_Kd[labels] + 0.12 * noise)


def by_hand(features: np.ndarray, text: np.ndarray, scale: float, o: dict[str, Any]) -> np.ndarray:
    """Logits of each image of the stream."""
    pos: dict[int, list[tuple[float, np.ndarray]]] = {}
    neg: dict[int, list[tuple[float, np.ndarray, np.ndarray]]] = {}

    def let_in(cache: dict[int, list[Any]], label: int, item: tuple[Any, ...], capacity: int) -> None:
        held = cache.setdefault(label, [])
        if len(held) < capacity:
            held.append(item)
        elif item[0] < held[-1][0]:
            held[-1] = item
        held.sort(key=lambda one: one[0])

    said = []
    for raw in features:
        z = raw / np.linalg.norm(raw)
        logits = scale * text @ z
        p = np.exp(logits - logits.max())
        p /= p.sum()
        entropy, label = float(-(p * np.log(p)).sum()), int(logits.argmax())
        let_in(pos, label, (entropy, z), o["pos_capacity"])
        if o["entropy_low"] < entropy / math.log2(len(text)) < o["entropy_high"]:
            let_in(neg, label, (entropy, z, (p > o["mask_low"]) & (p < o["mask_high"])), o["neg_capacity"])
        for k, held in pos.items():
            for _, f in held:
                logits[k] += o["pos_alpha"] * math.exp(-o["pos_beta"] * (1 - z @ f))
        for held_out in neg.values():
            for _, f, mask in held_out:
                logits -= o["neg_alpha"] * math.exp(-o["neg_beta"] * (1 - z @ f)) * mask
        said.append(logits)
    assert max(map(len, pos.values())) == o["pos_capacity"] and max(map(len, neg.values())) == o["neg_capacity"]
    return np.stack(said)


def test_logits_of_a_stream_are_those_of_the_formulas(tiny_backbone: Backbone) -> None:
    method = build_method("tda", tiny_backbone, NAMES, OPTIONS, template="a drawing of a {}.")
    (text_Kd,) = method.encode_text().features_PKd
    plain = build_method("zeroshot", tiny_backbone, NAMES, {"template": "a drawing of a {}."})
    assert torch.equal(text_Kd, plain.encode_text().features_PKd[0])
    features = stream(text_Kd)
    frozen = method.frozen()
    found = frozen(ImageFeatures(features))
    options = method.config.model_dump()
    expected = by_hand(features.double().numpy(), text_Kd.double().numpy(), 100.0, options)
    np.testing.assert_allclose(found.logits.numpy(), expected, rtol=2e-5, atol=2e-4)
    assert np.abs(expected - (plain.frozen()(ImageFeatures(features)).logits.numpy())).max() > 0.5
    assert found.global_cosines is None and found.cosine_logits  # scores of unknown images read the adapted logits


def test_the_order_matters_and_a_stream_begins_anew(tiny_backbone: Backbone) -> None:
    method = build_method("tda", tiny_backbone, NAMES, OPTIONS)
    features = ImageFeatures(stream(method.encode_text().features_PKd[0]))
    frozen = method.frozen()
    first = frozen(features).logits
    assert not torch.equal(frozen(features).logits, first)  # the stream goes on
    assert torch.equal(frozen.stream()(features).logits, first)
    assert torch.equal(method.frozen()(features).logits, first)
    parts = frozen.stream()
    assert torch.equal(torch.cat([parts(features[i : i + 7]).logits for i in range(0, 40, 7)]), first)
    backwards = torch.arange(39, -1, -1)
    assert not torch.allclose(frozen.stream()(features[backwards]).logits[backwards], first)
    assert not method.state_dict() and not list(method.parameters())


def test_the_surest_tenth_of_several_views_is_averaged(tiny_backbone: Backbone) -> None:
    method = build_method("tda", tiny_backbone, NAMES, {"views": 20, "neg_alpha": 0.0})
    (text_Kd,) = method.encode_text().features_PKd
    views = stream(text_Kd, 20)
    unit = views / views.norm(dim=1, keepdim=True)
    logits = 100.0 * unit @ text_Kd.T
    p = logits.softmax(dim=1)
    kept = (-(p * p.log()).sum(dim=1)).argsort()[:2]
    mean_d = unit[kept].mean(dim=0)
    expected = logits[kept].mean(dim=0)
    label = int(expected.argmax())
    expected[label] += 2 * torch.exp(-5 * (1 - mean_d @ mean_d))
    torch.testing.assert_close(method.frozen()(ImageFeatures(views)).logits[0], expected, rtol=1e-5, atol=1e-5)


def test_other_classes_have_their_own_text(tiny_backbone: Backbone) -> None:
    method = build_method("tda", tiny_backbone, NAMES)
    method.frozen()
    other = method.with_classes(["elm", "oak | tree"], template="a leaf of a {}.")
    alone = build_method("tda", tiny_backbone, ["elm", "oak | tree"], template="a leaf of a {}.")
    features = ImageFeatures(stream(method.encode_text().features_PKd[0], 6))
    assert torch.equal(other.frozen()(features).logits, alone.frozen()(features).logits)


@pytest.mark.parametrize(
    ("data", "alpha", "beta", "views", "templates"),
    [
        ("dtd", 2, 3, 1, 1),
        ("imagenet", 2, 5, 1, 7),
        ("imagenet-v2", 1, 8, 64, 7),
        ("ucf101", 3, 8, 1, 1),
        ("doodles", 2, 5, 1, 1),
    ],
)
def test_settings_of_single_data_sets(data: str, alpha: float, beta: float, views: int, templates: int) -> None:
    run = resolve({"method": "tda", "data": data, "backbone": "ViT-B-16/openai"}, env={}).run
    layers = override_layers("vlmprompt_adapters:schedules/tda.toml", run, known=None)
    values = {key: value for layer in layers for key, value in layer.values.items()}
    assert (values.get("options.pos_alpha", 2), values.get("options.pos_beta", 5)) == (alpha, beta)
    assert values.get("options.views", 1) == views
    assert len(values.get("options.template", ["own"])) == templates
