"""`vlmprompt plugins check`: a table, reasons, exit codes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.testing import broken_methods
from vlmprompt import plugins
from vlmprompt.cli.main import main
from vlmprompt.conformance import plugin as conformance
from vlmprompt.conformance.methods import METHOD_CHECKS
from vlmprompt.plugins import PluginHost, PluginInfo
from vlmprompt.registry import Source

ACME = Source("acme", "acme-prompts", "1.2.3")
COOP = "vlmprompt.methods.config:CoOpConfig"
FINE, SLIP = "vlmprompt.methods.coop:CoOp", f"{broken_methods.__name__}:OneImage"
# A few of them, so that a test takes a moment.
FEW = [check for check in METHOD_CHECKS if check.name in ("says_what_it_is", "one_image", "closed_form_fits")]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginHost]:
    """A host of its own with one plugin, which provides methods and more."""
    host = PluginHost()
    host.plugins.append(PluginInfo(ACME, "acme", "ok"))
    for name, target in (("fine", FINE), ("slip", SLIP)):
        host.methods.register(name, target=target, config=COOP, summary="CoOp", source=ACME)
    host.datasets.register("birds", target="fractions:Fraction", source=ACME)
    monkeypatch.setattr(plugins, "_host", host)
    tried = {**conformance._TRIED, "methods": (conformance._TRIED["methods"][0], FEW)}
    monkeypatch.setattr(conformance, "_TRIED", tried)
    yield host


def check(capsys: pytest.CaptureFixture[str], *args: str, code: int) -> dict[str, Any]:
    assert main(["plugins", "check", *args, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert (found["command"], found["ok"]) == ("plugins check", code == 0)
    return found


@pytest.mark.parametrize("name", ["acme", "acme-prompts"])
def test_a_broken_rule_is_told(host: PluginHost, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = check(capsys, name, code=4)
    slip = {row["check"]: row for row in found["data"]["tried"][1]["checks"]}
    assert {row: slip[row]["status"] for row in slip} == {
        "says_what_it_is": "ok",
        "one_image": "failed",
        "closed_form_fits": "not applicable",
    }
    assert "not finite" in slip["one_image"]["reason"] and "batch" in slip["one_image"]["step"]
    assert found["error"]["message"] == "rules are broken by slip (1)"
    assert found["error"]["hint"] == "tell the author of acme-prompts"
    assert found["data"]["notes"] == [
        "datasets (birds) are not tried here: use vlmprompt.testing.check_dataset in a test"
    ]


def test_the_table(host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "check", "acme"]) == 4
    page = capsys.readouterr().out
    assert re.search(r"check of methods +fine +slip\nsays_what_it_is +ok +ok\n", page)
    assert re.search(r"\none_image +ok +FAILED\n", page) and re.search(r"\nclosed_form_fits +- +-\n", page)
    assert "slip breaks one_image: logits of a single image are not finite" in page
    assert "  rule: A batch of one image works.\n  next step: use no statistics over the batch" in page


def test_a_plugin_that_keeps_all_rules(host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.methods.withdraw(ACME)
    host.methods.register("fine", target=FINE, config=COOP, summary="CoOp", source=ACME)
    (tried,) = check(capsys, "acme", code=0)["data"]["tried"]
    assert [row["status"] for row in tried["checks"]] == ["ok", "ok", "not applicable"]


def test_a_crash_is_told_with_its_traceback(host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.methods.withdraw(ACME)
    host.methods.register("forgetful", target=FINE, summary="registered without its options", source=ACME)
    (tried,) = check(capsys, "acme", code=4)["data"]["tried"]
    crash = tried["checks"][1]
    assert crash["status"] == "failed" and "'forgetful' of plugin 'acme'" in crash["reason"]
    assert "is registered without options" in crash["reason"] and "AttributeError" in crash["trace"][-1]


def test_a_plugin_is_found_however_its_hyphens_are_written(
    host: PluginHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.plugins[:] = [PluginInfo(Source("my_method", "vlmprompt-my-method", "0.1"), "my_method", "ok")]
    for name in ("my-method", "my_method", "vlmprompt_my_method", "Vlmprompt.My-Method"):
        assert check(capsys, name, code=0)["data"]["plugin"] == name
    assert "'my_method'" in check(capsys, "my-methods", code=2)["error"]["hint"]


def test_a_plugin_that_provides_nothing(host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.methods.withdraw(ACME)
    host.datasets.withdraw(ACME)
    assert check(capsys, "acme", code=0)["data"]["notes"] == ["plugin acme provides nothing that is tried here"]


def test_a_method_that_needs_an_option_is_not_tried(host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    host.methods.withdraw(ACME)
    host.methods.register(
        "push",
        target=SLIP,
        config="tests.methods.test_wrong_methods:Needy",
        source=ACME,
    )
    data = check(capsys, "acme", code=0)["data"]
    assert data["tried"][0]["untried"].startswith("method 'push' needs option colour")
    assert data["notes"][-1].startswith("push was not tried: method 'push' needs option colour")


def test_plugins_that_cannot_be_tried(host: PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = check(capsys, "acme-promts", code=2)["error"]
    assert unknown["message"] == "unknown plugin 'acme-promts'" and "'acme-prompts'" in unknown["hint"]
    host.fail(ACME, "import", RuntimeError("no ink"))
    failed = check(capsys, "acme", code=4)["error"]
    assert failed["message"] == f"{ACME} failed to import: RuntimeError: no ink"
    host.failures.clear()
    host.plugins[:] = [PluginInfo(ACME, "acme", "disabled")]
    assert "is disabled" in check(capsys, "acme", code=4)["error"]["message"]
