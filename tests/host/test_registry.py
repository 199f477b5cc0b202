"""Names: what may be registered, what is imported when, and what is said of a name that is not there."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vlmprompt.errors import PluginError, UsageError
from vlmprompt.registry import PluginFailure, Registry, Source

ACME = Source("acme", "acme-prompts", "1.0")
OTHER = Source("other", "other-prompts", "2.0")


def test_a_target_is_imported_on_first_use_only() -> None:
    registry = Registry("method")
    sys.modules.pop("this", None)  # a module that nothing else imports
    registry.register("zen", target="this:s.upper", config="fractions:Fraction", source=ACME)
    entry = registry.get("zen")
    assert "this" not in sys.modules
    assert entry.load()().startswith("GUR MRA")
    assert entry.load_config().__name__ == "Fraction"
    assert (entry.plugin, entry.distribution, entry.version) == ("acme", "acme-prompts", "1.0")


@pytest.mark.parametrize(
    "wrong",
    [
        {"target": "pkg.mod"},
        {"target": "pkg.mod:"},
        {"target": ":Class"},
        {"target": "pkg/mod:Class"},
        {"target": "pkg.mod:Class()"},
        {"target": Registry},
        {"config": "NudgeConfig"},
        {"overrides": "nudge.toml"},
        {"name": "with space"},
        {"name": "folder:x"},
        {"name": ""},
        {"name": "--help"},
    ],
)
def test_what_has_not_its_shape_is_refused_at_registration(wrong: dict[str, str]) -> None:
    registry = Registry("method")
    given = {"name": "nudge", "target": "pkg.mod:Class"} | wrong
    with pytest.raises(PluginError, match="must be"):
        registry.register(given.pop("name"), **given, source=ACME)
    assert registry.names() == []


_identifier = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)


@given(st.lists(_identifier, min_size=1, max_size=4), st.lists(_identifier, min_size=1, max_size=3))
def test_every_dotted_path_is_a_target(module: list[str], attribute: list[str]) -> None:
    registry = Registry("suite")
    target = f"{'.'.join(module)}:{'.'.join(attribute)}"
    registry.register("x", target=target, source=ACME)
    assert registry.get("x").target == target


def test_a_name_that_is_taken_names_both_distributions() -> None:
    registry = Registry("method")
    registry.register("nudge", target="a:A", source=ACME)
    with pytest.raises(PluginError) as caught:
        registry.register("nudge", target="b:B", source=OTHER)
    assert caught.value.message == (
        "method 'nudge' is already provided by plugin 'acme' (acme-prompts 1.0), and not added from "
        "plugin 'other' (other-prompts 2.0)"
    )
    assert registry.get("nudge").target == "a:A"


def test_an_unknown_name_suggests_the_nearest() -> None:
    registry = Registry("method")
    for name in ("coop", "zeroshot", "linear_probe"):
        registry.register(name, target="a:A", source=ACME)
    with pytest.raises(UsageError) as caught:
        registry.get("zero-shot")
    assert caught.value.message == "unknown method 'zero-shot'"
    assert caught.value.hint == "did you mean 'zeroshot'?"


def test_a_name_of_a_failed_plugin_is_that_plugins_fault() -> None:
    failure = PluginFailure(
        Source("dual_pt", "vlmprompt-dual-pt", "0.1"),
        "register",
        "it broke",
        names=frozenset({("method", "twins")}),
    )
    methods, suites = Registry("method", [failure]), Registry("suite", [failure])
    for name in ("twins", "dual_pt", "dual-pt"):
        with pytest.raises(PluginError, match="it broke"):
            methods.get(name)
    with pytest.raises(UsageError) as caught:  # it would have been a method, not a suite
        suites.get("twins")
    assert "dual_pt failed" in str(caught.value.hint)


def test_a_name_of_a_disabled_plugin_says_so() -> None:
    registry = Registry("method", disabled=[ACME])
    with pytest.raises(UsageError) as caught:
        registry.get("acme")
    assert "acme is disabled" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("no_such_module_here:A", "ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("fractions:Fractoin", "AttributeError: module 'fractions' has no attribute 'Fractoin'"),
    ],
)
def test_a_target_that_cannot_be_imported_is_the_plugins_fault(target: str, reason: str) -> None:
    registry = Registry("method")
    registry.register("nudge", target=target, source=ACME)
    with pytest.raises(PluginError) as caught:
        registry.get("nudge").load()
    assert caught.value.message == (
        f"method 'nudge' of plugin 'acme' (acme-prompts 1.0) cannot be loaded from {target}: {reason}"
    )
    assert caught.value.__cause__ is not None


def test_withdrawing_takes_one_plugins_names_only() -> None:
    registry = Registry("method")
    registry.register("a", target="a:A", source=ACME)
    registry.register("b", target="b:B", source=OTHER)
    assert registry.withdraw(ACME) == {("method", "a")}
    assert registry.names() == ["b"]
