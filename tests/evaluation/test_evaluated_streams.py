"""Methods that adapt at test time, evaluated: streams in a recorded order, outputs in the order of the split."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.evaluation.material import patches
from tests.evaluation.test_context import make_bank, make_context
from tests.training.material import config, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures
from vlmprompt.config.models import RunConfig
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import CapabilityError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.keys import key_of
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.scored import score_split
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.subjects import shots_and_seed
from vlmprompt.evaluation.suites.accuracy import AccuracySuite
from vlmprompt.evaluation.suites.prompts import PromptsSuite
from vlmprompt.explain import explain
from vlmprompt.export.work import export_run
from vlmprompt.methods.build import build_method
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.scores import ood_scores
from vlmprompt.methods.stream_order import stream_order
from vlmprompt.results.details import Details, details_file
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run


class Counting(PromptMethod):
    """Says of each image how many it has seen before, and what it is."""

    capabilities = frozenset({"new_classes", "feature_cache", "training_free", "test_time"})
    seen: Tensor

    def create(self) -> None:
        self.data_sets: list[str] = []
        self.register_buffer("seen", None, persistent=False)

    def start_evaluation(self, dataset: Dataset) -> None:
        self.data_sets.append(dataset.spec)

    def start_stream(self) -> None:
        self.seen = torch.zeros(())

    def observe(self, views: Tensor | ImageFeatures) -> MethodOutput:
        feature_d = views.unit_Bd[0] if isinstance(views, ImageFeatures) else views[0].flatten()
        logits_K = torch.stack([self.seen, *feature_d[: len(self.class_names) - 1]])
        self.seen = self.seen + 1
        return MethodOutput(logits_K[None], 1.0)


class CountingPixels(Counting):
    """The same of three views of pixels."""

    capabilities = Counting.capabilities - {"feature_cache"}
    test_views = 3


def counting(backbone: Backbone, dataset: Dataset, kind: type[Counting] = Counting) -> PromptMethod:
    return kind(backbone, dataset.class_names, MethodConfig()).eval()


def order_by_hand(records: tuple[Record, ...], split: str, seed: int) -> list[str]:
    def digest(record: Record) -> str:
        return hashlib.blake2b(repr((seed, split, record.id)).encode(), digest_size=16).hexdigest()

    return [record.id for record in sorted(records, key=digest)]


def test_the_order_is_that_of_digests() -> None:
    dataset = patches(4, 5, [])
    records = dataset.split("test")
    order = stream_order(records, "test", 1)
    assert [records[i].id for i in order] == order_by_hand(records, "test", 1)
    assert sorted(order) == list(range(20)) and order != list(range(20))
    assert stream_order(records, "test", 2) != order != stream_order(records, "val", 1)
    shuffled = tuple(records[i] for i in torch.randperm(20, generator=torch.Generator().manual_seed(0)).tolist())
    assert order_by_hand(shuffled, "test", 1) == [shuffled[i].id for i in stream_order(shuffled, "test", 1)]
    half = dataset.restrict([0, 2], suffix="-half").split("test")
    kept = {record.id for record in half}
    whole = [records[i].id for i in order if records[i].id in kept]
    assert [half[i].id for i in stream_order(half, "test", 1)] == whole  # a part keeps the order of the whole
    labels = [records[i].label for i in order]
    assert sum(a != b for a, b in itertools.pairwise(labels)) > 10  # not class by class


@pytest.mark.parametrize("kind", [Counting, CountingPixels])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_outputs_stand_in_the_order_of_the_split(
    batch_size: int, kind: type[Counting], tiny_backbone: Backbone
) -> None:
    dataset = patches(3, 4, [])
    context = make_context(dataset, make_bank(tiny_backbone, batch_size=batch_size), seed=7)
    method = counting(tiny_backbone, dataset, kind)
    records = dataset.split("test")
    place = {name: i for i, name in enumerate(order_by_hand(records, "test", 7))}
    expected = [float(place[record.id]) for record in records]
    transform = tiny_backbone.transform(train=False)
    pixels = torch.stack([transform(record.image.load()) for record in records])  # type: ignore[union-attr]
    content = method.encode_images(pixels).unit_Bd if kind is Counting else pixels.flatten(1)
    for _ in range(2):  # evaluating twice gives the same
        found = context.predict(method, dataset)
        assert found.logits_BK[:, 0].tolist() == expected
        torch.testing.assert_close(found.logits_BK[:, 1:], content[:, :2], rtol=1e-4, atol=1e-5)
        assert found.labels_B.tolist() == [record.label for record in records]
    outputs, labels = zip(*context.outputs(method, dataset), strict=True)
    assert torch.equal(torch.cat([output.logits for output in outputs]), found.logits_BK)
    assert torch.equal(torch.cat(labels), found.labels_B)
    scored = score_split(make_context(dataset, make_bank(tiny_backbone), method, seed=7), dataset)
    # Batch by batch and all at once: a processor may round a softmax of other rows differently.
    torch.testing.assert_close(scored.of("msp"), ood_scores(MethodOutput(found.logits_BK, 1.0), "msp"))


def test_a_method_is_told_of_a_data_set_once_and_on_a_copy(tiny_backbone: Backbone) -> None:
    first, second = patches(3, 2, [], name="first"), patches(3, 2, [], name="second")
    context = make_context(first, make_bank(tiny_backbone))
    method = counting(tiny_backbone, first)
    for dataset in (first, second, first):
        context.predict(method, dataset)
    assert method.data_sets == ["made-up:first", "made-up:second"]  # the copies share the list, and each was told once
    plain = build_method("coop", tiny_backbone, first.class_names, {"n_ctx": 2}).eval()
    found, labels_B = context.read(plain, first, "test", lambda output: {"logits": output.logits})
    outputs, labels = zip(*context.outputs(plain, first), strict=True)
    assert torch.equal(found["logits"], torch.cat([output.logits for output in outputs]))
    assert torch.equal(labels_B, torch.cat(labels))


def subject(settings: RunConfig) -> Subject:
    shots, seed = shots_and_seed(settings)
    return Subject("run", settings, shots, seed, "", lambda: None)  # type: ignore[arg-type, return-value]


def test_keys_and_seeds_know_the_stream(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 2, [])

    def made(method: str, seed: int) -> tuple[Subject, str]:
        settings = RunConfig(method=method, data=dataset.spec, backbone="tiny-vit", shots=None, seed=seed)
        own = subject(settings)
        (cell,) = AccuracySuite().cells(Context(own, dataset, make_bank(tiny_backbone)))
        return own, key_of(own, AccuracySuite(), cell, "data", "backbone")

    (first, key), (second, other) = made("tda", 1), made("tda", 2)
    assert (first.shots, first.seed, second.seed) == (0, 1, 2) and first.untrained and key != other
    assert made("zeroshot", 1)[0].seed is None and made("zeroshot", 1)[0].untrained
    grid = Grid(["tda", "zeroshot"], ["folder:a"], [4, 8], [1, 2])
    runs = [(flags["method"], flags["shots"], flags["seed"]) for group in grid.groups() for flags in group]
    assert runs == [("tda", "all", 1), ("tda", "all", 2), ("zeroshot", "all", 0)]


@pytest.fixture(scope="module")
def adapted(photos: Path, tiny_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    runs = tmp_path_factory.mktemp("adapted")
    options: dict[str, Any] = {"options": build_method("tda", tiny_backbone, ["a", "b"]).config.model_dump(mode="json")}
    settings = config(photos, method="zeroshot").model_copy(update={"method": "tda", "shots": None, **options})
    yield train(settings, runtime(runs), backbone=tiny_backbone).run


def test_a_run_is_measured_and_used(adapted: Path, photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    path = shutil.copytree(adapted, tmp_path / "runs" / "tda")
    rows = evaluate(path, ["accuracy", "ood", "prompts"], runtime(tmp_path), reference=False, backbone=tiny_backbone,
                    companions={"ood": f"folder:{photos}/train"})  # fmt: skip
    said = {(row.suite, row.cell, row.metric): row for row in rows}
    top1 = said["accuracy", "test", "top1"]
    assert top1.status == "ok" and (top1.shots, top1.seed) == (0, 1)
    rule = "adapts at test time: each split is a stream of its own, in the order of BLAKE2b of (seed, split, image id)"
    assert f"{rule}; stream seed 1" in top1.note
    prompts = said["prompts", "text", "cosine"]
    assert prompts.status == "not_applicable" and "needs a fixed classifier" in prompts.note
    scores = {row.status for row in rows if row.suite == "ood" and row.cell.endswith("/mcm")}
    assert scores == {"ok"} and "logits" in next(row.note for row in rows if row.cell.endswith("/mcm"))
    run = load_run(path)
    test = run.load_dataset().split("test")
    shown = [test[i] for i in stream_order(test, "test", 1)]
    predicted = run.classifier(tiny_backbone)(shown)
    file = details_file(path / "results.jsonl", top1.key)
    assert file is not None
    details = Details.read(file)
    by_id = dict(zip(details.ids, details.prediction.tolist(), strict=True))
    assert [by_id[record.id] for record in shown] == predicted.labels_B.tolist()
    again = run.predict(shown, backbone=tiny_backbone, reject=0.9, runtime=runtime(tmp_path))
    assert torch.equal(again.logits_BK, predicted.logits_BK)
    with pytest.raises(CapabilityError, match="a look at where a run looks needs a fixed classifier"):
        explain(run, backbone=tiny_backbone, out=tmp_path / "pictures")
    with pytest.raises(CapabilityError, match="an export needs a fixed classifier, and method 'tda'"):
        export_run(run, "safetensors", out=tmp_path / "head.safetensors", backbone=tiny_backbone)


def test_what_adapts_has_no_text_to_compare(tiny_backbone: Backbone) -> None:
    dataset = patches(3, 2, [])
    context = make_context(dataset, make_bank(tiny_backbone), counting(tiny_backbone, dataset))
    (cell,) = PromptsSuite().cells(context)
    with pytest.raises(CapabilityError, match="a comparison of prompts needs a fixed classifier"):
        cell.measure()
