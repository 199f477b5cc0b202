"""Tip-Adapter and Tip-Adapter-F: the formula by hand, averaged views, the search, states of any size, runs."""

from __future__ import annotations

from math import exp
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from tests.adapters.feature_cases import axes, blobs, build, fitted
from tests.training.material import Hooked, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.config.models import RunConfig, TrainConfig
from vlmprompt.errors import InputError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.dry_run import dry_run, report_lines
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run
from vlmprompt_adapters import cache

both = pytest.mark.parametrize("name", ["tip_adapter", "tip_adapter_f"])


def two_classes(backbone: Backbone, name: str, **options: Any) -> PromptMethod:
    """Text of the classes along the first two axes; cached images of labels 0, 1, 1 along the first three."""
    method = build_method(name, backbone, ["a", "b"], {"views": 1, **options}).eval()
    method.text_Kd = axes({0: 1}, {1: 1})
    method.fit(ImageFeatures(axes({0: 2}, {1: 3}, {2: 4})), torch.tensor([0, 1, 1]), None)
    return method


@both
def test_logits_by_hand(tiny_backbone, name):
    """Cosines of the image are 0.6, 0.8 and 0; of the second 0, 0 and 1."""
    method = two_classes(tiny_backbone, name, alpha=2.0, beta=3.0)
    output = method(ImageFeatures(axes({0: 3, 1: 4}, {2: 7})))
    expected = [
        [60 + 2 * exp(-3 * 0.4), 80 + 2 * (exp(-3 * 0.2) + exp(-3))],
        [0 + 2 * exp(-3), 0 + 2 * (exp(-3) + 1)],
    ]
    torch.testing.assert_close(output.logits, torch.tensor(expected))
    assert output.scale == 100 and output.global_cosines is None


@both
def test_a_key_is_the_mean_of_raw_views(tiny_backbone, name):
    """Views (3,0) and (0,1) of the first image, twice (0,0,5) of the second: not the mean of unit vectors."""
    method = build_method(name, tiny_backbone, ["a", "b"], {"views": 2})
    rows = ImageFeatures(axes({0: 3}, {2: 5}, {1: 1}, {2: 5}))
    assert method.fit(rows, torch.tensor([1, 0, 1, 0]), None) == {"images": 2, "views": 2}
    torch.testing.assert_close(method.keys.detach(), axes({0: 3 / 10**0.5, 1: 1 / 10**0.5}, {2: 1}))
    assert method.labels.tolist() == [1, 0]


@both
def test_nothing_cached_is_zero_shot(tiny_backbone, name):
    method = build(tiny_backbone, name).eval()
    features, _ = blobs(2, seed=3)
    cosines = build_method("zeroshot", tiny_backbone, method.class_names)(features).global_cosines
    torch.testing.assert_close(method(features).logits, 100 * cosines)


def test_grid_is_the_codes():
    assert cache.grid(10.1, 4) == pytest.approx([0.1, 2.6, 5.1, 7.6])


@pytest.mark.parametrize("at_a_time", [1, 40, 2**24])
def test_search_against_every_pair(tiny_backbone, monkeypatch, at_a_time):
    """The first of the best pairs, beta in the outer loop; whatever part of the images is looked at together."""
    monkeypatch.setattr(cache, "SEARCH_VALUES", at_a_time)
    train_set, val = blobs(4, seed=1), blobs(20, seed=2)
    method = build(tiny_backbone, "tip_adapter", search="val", search_scale=(9, 40), search_step=(6, 5))
    found = method.fit(*train_set, val)
    best, accuracy = (0.0, 0.0), -1.0
    accuracies = set()
    for beta in [i * 8.9 / 6 + 0.1 for i in range(6)]:
        for alpha in [i * 39.9 / 5 + 0.1 for i in range(5)]:
            other = build(tiny_backbone, "tip_adapter", alpha=alpha, beta=beta)
            other.fit(*train_set, None)
            right = float((other(val[0]).logits.argmax(dim=1) == val[1]).double().mean())
            accuracies.add(right)
            if right > accuracy:
                best, accuracy = (alpha, beta), right
    assert len(accuracies) > 3
    assert (found["alpha"], found["beta"]) == pytest.approx(best)
    assert (found["val_accuracy"], found["tried"]) == (pytest.approx(accuracy), 30)
    expected = build(tiny_backbone, "tip_adapter", alpha=best[0], beta=best[1])
    expected.fit(*train_set, None)
    torch.testing.assert_close(method(val[0]).logits, expected(val[0]).logits)


@both
def test_validation_images_are_looked_at_for_a_search_alone(tiny_backbone, name):
    train_set, val = blobs(4, seed=1), blobs(5, seed=2)
    plain, searching = build(tiny_backbone, name), build(tiny_backbone, name, search="val")
    assert (plain.searched, searching.searched) == ((), ("alpha", "beta"))
    assert plain.fit(*train_set, val) == {"images": 12, "views": 1} and plain.found is None
    with pytest.raises(InputError, match=r"choose alpha and beta on validation images \(search = val\), and is given"):
        searching.fit(*train_set, None)
    searching.val_search = False  # --no-val-search
    assert searching.fit(*train_set, None) == {"images": 12, "views": 1}
    assert torch.equal(searching.eval()(val[0]).logits, plain.eval()(val[0]).logits)


def test_f_is_trained_at_the_options_and_used_at_what_was_found(tiny_backbone):
    features, _ = blobs(5, seed=2)
    method = fitted(tiny_backbone, "tip_adapter_f", search="val", alpha=3.0, beta=2.0)
    at_options = fitted(tiny_backbone, "tip_adapter_f", alpha=3.0, beta=2.0)
    assert torch.equal(method.train()(features).logits, at_options.train()(features).logits)
    assert not torch.equal(method.eval()(features).logits, at_options.eval()(features).logits)


def test_f_learns_keys_that_stay_one_parameter(tiny_backbone):
    """The optimiser may be made before a checkpoint of other images is loaded."""
    method = build(tiny_backbone, "tip_adapter_f")
    (keys,) = method.trainable_parameters()
    method.fit(*blobs(4, seed=1), None)
    assert next(iter(method.trainable_parameters())) is keys and keys.shape == (12, 32)
    features, labels = blobs(2, seed=3)
    method.loss(method(features), labels).total.backward()
    own = F.normalize(features.global_Bd, dim=-1)
    alpha, beta = method.alpha_beta
    residual = (method(features).logits.softmax(dim=1) - F.one_hot(labels, 3)) / len(labels)
    slope = residual[:, method.labels] * alpha * beta * torch.exp(-beta * (1 - own @ keys.T))
    torch.testing.assert_close(keys.grad, (slope.T @ own).detach(), atol=1e-6, rtol=1e-4)
    keys.grad = None
    method.load_trainable_state(fitted(tiny_backbone, "tip_adapter_f").trainable_state())
    assert next(iter(method.trainable_parameters())) is keys


@both
def test_state_of_any_number_of_images(tiny_backbone, name):
    method = fitted(tiny_backbone, name, search="val").eval()
    state = method.trainable_state()
    assert {n: tuple(t.shape) for n, t in state.items()} == {"keys": (12, 32), "labels": (12,), "found": (2,)}
    features, _ = blobs(3, seed=4)
    other = build(tiny_backbone, name).eval()
    other.load_trainable_state(state)
    assert torch.equal(other(features).logits, method(features).logits)
    other.load_trainable_state({n: state[n][:5] for n in ("keys", "labels")})
    assert len(other.keys) == 5 and other.found is None
    with pytest.raises(InputError, match=r"'keys' has shape \(12, 32\) in the checkpoint"):
        build(tiny_backbone, name).load_trainable_state({**state, "labels": state["labels"][:4]})
    with pytest.raises(InputError, match="the cached label 3, and has 3 classes"):
        build(tiny_backbone, name).load_trainable_state({**state, "labels": state["labels"] + 1})
    with pytest.raises(InputError, match="lacks tensor 'keys'"):
        build(tiny_backbone, name).load_trainable_state({"labels": state["labels"]})


@both
def test_rows_that_are_no_views(tiny_backbone, name):
    features, labels = blobs(4, seed=1)
    with pytest.raises(InputError, match="12 training rows for views = 5, and 12 is no multiple of 5"):
        build(tiny_backbone, name, views=5).fit(features, labels, None)
    with pytest.raises(
        InputError, match="12 training rows for views = 2, and their labels do not come again"
    ) as caught:
        build(tiny_backbone, name, views=2).fit(features, labels.sort().values, None)
    assert "set the option views" in caught.value.hint


# -- runs ------------------------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": 3, "val": 2, "test": 1}
    return make_photos(tmp_path_factory.mktemp("data") / "photos", splits=splits)


def run_config(photos: Path, name: str, *, val_search: bool = True) -> RunConfig:
    options = method_config(name, {"views": 2, "search": "val", "search_step": (5, 4)}).model_dump(mode="json")
    schedule: dict[str, Any] = {"epochs": 2, "batch_size": 4, "checkpoint_every": 1, "optimizer": "adamw", "eps": 1e-4}
    schedule |= {"warmup_epochs": 0, "val_search": val_search}
    where = {"data": f"folder:{photos}", "backbone": "tiny-vit", "shots": 3}
    return RunConfig(method=name, options=options, train=TrainConfig(**schedule), **where)


@both
@pytest.mark.parametrize("val_search", [True, False])
def test_a_run_records_what_it_searched(tiny_backbone, photos, tmp_path, name, val_search):
    config = run_config(photos, name, val_search=val_search)
    run = load_run(train(config, runtime(tmp_path), backbone=tiny_backbone).run)
    method = run.build_method(tiny_backbone)
    assert (len(method.keys), run.info.fit["images"], run.info.fit["views"]) == (12, 12, 2)
    if not val_search:
        assert run.info.search is None and method.found is None
        return
    assert (run.info.search.names, run.info.search.val_images) == (("alpha", "beta"), 8)
    found = [run.info.search.found[n] for n in ("alpha", "beta")]
    assert method.found.tolist() == pytest.approx(found)


class Stopped(BaseException):
    """Ends a run between two instructions."""


def test_f_that_died_goes_on_to_the_same_bytes(tiny_backbone, photos, tmp_path):
    def stop(step: int) -> None:
        if step == 4:
            raise Stopped

    config, place = run_config(photos, "tip_adapter_f"), {"out": tmp_path / "broken", "backbone": tiny_backbone}
    whole = train(config, runtime(tmp_path), out=tmp_path / "whole", backbone=tiny_backbone).run
    with pytest.raises(Stopped):
        train(config, runtime(tmp_path), progress=Hooked(stop), **place)
    resumed = train(config, runtime(tmp_path), resume=True, **place).run
    ours, theirs = (path / "checkpoint.safetensors" for path in (resumed, whole))
    assert ours.read_bytes() == theirs.read_bytes()


def test_a_dry_run_says_that_the_fit_makes_the_keys(tiny_backbone, photos, tmp_path):
    lines = report_lines(dry_run(run_config(photos, "tip_adapter_f"), runtime(tmp_path), backbone=tiny_backbone))
    assert "trains    keys (0, 32), filled by the fit" in lines
    assert "trains    0 parameters in all, not counting what the fit adds" in lines
