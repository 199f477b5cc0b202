"""Predictions: the right ones, with images read as seldom as possible and nothing trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.evaluation.material import Seeing, patches, slow_logits
from tests.training.material import Hooked, config
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError
from vlmprompt.evaluation import images as images_module
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.images import ImageBank
from vlmprompt.evaluation.subject import Subject
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.coop import CoOp, CoOpConfig

RUNTIME = Runtime(device="cpu", workers=0)


def make_bank(
    backbone: Backbone, *, batch_size: int = 4, loads: list[int] | None = None, kept_bytes: int = 10**9
) -> ImageBank:
    """A bank that notes when it loads its towers."""

    def load() -> Backbone:
        if loads is not None:
            loads.append(1)
        return backbone

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(images_module, "KEPT_BYTES", kept_bytes)
        return ImageBank(load, RUNTIME, batch_size=batch_size, progress=Hooked())


def make_context(dataset: Dataset, bank: ImageBank, method: PromptMethod | None = None, **changes: object) -> Context:
    """A context around a method that is there already."""

    def build() -> PromptMethod:
        return method if method is not None else coop(bank.backbone, dataset)

    settings = config(Path("anywhere"), **changes)
    return Context(Subject("run", settings, 3, 1, "", build), dataset, bank)


def coop(backbone: Backbone, dataset: Dataset, *, seed: int = 0) -> PromptMethod:
    """CoOp with random prompts."""
    generator = torch.Generator().manual_seed(seed)
    return build_method("coop", backbone, dataset.class_names, {"n_ctx": 2}, generator=generator).eval()


def test_predictions_are_those_of_single_images(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 3, [])
    context = make_context(dataset, make_bank(tiny_backbone))
    predictions = context.predict(context.method(), dataset)
    assert predictions.labels_B.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert predictions.logits_BK.dtype == torch.float32
    assert len(predictions) == 9
    torch.testing.assert_close(predictions.logits_BK, slow_logits(context.method(), dataset), rtol=1e-4, atol=1e-4)
    assert predictions.logits_BK.std(dim=0).min() > 0  # images differ, so a mixed-up order would show


def test_methods_on_a_frozen_tower_share_one_pass(tiny_backbone: Backbone) -> None:
    reads: list[int] = []
    dataset = patches(3, 3, reads)
    bank = make_bank(tiny_backbone)
    first, second = coop(tiny_backbone, dataset), coop(tiny_backbone, dataset, seed=5)
    zeroshot = build_method("zeroshot", tiny_backbone, dataset.class_names)
    predictions = [make_context(dataset, bank).predict(m, dataset).logits_BK for m in (first, second, zeroshot)]
    assert len(reads) == 9
    assert not torch.equal(predictions[0], predictions[1])


def test_a_method_that_prompts_the_image_tower_reads_its_own_images(tiny_backbone: Backbone) -> None:
    reads: list[int] = []
    dataset = patches(3, 3, reads)
    bank = make_bank(tiny_backbone)
    method = Seeing(tiny_backbone, dataset.class_names, CoOpConfig(n_ctx=2))
    expected = slow_logits(method, dataset)
    reads.clear()
    for _ in range(2):
        predictions = make_context(dataset, bank).predict(method, dataset)
    assert len(reads) == 18
    torch.testing.assert_close(predictions.logits_BK, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("spare", "reads_expected"), [(-1, 18), (0, 9)])
def test_features_that_would_not_fit_are_not_kept(tiny_backbone: Backbone, spare: int, reads_expected: int) -> None:
    reads: list[int] = []
    dataset = patches(3, 3, reads)
    size = 9 * 32 * 4  # images, joint width, bytes a number
    bank = make_bank(tiny_backbone, kept_bytes=size + spare)
    for seed in range(2):
        make_context(dataset, bank).predict(coop(tiny_backbone, dataset, seed=seed), dataset)
    assert len(reads) == reads_expected


def test_the_oldest_features_make_room(tiny_backbone: Backbone) -> None:
    reads: list[int] = []
    one, other = patches(3, 3, reads, name="one"), patches(3, 3, reads, name="other")
    bank = make_bank(tiny_backbone, kept_bytes=9 * 32 * 4 + 9 * 8)  # features and labels of one
    for dataset in (one, other, other, one):
        make_context(dataset, bank).predict(coop(tiny_backbone, dataset), dataset)
    assert len(reads) == 27


def test_suites_that_ask_for_the_same_share_predictions(tiny_backbone: Backbone) -> None:
    reads: list[int] = []
    dataset = patches(3, 3, reads)
    method = Seeing(tiny_backbone, dataset.class_names, CoOpConfig(n_ctx=2))
    bank = make_bank(tiny_backbone)
    contexts = [make_context(dataset, bank, method) for _ in range(2)]
    first, again = (context.predict(context.method(), dataset) for context in contexts)
    assert first is again
    assert len(reads) == 9
    other = make_context(dataset, bank, Seeing(tiny_backbone, dataset.class_names, CoOpConfig(n_ctx=2)), seed=2)
    assert other.predict(other.method(), dataset) is not first
    assert first.held == 9 * 3 * 4 + 9 * 8


def test_data_sets_of_one_content_are_not_mixed_up(tiny_backbone: Backbone) -> None:
    reads: list[int] = []
    one, other = patches(3, 3, reads, name="one"), patches(3, 3, reads, name="other")
    assert one.digest == other.digest
    bank = make_bank(tiny_backbone)
    for dataset in (one, other):
        make_context(dataset, bank).predict(coop(tiny_backbone, dataset), dataset)
    assert len(reads) == 18


def test_nothing_is_trained_and_the_mode_does_not_leak(tiny_backbone: Backbone) -> None:
    dataset = patches(2, 2, [])
    context = make_context(dataset, make_bank(tiny_backbone))
    method = coop(tiny_backbone, dataset).train()
    for output, _ in context.outputs(method, dataset):
        assert torch.is_grad_enabled()
        assert not output.logits.requires_grad
        assert method.training  # as it was


def test_text_is_encoded_once(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = patches(3, 3, [])
    context = make_context(dataset, make_bank(tiny_backbone, batch_size=2))
    calls: list[int] = []
    encode = CoOp.encode_text
    monkeypatch.setattr(CoOp, "encode_text", lambda *a, **k: (calls.append(1), encode(*a, **k))[1])
    context.predict(context.method(), dataset)
    assert len(calls) == 1


def test_the_last_batch_may_be_small(tiny_backbone: Backbone) -> None:
    dataset = patches(2, 3, [])
    method = coop(tiny_backbone, dataset)
    whole, pieces = (
        make_context(dataset, make_bank(tiny_backbone, batch_size=b)).predict(method, dataset) for b in (100, 4)
    )
    torch.testing.assert_close(whole.logits_BK, pieces.logits_BK, rtol=1e-4, atol=1e-4)
    assert torch.equal(whole.labels_B, pieces.labels_B)


def test_towers_are_loaded_when_they_are_needed(tiny_backbone: Backbone) -> None:
    loads: list[int] = []
    dataset = patches(2, 2, [])
    bank = make_bank(tiny_backbone, loads=loads)
    context = make_context(dataset, bank)
    assert not loads
    context.predict(context.method(), dataset)
    assert len(loads) == 1


def test_trained_classes_are_the_base_half_or_all(tiny_backbone: Backbone) -> None:
    dataset = patches(5, 1, [])
    bank = make_bank(tiny_backbone)
    assert make_context(dataset, bank).trained is dataset
    base = make_context(dataset, bank, setting="base-to-new").trained
    assert base.class_names == dataset.class_names[:3]
    assert [r.label for r in base.splits["test"]] == [0, 1, 2]


def test_other_classes_than_trained_on_are_an_error(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 1, [])
    method = coop(tiny_backbone, patches(4, 1, []))
    with pytest.raises(InputError, match="other classes than run was trained on"):
        make_context(dataset, make_bank(tiny_backbone), method).method()


def test_a_method_is_built_once(tiny_backbone: Backbone) -> None:
    dataset = patches(2, 1, [])
    context = make_context(dataset, make_bank(tiny_backbone))
    assert context.method() is context.method()
    assert not context.method().training


def test_a_missing_split_is_named(tiny_backbone: Backbone) -> None:
    dataset = patches(2, 1, [])
    context = make_context(dataset, make_bank(tiny_backbone))
    with pytest.raises(InputError, match="has no val images"):
        context.predict(context.method(), dataset, "val")


def test_progress_is_shown_where_there_is_some(tiny_backbone: Backbone) -> None:
    dataset = patches(2, 2, [])
    told: list[str] = []

    class Telling(Hooked):
        def task(self, description: str, total: int | None, *, unit: str = "it") -> Any:
            told.append(f"{description}: {total} {unit}")
            return super().task(description, total, unit=unit)

    bank = ImageBank(lambda: tiny_backbone, RUNTIME, batch_size=4, progress=Telling())
    context = make_context(dataset, bank)
    context.predict(context.method(), dataset)
    assert told == ["test images of patches: 4 img"]
    seeing = make_context(dataset, bank, Seeing(tiny_backbone, dataset.class_names, CoOpConfig(n_ctx=2)))
    seeing.predict(seeing.subject.build(), dataset)
    assert told[1:] == ["coop on test images of patches: 4 img"]
