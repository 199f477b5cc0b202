"""Slips of the contract that would pass in silence: hooks misspelt or uncallable, options that do not come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field, computed_field, field_serializer

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli import options_help
from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import PluginError, UsageError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.config import CoOpConfig, MethodConfig
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.overridden import near_miss, slips, uncallable
from vlmprompt.plugins import host
from vlmprompt.registry import Entry, Source

ACME = Source("acme", "acme-prompts", "1.2.3")
WHO = "method 'nudge' of plugin 'acme' (acme-prompts 1.2.3)"
Register = Callable[..., Entry]


class Fine(CoOp):
    """Nothing is wrong with it."""


class Inner(BaseModel):
    """Options within an option."""

    rank: int = 4
    alpha: float = 0.5


class Computed(CoOpConfig):
    """With a value that follows from another."""

    @computed_field
    @property
    def total(self) -> int:
        return 2 * self.n_ctx


class Nested(CoOpConfig):
    inner: Inner = Inner()


class Aliased(CoOpConfig):
    depth: int = 3

    model_config: ClassVar[Any] = {"alias_generator": str.upper}


class Lost(CoOpConfig):
    """An option that is left out when it is written."""

    depth: int = Field(3, exclude=True)


class Rounded(CoOpConfig):
    """An option that is written as something else."""

    tone: float = 0.25

    @field_serializer("tone")
    def _rounded(self, tone: float) -> float:
        return round(tone)


class Garbled(CoOpConfig):
    """An option that is written as nothing that could be read."""

    tone: float = 0.25

    @field_serializer("tone")
    def _in_words(self, tone: float) -> str:
        return "a quarter"


class Misspelt(CoOpConfig):
    preset: ClassVar[dict[str, Any]] = {"small": {"n_ctx": 2}}


@pytest.fixture
def register() -> Iterator[Register]:
    def add(cls: str = "Fine", config: str = "vlmprompt.methods.config:CoOpConfig") -> Entry:
        own = config if ":" in config else f"{__name__}:{config}"
        host().methods.register("nudge", target=f"{__name__}:{cls}", config=own, source=ACME)
        return host().methods.get("nudge")

    yield add
    host().methods.withdraw(ACME)


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [("loss", "loss", 0), ("loss", "los", 1), ("image_need", "image_needs", 1), ("clasisfy", "classify", 1),
     ("visual_promt", "visual_prompts", 2), ("", "abc", 3), ("kitten", "sitting", 3)],
)  # fmt: skip
def test_slips_are_counted(a: str, b: str, expected: int) -> None:
    assert slips(a, b) == slips(b, a) == expected


def method(**members: Any) -> type[PromptMethod]:
    return type("Nudge", (CoOp,), {"__module__": "acme", **members})


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("visual_prompt", "visual_prompts"),
        ("text_prompt", "text_prompts"),
        ("sample_draw", "sample_draws"),
        ("image_need", "image_needs"),
        ("clasify", "classify"),
        ("end_epcoh", "end_epoch"),
        ("capabilites", "capabilities"),
        ("require", "requires"),
        ("foreign_sate", "foreign_state"),
        ("visual_promt", "visual_prompts"),
        ("_visual_prompt", None),
        ("fits", None),
        ("prompt_loss", None),
        ("text_features", None),
        ("start", None),
        ("image_features", None),
        ("told", None),
    ],
)
def test_a_near_miss_is_one_slip_from_a_hook(name: str, meant: str | None) -> None:
    found = near_miss(method(**{name: lambda self: None}), PromptMethod)
    assert found == (None if meant is None else (name, meant))


def test_beside_the_hook_itself_a_helper_may_be_called_alike() -> None:
    own = {"text_prompt": lambda self: None, "text_prompts": lambda self, global_Bd=None, *, draws=None: None}
    assert near_miss(method(**own), PromptMethod) is None
    inherited = type("Nudge", (method(text_prompts=own["text_prompts"]),), {"__module__": "acme", "text_prompt": 1})
    assert near_miss(inherited, PromptMethod) is None
    assert near_miss(
        type("Nudge", (CoOp,), {"__module__": "acme", "__annotations__": {"require": "int"}}), PromptMethod
    )


@pytest.mark.parametrize(
    ("members", "wrong", "right"),
    [
        ({"classify": lambda self, features: None}, "classify(self, features) cannot be called as it will be",
         "classify(self, features, text, **method_options)"),
        ({"text_prompts": lambda self, global_Bd=None: None}, "text_prompts(self, global_Bd=None) cannot be called",
         "text_prompts(self, global_Bd=None, *, draws=None)"),
        ({"loss": lambda self, output: None}, "loss(self, output) cannot be called",
         "loss(self, output, labels, *, draws=None, weights=None)"),
        ({"foreign_state": lambda cls, content: None}, "foreign_state is no class method",
         "@classmethod foreign_state(cls, content)"),
        ({"curves": classmethod(lambda cls: ())}, "curves(cls) cannot be called", "@classmethod curves(cls, names)"),
        ({"image_needs": 3}, "image_needs = 3 is no method", "image_needs(self)"),
        ({"__init__": lambda self, backbone, class_names, config: None}, "__init__(self, backbone, class_names, c",
         "__init__(self, backbone, class_names, config, *, descriptions=None, generator=None)"),
    ],
)  # fmt: skip
def test_a_hook_that_cannot_be_called(members: dict[str, Any], wrong: str, right: str) -> None:
    found = uncallable(method(**members))
    assert found is not None and found[0].startswith(wrong) and found[1] == right


@pytest.mark.parametrize(
    "members",
    [
        {"loss": lambda self, output, labels: None},
        {"loss": lambda self, out, y, **more: None},
        {"classify": lambda self, features, text, keep_plan=False: None},
        {"start_epoch": lambda *args: None},
        {"reads_descriptions": staticmethod(lambda config: "never")},
        {"__init__": lambda self, *args, **more: None},
    ],
)
def test_other_ways_to_write_a_hook(members: dict[str, Any]) -> None:
    assert uncallable(method(**members)) is None


def test_all_that_is_installed_is_spelt_right() -> None:
    for entry in host().methods.entries():
        assert near_miss(entry.load(), PromptMethod) is None and uncallable(entry.load()) is None
        assert near_miss(entry.load_config() or MethodConfig, MethodConfig) is None


@pytest.mark.parametrize(
    ("cls", "message", "hint"),
    [
        ("Promt", "Promt.text_prompt is nothing that PromptMethod has",
         "did you mean 'text_prompts'? A helper of its own begins with an underscore: '_text_prompt'"),
        ("Narrow", "Narrow.classify(self, features) cannot be called as it will be",
         "write it like classify(self, features, text, **method_options)"),
    ],
)  # fmt: skip
def test_it_is_refused_when_it_is_built(
    register: Register, tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch, cls: str, message: str, hint: str
) -> None:
    members = {"Promt": {"text_prompt": lambda self: None}, "Narrow": {"classify": lambda self, features: None}}[cls]
    made = type(cls, (CoOp,), {"__module__": __name__, **members})
    monkeypatch.setitem(globals(), cls, made)
    register(cls)
    with pytest.raises(PluginError) as caught:
        build_method("nudge", tiny_backbone, ("cat", "dog"))
    assert caught.value.message == f"{WHO}: {message}"
    assert caught.value.hint == f"{hint}; tell the author of acme-prompts"


def test_a_computed_value_is_no_option(register: Register, tiny_backbone: Backbone) -> None:
    register(config="Computed")
    run = resolve({"method": "nudge", "data": "doodles", "options.n_ctx": 3}, env={}).run
    stored = RunConfig.model_validate_json(run.model_dump_json())
    assert "total" not in stored.options
    method = build_method("nudge", tiny_backbone, ("cat", "dog"), stored.options)
    assert method.config.total == 6  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"unknown configuration key 'options\.total'"):
        resolve({"method": "nudge", "data": "doodles", "options.total": 3}, env={})


def test_options_within_an_option_are_set_as_a_whole(register: Register) -> None:
    register(config="Nested")
    run = resolve({"method": "nudge", "data": "doodles"}, sets=["inner={ rank = 8 }"], env={}).run
    assert run.options["inner"] == {"rank": 8, "alpha": 0.5}
    stored = RunConfig.model_validate_json(run.model_dump_json())
    assert method_config("nudge", stored.options).inner == Inner(rank=8)  # type: ignore[attr-defined]
    with pytest.raises(UsageError, match=r"options\.inner is set as a whole") as caught:
        resolve({"method": "nudge", "data": "doodles", "options.inner.rank": 8}, env={})
    assert caught.value.hint == "--set 'options.inner={ rank = ... }', which leaves all else in it at its default"
    page = options_help.page(options_help.describe(Nested))
    assert 'inner  ({rank = integer, alpha = number}; default {"rank" = 4, "alpha" = 0.5})' in page


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("Aliased", "option 'keep_underscores' has an alias, but it is set, kept and shown by one name"),
        ("Lost", "option 'depth' does not come back from run.json as it was"),
        ("Rounded", "option 'tone' does not come back from run.json as it was"),
        ("Garbled", "its defaults do not come back from run.json: tone: Input should be a valid number"),
        ("Misspelt", "Misspelt.preset is nothing that MethodConfig has"),
    ],
)
def test_options_that_cannot_be_kept_are_refused(register: Register, config: str, reason: str) -> None:
    register(config=config)
    with pytest.raises(PluginError) as caught:
        method_config("nudge")
    assert caught.value.message.startswith(f"{WHO}: {reason}")
    assert "tell the author of acme-prompts" in str(caught.value.hint)
