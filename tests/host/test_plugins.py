"""Loading: one at a time, in a stable order, each failure contained and remembered."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vlmprompt import plugins
from vlmprompt.backbones.load import load_backbone
from vlmprompt.cli.main import main
from vlmprompt.errors import PluginError, UsageError
from vlmprompt.plugins import PluginHost, load_host

Install = Callable[..., None]

METHOD = """
@hookimpl
def register_methods(register):
    register("{name}", target="acme.method:Nudge", summary="a nudge")
"""


def status(host: PluginHost) -> dict[str, str]:
    return {info.source.plugin: info.status for info in host.plugins}


def failure(host: PluginHost, name: str) -> plugins.PluginFailure:
    (found,) = [f for f in host.failures if f.source.plugin == name]
    return found


def test_core_comes_first_and_brings_the_builtin_names() -> None:
    host = load_host()
    assert host.plugins[0].source.plugin == "builtin"
    assert {"zeroshot", "linear_probe", "coop"} <= set(host.methods.names())
    assert {"folder", "csv", "json"} <= set(host.datasets.names())
    assert {"accuracy", "base-to-new", "few-shot"} <= set(host.suites.names())
    assert {"terminal", "markdown", "csv", "json"} <= set(host.reporters.names())
    assert host.methods.get("coop").overrides == "vlmprompt.methods:coop.toml"


def test_a_plugin_registers_with_its_origin(install: Install) -> None:
    install("acme", METHOD.format(name="nudge"))
    host = load_host()
    entry = host.methods.get("nudge")
    assert (entry.plugin, entry.distribution, entry.version, entry.summary) == ("acme", "acme", "1.0", "a nudge")
    assert host.provided_by(entry.source) == {"methods": ["nudge"]}
    assert host.failures == []


def test_a_tracker_registers_like_a_method(install: Install, capsys: pytest.CaptureFixture[str]) -> None:
    install(
        "acme",
        """
@hookimpl
def register_trackers(register):
    register("wall", target="acme.wall:Wall", summary="on a wall")
""",
    )
    host = load_host()
    assert host.provided_by(host.trackers.get("wall").source) == {"trackers": ["wall"]}
    assert main(["trackers", "list"]) == 0
    assert "on a wall" in capsys.readouterr().out


def test_the_order_is_that_of_distribution_names(install: Install) -> None:
    for name in ("zeta", "alpha", "mid"):
        install(name, METHOD.format(name=name))
    names = [info.source.plugin for info in load_host().plugins]
    ours = [name for name in names if name in ("zeta", "alpha", "mid")]
    assert ours == ["alpha", "mid", "zeta"]
    assert names[0] == "builtin"


@pytest.mark.parametrize(
    ("code", "stage", "reason", "hint"),
    [
        ("import no_such_module_here", "import", "ModuleNotFoundError: No module named 'no_such_module_here'", None),
        ("raise SystemExit(3)", "import", "SystemExit: 3", None),
        ("raise GeneratorExit", "import", "GeneratorExit", None),
        ("import asyncio\nraise asyncio.CancelledError('no')", "import", "CancelledError: no", None),
        ("class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute", "import",
         "Mute: (its message cannot be read)", None),
        ("def f(:", "import", "SyntaxError", None),
        ("", "validate", "it implements no hook", "hookimpl"),
        ("@hookimpl\ndef register_metods(register): ...", "validate", "there is no hook 'register_metods'",
         "did you mean 'register_methods'"),
        ("@hookimpl\ndef register_methods(registry): ...", "validate",
         "register_methods(registry) takes other arguments", "def register_methods(register)"),
        ("@hookimpl\ndef register_methods(register): register('x', target='nowhere')", "register",
         "target= of method 'x' must be 'package.module:Attribute', not 'nowhere'", None),
        ("@hookimpl\ndef register_methods(register): register('x')", "register", "TypeError: ", None),
        ("@hookimpl\ndef register_commands(app): app.no_such()", "register", "AttributeError: ", None),
    ],
)  # fmt: skip
def test_whatever_goes_wrong_is_that_plugins_failure(
    install: Install, code: str, stage: str, reason: str, hint: str | None
) -> None:
    install("acme", code)
    install("beta", METHOD.format(name="nudge"))
    host = load_host()
    assert (status(host)["acme"], status(host)["beta"]) == ("failed", "ok")
    assert "nudge" in host.methods.names()
    failed = failure(host, "acme")
    assert failed.stage == stage
    assert failed.reason.startswith(reason)
    assert "\n" not in str(failed)
    assert hint is None or hint in str(failed.hint)
    assert "Traceback" in failed.details


def test_a_failing_plugin_leaves_nothing_behind_but_its_names_are_known(install: Install) -> None:
    before = load_host()
    install(
        "acme",
        """
@hookimpl
def register_methods(register):
    register("nudge", target="a:A")
@hookimpl
def register_suites(register):
    register("poke", target="a:A")
    raise RuntimeError("out of luck")
@hookimpl
def register_commands(app):
    app.command("acme")(lambda: None)
""",
    )
    host = load_host()
    for kind, registry in host.registries.items():
        assert registry.names() == before.registries[kind].names()
    assert host.commands == before.commands
    for registry, name in ((host.methods, "nudge"), (host.suites, "poke"), (host.datasets, "acme")):
        with pytest.raises(PluginError, match="RuntimeError: out of luck"):
            registry.get(name)
    with pytest.raises(UsageError):
        host.methods.get("poke")


def test_the_second_of_two_that_want_one_name_fails_whole(install: Install) -> None:
    install("alpha", METHOD.format(name="nudge"))
    install("beta", METHOD.format(name="shove") + "    register('nudge', target='b:B')\n")
    host = load_host()
    assert host.methods.get("nudge").distribution == "alpha"
    assert "shove" not in host.methods.names()
    assert "'alpha' (alpha 1.0)" in failure(host, "beta").reason
    assert "'beta' (beta 1.0)" in str(failure(host, "beta"))


def test_plugins_are_disabled_by_entry_point_or_distribution(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("alpha", METHOD.format(name="a"))
    install("beta", METHOD.format(name="b"), point="bee", distribution="beta-dist")
    install("gamma", "raise RuntimeError('never imported')")
    monkeypatch.setenv(plugins.DISABLE, "beta-dist, gamma,nobody")
    host = load_host()
    assert (status(host)["alpha"], status(host)["bee"], status(host)["gamma"]) == ("ok", "disabled", "disabled")
    assert host.failures == []
    assert host.warnings == ["VLMPROMPT_DISABLE_PLUGINS names 'nobody', but there is no such plugin to disable"]
    monkeypatch.setenv(plugins.DISABLE, "*")
    assert set(status(load_host()).items()) >= {("builtin", "ok"), ("alpha", "disabled")}


def test_of_what_comes_with_the_core_the_built_in_world_can_be_disabled(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its own name alone; the rest by none."""
    for names, state, unknown in (("doodles", "disabled", 0), ("*", "ok", 0), ("vlmprompt,builtin", "ok", 2)):
        monkeypatch.setenv(plugins.DISABLE, names)
        host = load_host()
        assert (status(host)["builtin"], status(host)["doodles"], len(host.warnings)) == ("ok", state, unknown)
        assert ("doodle-clip" in host.backbones.names()) is (state == "ok")


def test_towers_of_a_plugin_that_is_not_there(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are not taken for a misspelt architecture."""
    monkeypatch.setenv(plugins.DISABLE, "doodles")
    load_host()
    with pytest.raises(UsageError, match="unknown architecture 'doodle-clip'") as caught:
        load_backbone("doodle-clip")
    assert str(caught.value.hint).endswith("or is it of a plugin that is not there? doodles is disabled")
    install("acme", "raise RuntimeError('out of luck')")
    load_host()
    with pytest.raises(PluginError, match=r"backbone 'acme' is not available: .*out of luck"):
        load_backbone("acme")


def test_what_a_plugin_says_and_asks_at_import_disturbs_nobody(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("asking", "input('your name? ')")
    install("loud", "print('here I am')\n" + METHOD.format(name="nudge"))
    assert main(["methods", "list"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("method ") and "nudge" in captured.out
    assert "here I am" in captured.err
    assert "warning: plugin 'asking' (asking 1.0) failed to import: EOFError" in captured.err


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import sys\nsys.exit(3)", "SystemExit: 3"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_module_of_a_method_that_leaves_is_named(
    install: Install, code: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install("acme", METHOD.format(name="nudge").replace("acme.method", "acme_method"))
    (tmp_path / "acme_method.py").write_text(code)
    assert main(["methods", "show", "nudge", "--json"]) == 4
    captured = capsys.readouterr()
    message = "method 'nudge' of plugin 'acme' (acme 1.0) cannot be loaded from acme_method:Nudge: " + reason
    assert json.loads(captured.out)["error"]["message"].startswith(message)
    assert captured.err.startswith(f"error: {message}")


def test_leaving_is_for_commands_of_plugins(
    install: Install, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(
        "acme",
        """
import sys
@hookimpl
def register_commands(app):
    app.command("leave")(lambda: sys.exit(7))
    app.command("stay")(lambda: sys.exit("not today"))
@hookimpl
def register_methods(register):
    register("nudge", target="acme_method:Nudge")
""",
    )
    (tmp_path / "acme_method.py").write_text(
        "import sys\nclass Nudge:\n    @property\n    def __doc__(self): sys.exit(0)\nNudge = Nudge()\n"
    )
    assert (main(["leave"]), main(["stay"])) == (7, 4)
    assert capsys.readouterr().err == "error: not today\n"
    assert main(["methods", "show", "nudge", "--json"]) == 4
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["message"] == "something called sys.exit(0) in the midst of the command"


def test_strict_makes_a_failure_an_error(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("acme", "import no_such_module_here")
    assert plugins.host().failures
    monkeypatch.setenv(plugins.STRICT, "1")
    with pytest.raises(PluginError, match="no_such_module_here"):
        plugins.host()
    monkeypatch.setenv(plugins.STRICT, "0")
    assert plugins.host().failures


def test_the_host_is_loaded_once(install: Install) -> None:
    first = plugins.host()
    install("acme", METHOD.format(name="nudge"))
    assert plugins.host() is first
    assert "nudge" not in plugins.host().methods.names()
