"""Methods that adapt at test time, frozen: streams, views, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from tests.evaluation.material import patches
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, TextFeatures
from vlmprompt.data.loader import ImageLoader
from vlmprompt.data.records import Record
from vlmprompt.data.views import Views
from vlmprompt.errors import CapabilityError, InputError, PluginError, UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.classifier import Classifier
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.methods.streaming import blank, joined, picked, require_fixed
from vlmprompt.methods.trial import try_methods
from vlmprompt.plugins import host
from vlmprompt.predict.predictor import Predictor
from vlmprompt.registry import Source

NAMES = ("cat", "red panda", "ash")
SOURCE = Source("made-up", "made-up", "1.0")


class Memory(PromptMethod):
    """Logits are the cosines with three fixed directions, plus the sum of those of all images before."""

    capabilities = frozenset({"new_classes", "feature_cache", "training_free", "test_time"})
    total_K: Tensor

    def create(self) -> None:
        self.register_buffer("total_K", None, persistent=False)

    def encode_text(self, *args: Any, **more: Any) -> TextFeatures:
        width = self.backbone.vision.joint_dim
        return TextFeatures(torch.eye(width)[: len(self.class_names)][None])

    def start_stream(self) -> None:
        self.total_K = torch.zeros(len(self.class_names))

    def observe(self, views: Tensor | ImageFeatures) -> MethodOutput:
        assert isinstance(views, ImageFeatures)
        plain = self.classify(views[:1], self.encode_text())
        logits_1K = plain.logits + self.total_K
        self.total_K = self.total_K + plain.logits[0]
        return MethodOutput(logits_1K, plain.scale)


class Pixels(Memory):
    """Sees three views of each image as pixels; logits are the means of each view, and what its generator draws."""

    capabilities = frozenset({"training_free", "test_time"})
    test_views = 3

    def start_stream(self) -> None:
        self.total_K = torch.rand(len(self.class_names), generator=self.generator)

    def observe(self, views: Tensor | ImageFeatures) -> MethodOutput:
        assert isinstance(views, Tensor) and views.shape[1:] == (3, 32, 32)
        drawn = torch.rand((), generator=self.generator)
        return MethodOutput(views.mean(dim=(1, 2, 3))[None] + self.total_K + drawn, 1.0)


class Forgetful(Memory):
    """Remembers in a list, which all copies share, and forgets to empty it."""

    def create(self) -> None:
        self.seen: list[Tensor] = []

    def start_stream(self) -> None:
        pass

    def observe(self, views: Tensor | ImageFeatures) -> MethodOutput:
        assert isinstance(views, ImageFeatures)
        self.seen.append(self.classify(views[:1], self.encode_text()).logits)
        return MethodOutput(torch.stack(self.seen).sum(dim=0), 1.0)


class Silent(PromptMethod):
    capabilities = frozenset({"test_time"})


class Hidden(Memory):
    capabilities = frozenset({"new_classes"})


class NoViews(Memory):
    test_views = 0


def memory(backbone: Backbone, kind: type[Memory] = Memory) -> PromptMethod:
    return kind(backbone, NAMES, MethodConfig()).eval()


def images(n: int) -> Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def photos(n: int) -> list[Image.Image]:
    return [Image.new("RGB", (40, 36), (40 * i % 256, 90 * i % 256, 10)) for i in range(n)]


def test_a_stream_is_what_a_running_sum_says(tiny_backbone: Backbone) -> None:
    method = memory(tiny_backbone)
    features = method.encode_images(images(5))
    each = tiny_backbone.scale * features.unit_Bd[:, :3]
    frozen = method.frozen()
    torch.testing.assert_close(frozen(images(5)).logits, each.cumsum(dim=0), rtol=1e-5, atol=1e-4)
    again = frozen(features).logits  # the stream goes on
    torch.testing.assert_close(again, each.cumsum(dim=0) + each.sum(dim=0), rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(frozen.stream()(features).logits, each.cumsum(dim=0), rtol=1e-5, atol=1e-4)
    assert method.total_K is None and "adapts" in repr(frozen)
    torch.testing.assert_close(method(images(5)).logits, each)  # forward knows no stream


@pytest.mark.parametrize("use", [Classifier, Predictor])
@pytest.mark.parametrize("kind", [Memory, Pixels])
def test_batches_do_not_change_the_outcome(use: Any, kind: type[Memory], tiny_backbone: Backbone) -> None:
    method = memory(tiny_backbone, kind)
    before = torch.get_rng_state()
    one, many = use(method, batch_size=1), use(method, batch_size=100)
    assert torch.equal(one(photos(7)).logits_BK, one(photos(7)).logits_BK)  # each call is a stream of its own
    torch.testing.assert_close(one(photos(7)).logits_BK, many(photos(7)).logits_BK, rtol=1e-6, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(method.generator.get_state(), torch.Generator().manual_seed(0).get_state())
    first, second = one.batches(photos(7)), one.batches(photos(7))  # two streams at once
    pairs = [(next(first).logits_BK, next(second).logits_BK) for _ in range(7)]
    assert all(torch.equal(*pair) for pair in pairs)


def test_views_hang_on_seed_id_and_number(tiny_backbone: Backbone) -> None:
    plain, random = tiny_backbone.transform(train=False), tiny_backbone.transform(train=True)
    records = [Record(r.id, r.label, r.image) for r in patches(3, 2, []).split("test")]
    views = Views(4, plain, random, seed=5)
    torch.default_generator.manual_seed(11)
    expected_draw = torch.rand(3)
    torch.default_generator.manual_seed(11)
    (batch,) = ImageLoader(records, views, 10)
    assert torch.equal(torch.rand(3), expected_draw)  # the caller's random numbers are not touched
    found = batch.images_B3HW
    assert found.shape == (6, 4, 3, 32, 32)
    (tests,) = ImageLoader(records, plain, 10)
    assert torch.equal(found[:, 0], tests.images_B3HW)
    (turned,) = ImageLoader(records[::-1], views, 10)
    assert torch.equal(turned.images_B3HW.flip(0), found)
    (some,) = ImageLoader(records, views, 10, order=[4, 1])
    assert torch.equal(some.images_B3HW, found[[4, 1]])
    noise = Image.effect_noise((40, 36), 80).convert("RGB")
    seen = views(noise, "a")
    assert torch.equal(seen, views(noise, "a"))
    assert not torch.equal(seen[1:], views(noise, "b")[1:]) and torch.equal(seen[0], views(noise, "b")[0])
    assert not torch.equal(seen[1:], Views(4, plain, random, seed=6)(noise, "a")[1:])
    assert not torch.equal(seen[1], seen[2])
    assert torch.equal(Views(2, plain, random, seed=5)(noise, "a"), seen[:2])  # whatever their number


def test_pictures_without_an_id_are_known_by_their_pixels(tiny_backbone: Backbone, tmp_path: Path) -> None:
    classifier = Classifier(memory(tiny_backbone, Pixels))
    image = Image.effect_noise((40, 36), 80).convert("RGB")
    image.save(tmp_path / "noise.png")
    assert torch.equal(classifier.tensor(image), classifier.tensor(tmp_path / "noise.png"))
    record = Record("noise", 0, tmp_path / "noise.png")
    assert not torch.equal(classifier.tensor(record)[1:], classifier.tensor(image)[1:])
    assert not torch.equal(Classifier(memory(tiny_backbone, Pixels), seed=1).tensor(image), classifier.tensor(image))
    with pytest.raises(InputError, match="a transformed picture is one view, and 3 views are made"):
        classifier(torch.zeros(3, 32, 32))


def test_wrong_numbers_of_views_are_refused(tiny_backbone: Backbone) -> None:
    frozen = memory(tiny_backbone, Pixels).frozen()
    assert blank(frozen.method, 2).shape == (2, 3, 3, 32, 32)
    with pytest.raises(InputError, match=r"sees 3 views of each image, \(B,3,3,H,W\)"):
        frozen(torch.zeros(2, 3, 32, 32))
    with pytest.raises(InputError, match=r"4 rows are no whole images"):
        frozen(ImageFeatures(torch.zeros(4, 32)))
    with pytest.raises(UsageError, match="takes no keep_plan"):
        frozen(blank(frozen.method, 1), keep_plan=True)


def test_outputs_are_joined_and_picked() -> None:
    def output(seed: int, classes: Tensor) -> MethodOutput:
        generator = torch.Generator().manual_seed(seed)
        values = torch.randn(1, 3, generator=generator).requires_grad_()
        local = LocalView(torch.randn(1, 4, 2, generator=generator), classes)
        return MethodOutput(values, 2.0, values / 2, local, {"own": values})

    shared = torch.randn(3, 2)
    whole = joined([output(i, shared) for i in range(3)])
    assert whole.local is not None and whole.local.classes.shape == (3, 2) and not whole.aux
    assert not whole.logits.requires_grad and whole.global_cosines is not None
    each = [output(i, torch.full((3, 2), float(i))) for i in range(3)]
    part = picked(joined(each), torch.tensor([2, 0]))
    assert part.local is not None and part.global_cosines is not None
    for place, i in enumerate((2, 0)):
        own = each[i].local
        assert own is not None
        assert torch.equal(part.logits[place], each[i].logits[0])
        assert torch.equal(part.global_cosines[place], each[i].logits[0] / 2)
        assert torch.equal(part.local.cosines()[place], own.cosines()[0])


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        ("Silent", r"has the capability test_time, but not observe\(views\)"),
        ("Hidden", r"has observe\(views\), but not the capability test_time"),
        ("NoViews", "test_views = 0 is no number of views"),
    ],
)
def test_half_a_declaration_is_refused(cls: str, message: str, tiny_backbone: Backbone) -> None:
    host().methods.register("half", target=f"{__name__}:{cls}", source=SOURCE)
    try:
        with pytest.raises(PluginError, match=message):
            build_method("half", tiny_backbone, NAMES)
    finally:
        host().methods.withdraw(SOURCE)


def test_the_doctor_finds_a_method_that_does_not_forget() -> None:
    for name, cls in (("forgetful", "Forgetful"), ("memory", "Memory")):
        host().methods.register(name, target=f"{__name__}:{cls}", source=SOURCE)
    try:
        failed, untried = try_methods(["forgetful", "memory"])
    finally:
        host().methods.withdraw(SOURCE)
    assert list(failed) == ["forgetful"] and not untried
    assert "a second stream of the same images has other logits than the first" in failed["forgetful"].message


def test_the_method_of_the_docs_works(tiny_backbone: Backbone) -> None:
    text = (Path(__file__).parents[2] / "docs/plugins.md").read_text(encoding="utf-8")
    (block,) = (part for part in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "class Centred" in part)
    module: dict[str, Any] = {"__name__": "documented"}
    exec(block, module)
    method: PromptMethod = module["Centred"](tiny_backbone, NAMES, MethodConfig()).eval()
    features = method.encode_images(images(4))
    text_Kd = method.encode_text().unit_PKd[0]
    unit_Bd, expected = features.unit_Bd, []
    for i in range(4):
        before = unit_Bd[:i].mean(dim=0) if i else torch.zeros(32)
        moved = unit_Bd[i] - before
        expected.append(tiny_backbone.scale * text_Kd @ moved / moved.norm())
    for _ in range(2):
        torch.testing.assert_close(method.frozen()(features).logits, torch.stack(expected), rtol=1e-4, atol=1e-3)


def test_what_needs_a_fixed_classifier_says_so(tiny_backbone: Backbone) -> None:
    with pytest.raises(CapabilityError, match="an export needs a fixed classifier, and method Memory adapts"):
        require_fixed(memory(tiny_backbone), "an export")
    require_fixed(build_method("zeroshot", tiny_backbone, NAMES), "an export")
