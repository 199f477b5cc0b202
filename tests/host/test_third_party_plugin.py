"""A plugin package from outside: listed, contained when it is broken, gone when it is un-installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import third_party as acme

BROKEN = {
    "import": "import a_module_that_nobody_has\n",
    "misspelt": """\
from vlmprompt.api import hookimpl

@hookimpl
def register_methods(register):
    register("shove", target="{module}.method:Nudge", config="{module}.method:NudgeConfig")

@hookimpl
def register_suits(register):
    register("shove-suite", target="{module}.method:Nudge")
""",
    "duplicate": """\
from vlmprompt.api import hookimpl

@hookimpl
def register_methods(register):
    register("push", target="{module}.method:Nudge", config="{module}.method:NudgeConfig")
    register("coop", target="{module}.method:Nudge", config="{module}.method:NudgeConfig")
""",
}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The package as it should be, and three that are broken, each a distribution of its own."""
    folder = tmp_path_factory.mktemp("wheels")
    wheels = {"good": acme.build_wheel(acme.write_project(folder / "good"), folder / "good-wheel")}
    for kind, entry in BROKEN.items():
        module = f"acme_{kind}"
        project = acme.write_project(
            folder / kind, entry=entry.format(module=module), distribution=f"acme-{kind}", module=module
        )
        wheels[kind] = acme.build_wheel(project, folder / f"{kind}-wheel")
    return wheels


def names(kind: str, env: dict[str, str]) -> list[str]:
    found = acme.vlmprompt(kind, "list", "--json", env=env)
    assert found.returncode == 0, found.stderr
    return [row["name"] for row in json.loads(found.stdout)["data"][kind]]


def test_an_installed_plugin_is_listed_with_its_origin_and_gone_after_uninstallation(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    before = names("methods", acme.environment(site))
    help_before = acme.vlmprompt("--help", env=acme.environment(site)).stdout
    acme.install(wheels["good"], site)
    env = acme.environment(site)

    assert names("methods", env) == sorted([*before, "nudge"])
    shown = acme.vlmprompt("methods", "show", "nudge", "--json", env=env)
    data = json.loads(shown.stdout)["data"]
    assert (data["distribution"], data["version"], data["plugin"]) == ("acme-prompts", "1.2.3", "acme_prompts")
    assert data["capabilities"] == ["feature_cache", "new_classes"]
    assert data["options"] == [
        {
            "name": "n_ctx",
            "type": "integer >= 1",
            "required": False,
            "default": 2,
            "description": "context vectors; source: made up",
        }
    ]
    said = acme.vlmprompt("acme-hello", "--name", "world", env=env)
    assert (said.returncode, said.stdout) == (0, "hello world\n")
    page = acme.vlmprompt("--help", env=env).stdout
    assert "From plugin 'acme_prompts' (acme-prompts 1.2.3)" in page

    shutil.rmtree(site)
    assert names("methods", env) == before
    assert acme.vlmprompt("--help", env=env).stdout == help_before
    gone = acme.vlmprompt("methods", "show", "nudge", env=env)
    assert gone.returncode == 2
    assert "unknown method 'nudge'" in gone.stderr


@pytest.mark.parametrize(
    ("kind", "reason", "asked"),
    [
        ("import", "failed to import: ModuleNotFoundError: No module named 'a_module_that_nobody_has'", "acme_import"),
        ("misspelt", "failed to validate: there is no hook 'register_suits'", "shove"),
        (
            "duplicate",
            "failed to register: method 'coop' is already provided by plugin 'builtin' (vlmprompt ",
            "push",
        ),
    ],
)
def test_a_broken_plugin_is_contained(
    kind: str, reason: str, asked: str, wheels: dict[str, Path], tmp_path: Path
) -> None:
    site = tmp_path / "site"
    clean = names("methods", acme.environment(site))
    acme.install(wheels[kind], site)
    acme.install(wheels["good"], site)
    env = acme.environment(site)
    line = f"plugin 'acme_{kind}' (acme-{kind} 1.2.3) {reason}"

    listed = acme.vlmprompt("methods", "list", "--json", env=env)
    document = json.loads(listed.stdout)
    assert [row["name"] for row in document["data"]["methods"]] == sorted([*clean, "nudge"])
    assert [f["plugin"] for f in document["plugin_failures"]] == [f"acme_{kind}"]
    assert listed.stderr.startswith(f"warning: {line}")
    assert listed.stderr.count("\n") == 1
    assert acme.vlmprompt("acme-hello", env=env).stdout == "hello you\n"

    wanted = acme.vlmprompt("methods", "show", asked, env=env)
    assert wanted.returncode == 4
    assert f"error: method '{asked}' is not available: {line}" in wanted.stderr
    assert "doctor" in wanted.stderr.splitlines()[-1]

    strict = acme.environment(site, VLMPROMPT_STRICT_PLUGINS="1")
    assert acme.vlmprompt("methods", "list", env=strict).returncode == 4
    without = acme.environment(site, VLMPROMPT_DISABLE_PLUGINS=f"acme_{kind}", VLMPROMPT_STRICT_PLUGINS="1")
    assert names("methods", without) == sorted([*clean, "nudge"])


def test_doctor_explains_every_failure(wheels: dict[str, Path], tmp_path: Path) -> None:
    site = tmp_path / "site"
    for wheel in wheels.values():
        acme.install(wheel, site)
    checked = acme.vlmprompt("doctor", env=acme.environment(site), cwd=tmp_path)

    assert checked.returncode == 4
    report = " ".join(checked.stdout.split())
    assert "acme_prompts acme-prompts 1.2.3 ok methods: nudge" in report
    assert "acme_import (acme-import 1.2.3) failed to import: ModuleNotFoundError" in report
    assert "import a_module_that_nobody_has" in report  # the line of the traceback
    assert "did you mean 'register_suites'" in report
    assert "'coop' is already provided by plugin 'builtin' (vlmprompt " in report
    last = checked.stderr.splitlines()[-2:]
    assert last[0] == "error: plugins with failures: acme_duplicate,acme_import,acme_misspelt"
    assert last[1].endswith("VLMPROMPT_DISABLE_PLUGINS=acme_duplicate,acme_import,acme_misspelt")
