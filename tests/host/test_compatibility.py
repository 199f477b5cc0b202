"""What plugins can rely on: a golden file of the API, names that go, and plugins that need another version."""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable

import pytest

from tests.host import signatures
from vlmprompt import api, plugins
from vlmprompt.api import build_method
from vlmprompt.cli.main import main
from vlmprompt.compatibility import Deprecated, unmet
from vlmprompt.plugins import PluginFailure, PluginHost, load_host
from vlmprompt.registry import Source

Install = Callable[..., None]
ACME = Source("acme", "acme", "1.0")
METHOD = """
@hookimpl
def register_methods(register):
    register("nudge", target="acme.method:Nudge", summary="a nudge")
"""


def failure(host: PluginHost) -> PluginFailure:
    (found,) = [f for f in host.failures if f.source == ACME]
    return found


def test_the_api_is_as_promised() -> None:
    """A difference is either a slip, or meant: then `python -m tests.host.signatures` writes the file anew."""
    promised = signatures.FILE.read_text(encoding="utf-8")
    found = signatures.signatures()
    assert "\n".join(difflib.unified_diff(promised.splitlines(), found.splitlines(), "promised", "found", n=0)) == ""


def test_the_golden_file_holds_what_it_should() -> None:
    text = signatures.FILE.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert f"VERSION = '{api.VERSION}'" in lines
    tops = {
        line.split("(")[0].split(" = ")[0].removeprefix("class ").split(" of ")[0] for line in lines if line[0] != " "
    }
    hooks = {f"hook {name}" for name in plugins.hookspecs.__dict__ if name.startswith("register_")}
    assert tops == set(api.__all__) | hooks
    assert "    create(self) -> None" in lines  # of PromptMethod, from its base Hooks
    assert "    n_ctx: int = 16" in lines
    assert " at 0x" not in text


@pytest.mark.parametrize(
    ("wanted", "installed", "reason"),
    [
        (None, "1.4", None),
        ("1.0", "1.0", None),
        ("1.2", "1.10", None),
        ("1.10", "1.2", "needs vlmprompt's API 1.10, installed is 1.2: upgrade vlmprompt"),
        ("2.0", "1.9", "needs vlmprompt's API 2.0, installed is 1.9: upgrade vlmprompt"),
        (
            "1.9",
            "2.0",
            "needs vlmprompt's API 1.9, installed is 2.0: install a newer version of the plugin, or an older",
        ),
        ("1", "1.0", 'says REQUIRES_API = \'1\', which must be "MAJOR.MINOR" such as "1.0"'),
        (1.0, "1.0", "says REQUIRES_API = 1.0, which"),
        (">=1.0", "1.0", "says REQUIRES_API = '>=1.0', which"),
    ],
)
def test_which_versions_fit(wanted: object, installed: str, reason: str | None) -> None:
    found = unmet(wanted, installed)
    assert found == reason or (found or "").startswith(reason or "-")


def test_a_name_that_goes_works_and_says_what_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    old = Deprecated("vlmprompt.methods.build:build_method", "vlmprompt.api.build_method", since="1.3")
    monkeypatch.setitem(api._DEPRECATED, "make_method", old)
    with pytest.warns(DeprecationWarning) as caught:
        from vlmprompt.api import make_method  # type: ignore[attr-defined]
    assert make_method is build_method
    assert str(caught[0].message) == (
        "vlmprompt.api.make_method is deprecated since API 1.3 and gone in 1.5: use vlmprompt.api.build_method"
    )
    assert caught[0].filename == __file__
    assert "make_method" not in api.__all__


def test_no_name_has_stayed_longer_than_was_said() -> None:
    for name, old in api._DEPRECATED.items():
        assert unmet(old.gone_in, api.VERSION) is not None, f"{name} was to go in {old.gone_in}"
        assert getattr(api, old.instead.rpartition(".")[2])


def test_a_plugin_that_needs_a_newer_api_is_refused_in_a_line(
    install: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    install("acme", 'REQUIRES_API = "1.99"\n' + METHOD)
    install("beta", f'REQUIRES_API = "{api.VERSION}"\n' + METHOD.replace("nudge", "shove"))
    assert main(["methods", "list"]) == 0
    captured = capsys.readouterr()
    assert "shove" in captured.out and "nudge" not in captured.out
    line = f"plugin 'acme' (acme 1.0) needs vlmprompt's API 1.99, installed is {api.VERSION}: upgrade vlmprompt"
    assert captured.err == f"warning: {line} (vlmprompt doctor explains)\n"
    assert main(["methods", "show", "acme"]) == 4  # perhaps a name of the plugin that is not there
    assert line in capsys.readouterr().err
    assert main(["plugins", "show", "acme", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["data"]["plugins"]
    assert (row["status"], row["failures"][0]["stage"]) == ("failed", "require")


def test_the_need_is_told_where_the_import_fails_for_it(install: Install) -> None:
    """A plugin that imports what only a newer version has does not come as far as to be asked."""
    install("acme", 'from vlmprompt.api import telepathy\nREQUIRES_API = "1.99"\n' + METHOD)
    failed = failure(load_host())
    assert (failed.stage, failed.reason) == (
        "require",
        f"needs vlmprompt's API 1.99, installed is {api.VERSION}: upgrade vlmprompt",
    )


@pytest.mark.parametrize(
    ("name", "step"),
    [("telepathy", "upgrade vlmprompt"), ("InputEror", "did you mean 'InputError'? or is it of a newer vlmprompt?")],
)
def test_a_name_that_the_api_has_not(install: Install, name: str, step: str) -> None:
    install("acme", f"from vlmprompt.api import {name}\n" + METHOD)
    failed = failure(load_host())
    assert failed.reason == f"vlmprompt's API {api.VERSION} has no {name!r}, which it imports"
    assert failed.hint == f"{step}; tell the author of acme"


@pytest.mark.parametrize(
    ("code", "reason", "hint"),
    [
        ("@hookimpl\ndef register_methods(reg): ...",
         "register_methods(reg) takes other arguments than the hook is given",
         "write it as def register_methods(register): the names count; tell the author of acme"),
        ("@hookimpl\ndef register_commands(): ...",
         "register_commands() takes other arguments than the hook is given",
         "write it as def register_commands(app): the names count; tell the author of acme"),
        ("@hookimpl\ndef register_suites(register, app): ...",
         "register_suites(register, app) takes other arguments than the hook is given", "write it as"),
        ("def register_methods(register): ...", "its register_methods is not marked as a hook",
         "put @vlmprompt.api.hookimpl above it; tell the author of acme"),
        ("@hookimpl\ndef register_metods(register): ...", "there is no hook 'register_metods'",
         "did you mean 'register_methods'"),
        ("@hookimpl\ndef register_methods(register): register('x y', target='a:A')", "the name of method 'x y' must be",
         "tell the author of acme, or leave it out: VLMPROMPT_DISABLE_PLUGINS=acme"),
        ("@hookimpl\ndef register_methods(register): register('coop', target='a:A')",
         "method 'coop' is already provided by plugin 'builtin'",
         "until one of the two is renamed, leave one out: VLMPROMPT_DISABLE_PLUGINS=acme; tell the author of acme"),
        ("import no_such_module_here", "ModuleNotFoundError: No module named 'no_such_module_here'",
         "python -m pip install --upgrade acme, which brings what it needs; or tell the author of acme"),
        ("1 / 0", "ZeroDivisionError: division by zero",
         "tell the author of acme, or leave it out: VLMPROMPT_DISABLE_PLUGINS=acme"),
    ],
)  # fmt: skip
def test_each_failure_says_the_next_step_and_who_is_to_act(install: Install, code: str, reason: str, hint: str) -> None:
    install("acme", code)
    failed = failure(load_host())
    assert failed.reason.startswith(reason)
    assert str(failed.hint).startswith(hint)


def test_a_hook_may_have_arguments_of_its_own_with_defaults(install: Install) -> None:
    install("acme", METHOD.replace("(register):", '(register, prefix="nu"):'))
    assert "nudge" in load_host().methods.names()


def test_a_slow_plugin_is_named(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that is set by hand: the core takes a quarter of a second, the plugin half of one."""
    monkeypatch.setattr(plugins, "HEAVY", ("acme_weights",))
    install("acme", "import acme_weights\n" + METHOD)
    install("acme_weights", "")
    seconds = iter([0.0, 0.25, 0.25, 0.75])
    host = PluginHost(clock=lambda: next(seconds))
    points = [point for point in plugins.entry_points(group="vlmprompt") if point.name in ("builtin", "acme")]
    for point in sorted(points, key=lambda point: point.name, reverse=True):
        host.load(point)
    assert host.slow == [
        "plugin 'acme' (acme 1.0) takes 0.5 s to import, as it imports acme_weights, and every command waits for it: "
        "tell the author of acme to import what is heavy in the modules behind target= alone"
    ]


def test_what_is_printed_while_a_plugin_loads_is_no_part_of_a_document(
    install: Install, capfd: pytest.CaptureFixture[str]
) -> None:
    install("acme", "import os\nprint('hello')\nos.write(1, b'from below\\n')\n" + METHOD)
    assert main(["methods", "list", "--json"]) == 0
    captured = capfd.readouterr()
    assert "nudge" in [row["name"] for row in json.loads(captured.out)["data"]["methods"]]
    assert "hello" in captured.err and "from below" in captured.err
