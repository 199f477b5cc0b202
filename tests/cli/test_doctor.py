"""`vlmprompt doctor`: healthy, or why not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from vlmprompt import plugins
from vlmprompt.cli.main import main
from vlmprompt.registry import Source

ACME = Source("acme", "acme-prompts", "1.0")


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> plugins.PluginHost:
    """A host with one working plugin, as the process's own; the runs folder is in `tmp_path`."""
    host = plugins.PluginHost()
    host.plugins.append(plugins.PluginInfo(ACME, "acme", "ok"))
    host.suites.register("zen", target="fractions:Fraction", source=ACME)
    monkeypatch.setattr(plugins, "_host", host)
    monkeypatch.setenv("VLMPROMPT_RUNS_DIR", str(tmp_path / "runs"))
    return host


def doctor(capsys: pytest.CaptureFixture[str], code: int) -> dict[str, Any]:
    assert main(["doctor", "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["ok"] == (code == 0)
    return found


def test_healthy(host: plugins.PluginHost, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import torch

    data = doctor(capsys, 0)["data"]
    assert torch.__version__.startswith(data["versions"]["torch"])
    assert {"python", "vlmprompt", "open_clip_torch", "typer"} <= set(data["versions"])
    assert data["devices"][0]["device"] == "cpu"
    assert [(f["folder"], f["problem"]) for f in data["folders"]] == [("runs", ""), ("cache", "")]
    assert not (tmp_path / "runs").exists()  # looking creates nothing
    (plugin,) = data["plugins"]
    assert (plugin["plugin"], plugin["status"], plugin["provides"]) == ("acme", "ok", {"suites": ["zen"]})
    assert data["failures"] == data["broken"] == []


def test_the_report_for_people(
    host: plugins.PluginHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    try:
        raise RuntimeError("out of luck")
    except RuntimeError as error:
        host.fail(ACME, "register", error)
    assert main(["doctor"]) == 4
    captured = capsys.readouterr()
    assert "acme (acme-prompts 1.0) failed to register: RuntimeError: out of luck" in captured.out
    assert "raise RuntimeError" in captured.out
    assert "warning:" not in captured.err  # it is in the report already
    assert captured.err.endswith(
        "error: plugins with failures: acme\nhint: repair or uninstall them, or set VLMPROMPT_DISABLE_PLUGINS=acme\n"
    )
    table = captured.out.partition("failed to register")[0]
    assert max(map(len, table.splitlines())) <= 80


def test_a_failed_plugin_is_code_4_and_stays_in_the_document(
    host: plugins.PluginHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.fail(ACME, "validate", ValueError("no"))
    found = doctor(capsys, 4)
    assert found["data"]["plugins"][0]["status"] == "failed"
    assert found["data"]["failures"][0]["reason"] == "ValueError: no"
    assert found["plugin_failures"][0]["plugin"] == "acme"
    assert found["error"]["code"] == 4


def test_a_target_that_cannot_be_imported_shows_here(
    host: plugins.PluginHost, capsys: pytest.CaptureFixture[str]
) -> None:
    host.suites.register("poke", target="no_such_module_here:A", source=ACME)
    found = doctor(capsys, 4)
    (broken,) = found["data"]["broken"]
    assert (broken["kind"], broken["name"], broken["plugin"]) == ("suite", "poke", "acme")
    assert "No module named 'no_such_module_here'" in broken["reason"]


def test_doctor_works_under_strict_as_well(
    host: plugins.PluginHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host.fail(ACME, "validate", ValueError("no"))
    monkeypatch.setenv(plugins.STRICT, "1")
    assert doctor(capsys, 4)["data"]["failures"]
    assert main(["plugins", "list"]) == 4
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_written_is_code_3(
    host: plugins.PluginHost, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blocking = tmp_path / "a-file"
    blocking.write_text("")
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", str(blocking / "cache"))
    found = doctor(capsys, 3)
    assert found["data"]["folders"][1]["problem"] == f"{blocking}: {os.strerror(20)}"
    assert str(blocking) in found["error"]["message"]


def test_a_method_that_does_not_work_shows_here(host: plugins.PluginHost, capsys: pytest.CaptureFixture[str]) -> None:
    """It can be imported, which is all that one sees of it otherwise before it is used."""
    options = "vlmprompt.methods.config:CoOpConfig"
    host.methods.register("coop", target="vlmprompt.methods.coop:CoOp", config=options, source=ACME)
    host.methods.register("forgetful", target="vlmprompt.methods.coop:CoOp", source=ACME)
    (broken,) = doctor(capsys, 4)["data"]["broken"]
    assert (broken["kind"], broken["name"], broken["plugin"]) == ("method", "forgetful", "acme")
    assert "acme-prompts 1.0) reads an option 'class_specific', but is registered without options" in broken["reason"]
    assert main(["doctor"]) == 4
    said = capsys.readouterr().out
    assert f"\nbroken: {broken['reason']}\n  next step: tell the author of acme-prompts: config= of register()" in said
    assert "  | AttributeError: 'MethodConfig' object has no attribute 'class_specific'" in said
