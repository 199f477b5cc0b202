"""From names and options to methods: what is refused, and how it is said."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import ClassVar

import pytest
import torch
from pydantic import Field, model_validator
from torch.nn import functional as F

from vlmprompt.errors import CapabilityError, InputError, PluginError, UsageError
from vlmprompt.methods.build import build_method, list_methods, method_config
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.coop import CoOp, CoOpConfig
from vlmprompt.plugins import host
from vlmprompt.registry import Source

NAMES = ["cat", "dog", "red_panda"]


class PairConfig(MethodConfig):
    presets: ClassVar = {"wide": {"a": 5, "b": 6}}
    a: int = Field(1, ge=1, description="first of the pair, in units")
    b: int = Field(2, description="second of the pair")

    @model_validator(mode="after")
    def _ordered(self) -> PairConfig:
        if self.a >= self.b:
            raise ValueError("a must be less than b")
        return self


class Prompted(PromptMethod):
    requires = frozenset({"visual_prompts"})


@pytest.fixture
def registered() -> Iterator[None]:
    source = Source("made-up", "made-up", "1")
    methods = host().methods
    here = __name__
    methods.register("pair", target=f"{here}:PromptMethod", config=f"{here}:PairConfig", source=source)
    methods.register("prompted", target=f"{here}:Prompted", source=source)
    methods.register("no-method", target=f"{here}:PairConfig", source=source)
    yield
    methods.withdraw(source)


def test_built_in_methods_are_listed():
    assert {"coop", "linear_probe", "zeroshot"} <= set(list_methods())


def test_options_are_validated_and_complete(tiny_backbone):
    method = build_method("coop", tiny_backbone, NAMES, {"n_ctx": 3})
    assert isinstance(method, CoOp)
    assert method.config == CoOpConfig(n_ctx=3, ctx_init=None, class_position="end", class_specific=False)
    assert method_config("coop").model_dump()["n_ctx"] == 16
    assert method.class_names == tuple(NAMES)


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"nctx": 4}, "method 'coop' has no option 'nctx'", "did you mean 'n_ctx'?"),
        ({"n_ctx": 0}, "option n_ctx = 0 of method 'coop' is not allowed: it should be greater than", "n_ctx: "),
        ({"class_position": "ned"}, "option class_position = 'ned'", "class_position: "),
        ({"preset": "paper"}, "method 'coop' has no preset 'paper'", "no presets"),
    ],
)
def test_bad_options_are_one_line_and_name_the_option(tiny_backbone, options, message, hint):
    with pytest.raises(UsageError) as caught:
        build_method("coop", tiny_backbone, NAMES, options)
    assert message in caught.value.message
    assert hint in (caught.value.hint or "")
    assert "\n" not in caught.value.message


def test_unknown_method_suggests_the_nearest(tiny_backbone):
    with pytest.raises(UsageError) as caught:
        build_method("zeroshoot", tiny_backbone, NAMES)
    assert "'zeroshot'" in (caught.value.hint or "")


def test_presets_yield_to_explicit_options(registered):
    assert method_config("pair", {"preset": "wide"}) == PairConfig(a=5, b=6)
    assert method_config("pair", {"preset": "wide", "a": 2}) == PairConfig(a=2, b=6)
    with pytest.raises(UsageError, match="no preset 'wied'") as caught:
        method_config("pair", {"preset": "wied"})
    assert "'wide'" in (caught.value.hint or "")


def test_options_that_do_not_fit_together(registered):
    with pytest.raises(UsageError, match="of method 'pair' do not fit together: a must be less than b"):
        method_config("pair", {"a": 3})


def test_backbone_that_lacks_what_is_needed(registered, tiny_resnet, tiny_backbone):
    with pytest.raises(CapabilityError, match="method 'prompted' needs an image tower that takes prompt tokens"):
        build_method("prompted", tiny_resnet, NAMES)
    build_method("prompted", tiny_backbone, NAMES)


def test_target_that_is_no_method(registered, tiny_backbone):
    with pytest.raises(PluginError, match="PairConfig is not a PromptMethod but class PairConfig") as caught:
        build_method("no-method", tiny_backbone, NAMES)
    assert caught.value.message.startswith("method 'no-method' of plugin 'made-up' (made-up 1): ")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no classes"),
        (["cat", " "], "the name of class 1 is empty"),
        (["__"], "the name of class 0 is empty"),
    ],
)
def test_names_without_words(tiny_backbone, names, message):
    with pytest.raises(InputError, match=message):
        build_method("coop", tiny_backbone, names)


def test_one_text_is_no_list_of_names(tiny_backbone):
    method = build_method("zeroshot", tiny_backbone, ["cat"])
    for take in (partial(build_method, "zeroshot", tiny_backbone), method.with_classes):
        with pytest.raises(UsageError, match="class names are a list, and 'cat' is one text") as error:
            take("cat")
        assert error.value.hint == "give ['cat']"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "dog", "cat"], "classes 0 and 2 have the same name, 'cat'"),
        (["red panda", "Red_Panda"], "classes 0 and 1 have the same name, 'Red_Panda'"),
    ],
)
def test_names_that_cannot_be_told_apart_are_a_warning(tiny_backbone, names, message):
    """CLIP's names of ImageNet have "missile" and "sunglasses" twice: the papers' numbers are over these."""
    with pytest.warns(UserWarning, match=message):
        method = build_method("coop", tiny_backbone, names)
    assert method.class_names == tuple(names)


def test_underscores_are_kept_on_request(tiny_backbone):
    """GalLoP's code hands the names of the split files to the tokenizer as they are."""
    names = ["Apply_Eye_Makeup", "Yo_Yo"]
    spaces = ["Apply Eye Makeup", "Yo Yo"]
    for name in ("coop", "zeroshot"):

        def text(names, keep, name=name):
            method = build_method(name, tiny_backbone, names, {"keep_underscores": keep})
            return method.frozen_text().features_PKd

        assert torch.equal(text(names, False), text(spaces, False))
        assert torch.equal(text(spaces, True), text(spaces, False))
        assert not torch.allclose(text(names, True), text(names, False), atol=1e-4)
    kept = build_method("zeroshot", tiny_backbone, names, {"keep_underscores": True}).frozen_text().features_PKd[0]
    sentences = [f"a photo of a {name}." for name in names]
    expected = F.normalize(tiny_backbone.text.encode_sentences(sentences), dim=-1)
    torch.testing.assert_close(kept, expected)


def test_descriptions_must_be_aligned(tiny_backbone):
    with pytest.raises(InputError, match="descriptions of 1 classes, but there are 3"):
        build_method("coop", tiny_backbone, NAMES, descriptions=[["whiskers"]])


def test_a_parameter_may_have_a_methods_name(tiny_backbone):
    """`visual_prompts` is a stable parameter name and a method of the contract."""
    method = PromptMethod(tiny_backbone, NAMES, MethodConfig())
    method.add_parameter("visual_prompts", torch.ones(2, 3))
    assert callable(method.visual_prompts)
    assert dict(method.named_parameters())["visual_prompts"] is method.parameter("visual_prompts")
    method.load_trainable_state({"visual_prompts": torch.full((2, 3), 5.0)})
    assert method.to(torch.float64).parameter("visual_prompts").tolist() == [[5.0] * 3] * 2
    assert set(method.trainable_state()) == {"visual_prompts"}
