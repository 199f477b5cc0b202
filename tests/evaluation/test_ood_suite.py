"""The suite on runs of known outcome, and what it says of sets that are not as they should be."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from tests.evaluation.material import Seeing, patches
from tests.evaluation.test_context import make_bank, make_context
from tests.training.material import Hooked, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, TextFeatures
from vlmprompt.data import ood_sets
from vlmprompt.data.images import read_image
from vlmprompt.data.ood_sets import OodSet, benchmarks
from vlmprompt.data.records import Dataset
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.failures import incomplete
from vlmprompt.evaluation.measuring import Runner
from vlmprompt.evaluation.ood_metrics import OOD_METRICS, ood_metrics
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.scored import score_split
from vlmprompt.evaluation.suites.ood import OodSuite
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.coop import CoOp, CoOpConfig
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score_names import SCORES
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training.runs import load_run


def make_others(folder: Path, name: str, classes: Sequence[str], *, n: int = 3, seed: int = 0) -> Path:
    """Class folders of plain noise."""
    noise = np.random.default_rng(seed)
    for kind in classes:
        (folder / name / kind).mkdir(parents=True)
        for i in range(n):
            pixels = noise.integers(0, 255, (40, 36, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / kind / f"{i}.png")
    return folder / name


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "run"))


def measure(run: Path, backbone: Backbone, *others: Path, suite: str = "ood", **more: Any) -> list[ResultRow]:
    named = {"ood": [f"folder:{path}" for path in others]}
    return evaluate(run, suite, runtime(run.parent), companions=named, backbone=backbone, **more)


def softmax_max(cosines: Tensor) -> Tensor:
    return cosines.double().softmax(dim=-1).amax(dim=-1)


def plain_scores(method: PromptMethod, images: Sequence[Tensor]) -> dict[str, list[float]]:
    """MCM and its local kin, image by image and written out."""
    backbone = method.backbone
    with torch.no_grad():
        text_Kd = F.normalize(method.encode_text().features_PKd[0], dim=-1)
        found: dict[str, list[float]] = {"mcm": [], "l-mcm": [], "gl-mcm": []}
        for image in images:
            features = backbone.encode_image(image[None], ImageNeeds(local="value_block"))
            mcm = softmax_max(F.normalize(features.global_Bd, dim=-1) @ text_Kd.T)[0]
            local = softmax_max(F.normalize(features.local_BNc[0], dim=-1) @ text_Kd.T).max()
            for name, value in zip(found, (mcm, local, mcm + local), strict=True):
                found[name].append(float(value))
    return found


def test_numbers_are_those_of_single_images(run: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    others = make_others(tmp_path, "noise", ["a", "b"])
    rows = {(r.cell, r.metric): r for r in measure(run, tiny_backbone, others, reference=False)}
    assert [cell for cell, metric in rows if metric == "auroc"] == [f"noise/{score}" for score in SCORES]
    loaded = load_run(run)
    method, transform = loaded.build_method(tiny_backbone), tiny_backbone.transform(train=False)
    inside = [transform(read_image(r)) for r in loaded.load_dataset().split("test")]
    outside = [transform(Image.open(path).convert("RGB")) for path in sorted(others.rglob("*.png"))]
    of_id, of_ood = plain_scores(method, inside), plain_scores(method, outside)
    for score in of_id:
        for metric, value in ood_metrics(of_id[score], of_ood[score]).items():
            row = rows[f"noise/{score}", metric]
            assert row.value == pytest.approx(value, abs=1e-9), (score, metric)
            assert (row.n, row.status) == (12 + 6, "ok")
            assert row.higher_is_better == OOD_METRICS[metric]
    assert rows["noise/gl-mcm", "auroc"].note == "global cosines and local cosines (value_block)"
    assert rows["noise/msp", "auroc"].note == "logits"


def test_the_mean_over_sets_and_what_is_done_already(run: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    sets = [make_others(tmp_path, name, ["a"], n=n, seed=n) for name, n in (("noise", 4), ("more", 5))]
    rows = measure(run, tiny_backbone, *sets, reference=False)
    values = {(r.cell, r.metric): r.value for r in rows}
    for metric in OOD_METRICS:
        assert values["mean/mcm", metric] == pytest.approx(
            (values["noise/mcm", metric] + values["more/mcm", metric]) / 2
        )
    (mean,) = [r for r in rows if (r.cell, r.metric) == ("mean/mcm", "auroc")]
    assert mean.note == "global cosines; mean over noise, more"
    progress = Hooked()
    again = measure(run, tiny_backbone, *sets, reference=False, progress=progress)
    assert again == rows
    assert any(f"{3 * len(SCORES)} cells were measured before" in text for text in progress.messages)
    Image.new("RGB", (40, 36)).save(sets[0] / "a" / "new.png")  # another set of images is other work
    changed = {(r.cell, r.metric): r.n for r in measure(run, tiny_backbone, *sets, reference=False)}
    assert (changed["noise/mcm", "auroc"], changed["more/mcm", "auroc"]) == (12 + 5, 12 + 5)


def test_every_method_gives_what_it_can(run: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    rows = measure(run, tiny_backbone, make_others(tmp_path, "noise", ["a"]))
    assert {r.method for r in rows} == {"coop", "zeroshot", "linear_probe"}
    refused = {(r.method, r.cell.split("/")[1]): r.note for r in rows if r.status != "ok"}
    assert set(refused) == {("linear_probe", score) for score in ("mcm", "l-mcm", "gl-mcm", "entropy", "var")}
    assert refused["linear_probe", "mcm"] == "the score needs cosines, and this method's logits are none"
    assert all(r.value is None and r.status == "not_applicable" for r in rows if r.status != "ok")
    assert incomplete(rows) is None


class Unsteady(CoOp):
    """CoOp that loses its numbers on some images."""

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        output = super().classify(features, text)
        output.global_cosines[1::3] = float("nan")
        return output


class Given(OodSuite):
    """The suite over sets in memory: 2, 3, 4 .. coloured patches a class, by kind."""

    def __init__(self, groups: dict[str, list[str]]) -> None:
        super().__init__()
        names = [(name, group) for group, members in groups.items() for name in members]
        self.sets = [
            OodSet(name, group, name, partial(patches, 5, n, [], name=name)) for n, (name, group) in enumerate(names, 2)
        ]

    def _sets(self, context: Context) -> Sequence[OodSet]:
        return self.sets


def results(backbone: Backbone, method_type: type[CoOp], groups: dict[str, list[str]], folder: Path) -> list[ResultRow]:
    """The rows of a method with random prompts over three kinds of patches."""
    dataset = patches(3, 3, [])
    method = method_type(backbone, dataset.class_names, CoOpConfig(n_ctx=2)).eval()
    context = make_context(dataset, make_bank(backbone), method)
    runner = Runner(Ledger(ResultStore(folder / "results.jsonl")), "towers", progress=Hooked())
    return runner.measure([context], [Given(groups)])


def test_near_and_far_have_means_of_their_own(tiny_backbone: Backbone, tmp_path: Path) -> None:
    rows = results(tiny_backbone, Seeing, {"near": ["x"], "far": ["y", "z"]}, tmp_path)
    values = {r.cell: r.value for r in rows if r.metric == "auroc" and r.cell.endswith("/mcm")}
    assert list(values) == ["x/mcm", "y/mcm", "z/mcm", "mean-near/mcm", "mean-far/mcm", "mean/mcm"]
    assert values["mean-near/mcm"] == values["x/mcm"]
    assert values["mean-far/mcm"] == pytest.approx((values["y/mcm"] + values["z/mcm"]) / 2)
    assert values["mean/mcm"] == pytest.approx((values["x/mcm"] + values["y/mcm"] + values["z/mcm"]) / 3)


def test_scores_that_are_no_numbers_are_named_and_not_written(tiny_backbone: Backbone, tmp_path: Path) -> None:
    rows = results(tiny_backbone, Unsteady, {"": ["x"]}, tmp_path)
    failed = {r.cell for r in rows if r.status == "failed"}
    assert failed == {f"x/{score}" for score in SCORES if score not in ("msp", "l-mcm")}
    (note,) = {r.note for r in rows if r.cell == "x/mcm"}
    assert note == "score mcm of 2 images of patches is not finite, the first is 0/1"  # batches of 4, 4, 1
    text = (tmp_path / "results.jsonl").read_text()
    assert "NaN" not in text and all(r.value is None for r in rows if r.status == "failed")


def test_classes_that_both_sides_have_are_warned_about(run: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    others = make_others(tmp_path, "noise", ["Grey_Wolf", "dots"])
    progress = Hooked()
    warned: list[str] = []
    progress.warn = warned.append  # type: ignore[method-assign]
    measure(run, tiny_backbone, others, progress=progress)
    assert warned == [
        "OOD set noise has classes that the run was trained on, 'Grey Wolf': "
        "their images count as other things; take them out if they show the same"
    ]


def test_a_set_that_cannot_be_read_stops_before_anything_is_measured(
    run: Path, tiny_backbone: Backbone, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in ((tmp_path / "empty", "OOD set .* has no images"), (tmp_path / "nowhere", "there is no")):
        with pytest.raises(InputError, match=message):
            measure(run, tiny_backbone, path)
    assert not (run / "results.jsonl").exists()


def test_a_data_set_without_sets_says_how_to_give_some(run: Path, tiny_backbone: Backbone) -> None:
    rows = measure(run, tiny_backbone)
    assert [(r.method, r.cell, r.status) for r in rows] == [("coop", "*", "missing")]
    assert rows[0].note.endswith("names no OOD sets; give some: --ood folder:PATH")


def test_a_broken_image_fails_its_set_alone(run: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    good, bad = (make_others(tmp_path, name, ["a"]) for name in ("good", "bad"))
    (bad / "a" / "1.png").write_bytes(b"no image")
    rows = measure(run, tiny_backbone, good, bad, reference=False)
    status = {r.cell: r.status for r in rows}
    assert (status["good/mcm"], status["bad/mcm"], status["mean/mcm"]) == ("ok", "failed", "failed")
    assert all("1.png" in r.note for r in rows if r.status == "failed")


def test_published_collections_by_the_suites_argument(
    run: Path, tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of four sets are there: they are measured, and what is missing fails in one cell, without a mean."""
    whole = benchmarks()["imagenet-mos"]
    small = whole.model_copy(update={"sets": tuple(s.model_copy(update={"images": 3}) for s in whole.sets)})
    monkeypatch.setattr(ood_sets, "benchmarks", lambda: {"imagenet-mos": small})
    for name in ("SUN", "Places"):
        make_others(tmp_path / "ood_data", name, ["images"])
    where = runtime(run.parent).model_copy(update={"root": tmp_path})
    rows = evaluate(run, "ood:imagenet-mos", where, backbone=tiny_backbone, reference=False)
    cells = {r.cell: r.status for r in rows}
    assert cells == {f"{name}/{score}": "ok" for name in ("SUN", "Places") for score in SCORES} | {"*": "failed"}
    assert {r.suite for r in rows} == {"ood:imagenet-mos"}
    note = next(r.note for r in rows if r.cell == "SUN/mcm")
    assert "ID: 12 images of photos, published numbers have ImageNet's 50,000" in note
    problem = next(r.note for r in rows if r.cell == "*")
    assert "OOD set iNaturalist is not there" in problem and "OOD set Textures is not there" in problem
    assert incomplete(rows) is not None


def test_suites_and_their_arguments(run: Path, tiny_backbone: Backbone) -> None:
    with pytest.raises(UsageError, match="unknown OOD benchmark 'imagenet'"):
        measure(run, tiny_backbone, suite="ood:imagenet")
    with pytest.raises(UsageError, match="suite 'accuracy' takes no argument"):
        measure(run, tiny_backbone, suite="accuracy:five")


# -- local features for methods without any ------------------------------------------------------------------
def test_local_features_are_added_without_touching_the_method(tiny_backbone: Backbone) -> None:
    names = ["cat", "dog"]
    coop = build_method("coop", tiny_backbone, names, {"n_ctx": 2}).eval()
    with_local = coop.with_local()
    assert (coop.image_needs(), with_local.image_needs()) == (ImageNeeds(), ImageNeeds(local="value_block"))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    plain, more = coop(images), with_local(images)
    assert plain.local is None
    assert torch.equal(plain.logits, more.logits)
    assert more.local_cosines.shape == (2, 16, 2)
    assert with_local.with_local() is with_local
    assert with_local.with_classes(["owl"]).image_needs().local == "value_block"
    gallop = build_method("gallop", tiny_backbone, names, {"topk": [1, 2]})
    assert gallop.with_local() is gallop
    probe = build_method("linear_probe", tiny_backbone, names)
    assert probe.with_local() is probe


def test_prompted_towers_give_prompted_local_features(tiny_backbone: Backbone) -> None:
    bloom = build_method("bloom", tiny_backbone, ["cat", "dog"], {"depth": 2, "d_m": 8}).with_local().eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cosines = bloom(images).local_cosines
        zeroshot = build_method("zeroshot", tiny_backbone, ["cat", "dog"]).with_local()(images).local_cosines
    assert cosines.shape == zeroshot.shape == (2, 16, 2)
    assert not torch.allclose(cosines, zeroshot, atol=1e-4)


def test_global_prompts_alone_are_matched_with_added_patches(tiny_backbone: Backbone) -> None:
    method = build_method("gallop", tiny_backbone, ["cat", "dog"], {"use_local": False}).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert method(images).local is None
        found = method.with_local()(images).local_cosines
        patches_BNd = tiny_backbone.encode_image(images, ImageNeeds(local="value_block")).local_BNc
        text_Kd = method.encode_text().unit_PKd.mean(dim=0)
    assert patches_BNd is not None
    torch.testing.assert_close(found, F.normalize(patches_BNd, dim=-1) @ text_Kd.T)


def test_a_method_without_patches_gives_its_other_scores(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PromptMethod, "with_local", lambda self: self)
    dataset = patches(3, 2, [])
    scored = score_split(make_context(dataset, make_bank(tiny_backbone)), dataset)
    assert set(scored.refused) == {"l-mcm", "gl-mcm"} and set(scored.values) == set(SCORES) - set(scored.refused)
    with pytest.raises(CapabilityError, match="local"):
        scored.of("gl-mcm")


def test_local_and_frozen_alike_share_one_pass(tiny_backbone: Backbone) -> None:
    reads: list[int] = []
    dataset: Dataset = patches(3, 2, reads)
    bank = make_bank(tiny_backbone)
    for name in ("coop", "zeroshot"):
        method = build_method(name, tiny_backbone, dataset.class_names).with_local()
        assert len(list(make_context(dataset, bank).outputs(method, dataset))) == 2
    assert len(reads) == 6
