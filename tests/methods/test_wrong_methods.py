"""Methods of plugins whose authors have slipped: refused when they are built, in the words of their package."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageFeatures, ImageNeeds, TextFeatures, TextPrompts
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import CapabilityError, InputError, PluginError
from vlmprompt.methods.blame import blaming
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.config import CoOpConfig
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.foreign import ForeignState
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.methods.served import refusals
from vlmprompt.methods.trial import try_methods
from vlmprompt.plugins import host
from vlmprompt.registry import Entry, Source
from vlmprompt.training.recognised import recognise

NAMES = ("cat", "red panda", "ash")
ACME = Source("acme", "acme-prompts", "1.2.3")
WHO = "method 'nudge' of plugin 'acme' (acme-prompts 1.2.3)"
COOP = "vlmprompt.methods.config:CoOpConfig"
DEBUG = "--debug shows all that led to it"
Register = Callable[..., Entry]


class NewClases(CoOp):
    capabilities = frozenset({"new_clases", "feature_cache"})


class OneText(CoOp):
    capabilities = "new_classes"  # type: ignore[assignment]


class VisualPromts(CoOp):
    requires: ClassVar[frozenset[str]] = frozenset({"visual_promts"})


class LaterTypo(CoOp):
    def create(self) -> None:
        super().create()
        self.capabilities = self.capabilities | {"locl"}


class Patches(CoOp):
    def image_needs(self) -> ImageNeeds:
        return ImageNeeds(local="patches")  # type: ignore[arg-type]


class Somewhere(CoOp):
    def image_needs(self) -> ImageNeeds:
        return ImageNeeds(space="raw")  # type: ignore[arg-type]


class Unsaid(CoOp):
    def image_needs(self) -> ImageNeeds:
        return None  # type: ignore[return-value]


class Narrow(CoOp):
    """A column is missing."""

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        output = super().classify(features, text, **method_options)
        return replace(output, logits=output.logits[:, 1:])


class Bare(CoOp):
    """Logits instead of an output."""

    def classify(self, features: ImageFeatures, text: TextFeatures, **method_options: Any) -> MethodOutput:
        return super().classify(features, text, **method_options).logits  # type: ignore[return-value]


class PerImage(CoOp):
    """A loss for each image."""

    def loss(self, output: MethodOutput, labels: Tensor, **more: Any) -> Losses:
        return Losses(output.logits[:, 0])


class Crashing(CoOp):
    """Fails in one of its hooks; a class attribute says how."""

    error: ClassVar[BaseException] = RuntimeError("out of ink")

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        raise self.error

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        raise KeyError("no such tensor")


class Settled(CoOp):
    """Cannot have other classes, but does not say so."""

    def renew(self, template: str | None) -> None:
        raise KeyError("tone")


class Needy(CoOpConfig):
    """An option has no default."""

    colour: str


class Fine(CoOp):
    """Nothing is wrong with it."""


@pytest.fixture
def register() -> Iterator[Register]:
    """Registers a class of this module as the method "nudge" of a plugin."""

    def add(cls: str, config: str | None = COOP, **more: Any) -> Entry:
        host().methods.register("nudge", target=f"{__name__}:{cls}", config=config, source=ACME, **more)
        return host().methods.get("nudge")

    yield add
    host().methods.withdraw(ACME)


@pytest.mark.parametrize(
    ("cls", "message", "hint"),
    [
        ("NewClases", "capabilities holds an unknown name 'new_clases'", "did you mean 'new_classes'? allowed: "),
        ("OneText", "capabilities = 'new_classes' is no set of names", "write capabilities = frozenset({...})"),
        ("VisualPromts", "requires holds an unknown name 'visual_promts'", "allowed: deep_text_prompts, image_deltas"),
        ("LaterTypo", "capabilities holds an unknown name 'locl'", "did you mean 'local'?"),
        (
            "Patches",
            "image_needs() asks for local = 'patches'",
            "allowed: None, value_block, tokens, value_only, value_attention",
        ),
        ("Somewhere", "image_needs() asks for space = 'raw'", "allowed: pre_proj, joint"),
        ("Unsaid", "image_needs() gives a NoneType", "return an ImageNeeds"),
        ("NAMES", ":NAMES is not a PromptMethod but a tuple", "name a subclass of PromptMethod"),
        ("Register", ":Register is not a PromptMethod", "name a subclass of PromptMethod"),
    ],
)
def test_a_slip_is_refused_when_it_is_built(
    register: Register, tiny_backbone: Backbone, cls: str, message: str, hint: str
) -> None:
    register(cls)
    with pytest.raises(PluginError) as caught:
        build_method("nudge", tiny_backbone, NAMES, {})
    assert caught.value.message.startswith(f"{WHO}: ") and message in caught.value.message
    assert hint in str(caught.value.hint) and str(caught.value.hint).endswith("tell the author of acme-prompts")


def test_options_that_were_not_registered(register: Register, tiny_backbone: Backbone) -> None:
    register("Fine", None)
    with pytest.raises(PluginError) as caught:
        build_method("nudge", tiny_backbone, NAMES)
    assert caught.value.message == f"{WHO} reads an option 'class_specific', but is registered without options"
    assert "config= of register()" in str(caught.value.hint)


def test_options_of_another_class(register: Register, tiny_backbone: Backbone) -> None:
    config = "vlmprompt.methods.config:ZeroShotConfig"
    register("Fine", config)
    with pytest.raises(
        PluginError, match=f"reads an option 'class_specific', but is registered with those of {config}"
    ):
        build_method("nudge", tiny_backbone, NAMES)


@pytest.mark.parametrize("config", [f"{__name__}:Fine", f"{__name__}:NAMES"])
def test_options_that_are_none(register: Register, config: str) -> None:
    register("Fine", config)
    with pytest.raises(PluginError, match="is not a MethodConfig") as caught:
        method_config("nudge")
    assert caught.value.message.startswith(WHO)
    with pytest.raises(PluginError, match="is not a MethodConfig") as caught:
        resolve({"method": "nudge", "data": "doodles"}, env={})
    assert caught.value.message.startswith(WHO)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "the overrides slips:nudge.toml cannot be read"),
        ("[[override]]\noptions = { n_cxt = 2 }", "slips:nudge.toml sets an unknown key 'options.n_cxt'"),
        ("[[overide]]\n", "cannot be read: .*overide"),
    ],
)
def test_shipped_settings(
    register: Register,
    tiny_backbone: Backbone,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    text: str | None,
    message: str,
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "slips", raising=False)
    (tmp_path / "slips").mkdir()
    (tmp_path / "slips" / "__init__.py").write_text("")
    if text is not None:
        (tmp_path / "slips" / "nudge.toml").write_text(text)
    register("Fine", overrides="slips:nudge.toml", summary=str(tmp_path))
    for use in (
        lambda: build_method("nudge", tiny_backbone, NAMES),
        lambda: resolve({"method": "nudge", "data": "doodles"}, env={}),
    ):
        with pytest.raises(PluginError, match=message) as caught:
            use()
        assert caught.value.message.startswith(f"{WHO}: ")


def test_logits_of_another_shape(register: Register, tiny_backbone: Backbone) -> None:
    register("Narrow")
    method = build_method("nudge", tiny_backbone, NAMES)
    for ask in (method, method.frozen()):
        with pytest.raises(PluginError, match=r"gives logits of shape \(2, 2\) for 2 images and 3 classes") as caught:
            ask(torch.zeros(2, 3, 32, 32))
        assert caught.value.message.startswith(WHO)
        assert "they must be (2, 3)" in str(caught.value.hint)


def test_something_else_than_an_output(register: Register, tiny_backbone: Backbone) -> None:
    register("Bare")
    with pytest.raises(PluginError, match="gives a Tensor for images"):
        build_method("nudge", tiny_backbone, NAMES)(torch.zeros(2, 3, 32, 32))


def test_a_crash_names_the_package_and_keeps_its_cause(register: Register, tiny_backbone: Backbone) -> None:
    register("Crashing")
    method = build_method("nudge", tiny_backbone, NAMES)
    for ask in (lambda: method(torch.zeros(2, 3, 32, 32)), method.frozen):
        with pytest.raises(PluginError) as caught:
            ask()
        where = r"failed in Crashing.text_prompts \(test_wrong_methods.py, line \d+\): RuntimeError: out of ink"
        assert caught.match(where) and caught.value.message.startswith(WHO)
        assert caught.value.__cause__ is Crashing.error
        assert caught.value.hint == f"tell the author of {ACME.distribution}; {DEBUG}"


@pytest.mark.parametrize(
    "error",
    [
        InputError("no such list"),
        CapabilityError("not with this tower"),
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        OSError(28, "No space left on device"),
        KeyboardInterrupt(),
    ],
)
def test_what_is_nobodys_slip_stays_as_it_is(
    register: Register, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    register("Crashing")
    monkeypatch.setattr(Crashing, "error", error)
    with pytest.raises(type(error)) as caught:
        build_method("nudge", tiny_backbone, NAMES)(torch.zeros(2, 3, 32, 32))
    assert caught.value is error


def test_a_method_that_nobody_registered_or_of_the_core_keeps_its_error(
    tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RuntimeError, match=r"^out of ink$"):
        Crashing(tiny_backbone, NAMES, method_config("coop"))(torch.zeros(2, 3, 32, 32))
    with pytest.raises(ZeroDivisionError), blaming(host().methods.get("coop")):
        _ = 1 // 0


def test_around_more_than_calls_of_it_only_its_own_code_is_blamed(register: Register) -> None:
    entry = register("Fine")
    with pytest.raises(PluginError, match="ZeroDivisionError"), blaming(entry, wide=True):
        _ = 1 // 0  # this file is of the package
    elsewhere = compile("1 // 0", "elsewhere.py", "exec")
    with pytest.raises(ZeroDivisionError), blaming(replace(entry, target="acme.method:Fine"), wide=True):
        exec(elsewhere, {"__name__": "reader"})


def test_a_trial_says_which_do_not_work(register: Register) -> None:
    """All that are installed do; one that is made up does not, nor does one whose loss is of no use."""
    done: list[int] = []
    register("Crashing")
    host().methods.register("shove", target=f"{__name__}:PerImage", config=COOP, source=ACME)
    host().methods.register("push", target=f"{__name__}:Fine", config=f"{__name__}:Needy", source=ACME)
    host().methods.register("swap", target=f"{__name__}:Settled", config=COOP, source=ACME)
    failed, untried = try_methods(["nudge", "coop", "shove", "push", "swap"], lambda: done.append(1))
    assert failed.keys() == {"nudge", "shove", "swap"} and untried.keys() == {"push"} and len(done) == 5
    assert failed["nudge"].message.startswith(f"{WHO} failed in Crashing.text_prompts")
    assert failed["nudge"].__cause__ is Crashing.error
    assert "gives a loss whose 'total' has shape (2,)" in failed["shove"].message
    assert untried["push"] == "method 'push' needs option colour"


@pytest.mark.parametrize("cls", ["NewClases", "Crashing"])
def test_others_are_not_disturbed(register: Register, tiny_backbone: Backbone, cls: str) -> None:
    register(cls)
    found = refusals(tiny_backbone)
    assert found["coop"] is None
    assert found["nudge"] is None if cls == "Crashing" else "new_clases" in str(found["nudge"])
    with pytest.raises(InputError, match="no method that is known here"):
        recognise({"something": torch.zeros(1)}, "x.pt")
