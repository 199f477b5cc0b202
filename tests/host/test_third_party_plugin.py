"""A plugin package from outside: listed, contained when it is broken, gone when it is un-installed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import third_party as acme

from tests.training.material import make_photos

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
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it should be, and three that are broken, each a distribution of its own."""
    folder = tmp_path_factory.mktemp("projects")
    projects = [acme.write_project(folder / "good")]
    for kind, entry in BROKEN.items():
        module = f"acme_{kind}"
        own = {"entry": entry.format(module=module), "distribution": f"acme-{kind}", "module": module}
        projects.append(acme.write_project(folder / kind, **own))
    acme.install_all(projects, folder / "site")
    return folder / "site"


def names(kind: str, env: dict[str, str]) -> list[str]:
    found = acme.vlmprompt(kind, "list", "--json", env=env)
    assert found.returncode == 0, found.stderr
    return [row["name"] for row in json.loads(found.stdout)["data"][kind]]


@pytest.mark.long
def test_an_installed_plugin_is_listed_with_its_origin_and_gone_after_uninstallation(
    installed: Path, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    before = names("methods", acme.environment(site))
    help_before = acme.vlmprompt("--help", env=acme.environment(site)).stdout
    acme.install(acme.MODULE, installed, site)
    env = acme.environment(site)

    assert names("methods", env) == sorted([*before, "nudge"])
    shown = acme.vlmprompt("methods", "show", "nudge", "--json", env=env)
    data = json.loads(shown.stdout)["data"]
    assert (data["distribution"], data["version"], data["plugin"]) == ("acme-prompts", "1.2.3", "acme_prompts")
    assert data["capabilities"] == ["feature_cache", "new_classes"]
    base, own = data["options"]
    assert base["name"] == "keep_underscores"  # an option of every method
    assert own == (
        {
            "name": "n_ctx",
            "type": "integer >= 1",
            "required": False,
            "default": 2,
            "description": "context vectors; source: made up",
        }
    )
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


def test_the_method_of_an_installed_plugin_trains_and_is_evaluated(installed: Path, tmp_path: Path) -> None:
    """Installed from its wheel, on the backbone that it brings; un-installed, what it left is explained."""
    site = tmp_path / "site"
    acme.install(acme.MODULE, installed, site)
    env = acme.environment(site)
    photos = make_photos(tmp_path / "photos", splits={"train": 4, "test": 3})
    flags = ["--method", "nudge", "--data", f"folder:{photos}", "--backbone", "acme-clip", "--shots", "4"]
    limits = ["--max-steps", "3", "--batch-size", "8", "--workers", "0", "--device", "cpu"]
    trained = acme.vlmprompt_with_torch("train", *flags, *limits, "--json", env=env, cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    result = json.loads(trained.stdout)["data"]
    assert result["metrics"]["steps"] == 3
    info = json.loads((tmp_path / result["run"] / "run.json").read_text())
    assert info["trainable_parameters"] == 2 * 32 and info["versions"]["acme-prompts"] == "1.2.3"

    measured = acme.vlmprompt_with_torch("evaluate", "--json", "--workers", "0", env=env, cwd=tmp_path)
    assert measured.returncode == 0, measured.stderr
    rows = json.loads(measured.stdout)["data"]["rows"]
    top1 = {row["method"]: row["value"] for row in rows if row["metric"] == "top1"}
    assert top1.keys() == {"nudge", "zeroshot", "linear_probe"}
    assert all(0 <= value <= 1 for value in top1.values())
    assert {row["n"] for row in rows} == {4 * 3}

    shutil.rmtree(site)
    gone = acme.vlmprompt_with_torch("evaluate", "--force", env=acme.environment(site), cwd=tmp_path)
    assert gone.returncode == 3
    assert "method 'nudge' of acme-prompts 1.2.3, which is not installed" in gone.stderr
    assert "python -m pip install 'acme-prompts==1.2.3'" in gone.stderr


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
def test_a_broken_plugin_is_contained(kind: str, reason: str, asked: str, installed: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    clean = names("methods", acme.environment(site))
    acme.install(f"acme_{kind}", installed, site)
    acme.install(acme.MODULE, installed, site)
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


@pytest.mark.long
def test_doctor_explains_every_failure(installed: Path, tmp_path: Path) -> None:
    checked = acme.vlmprompt_with_torch("doctor", env=acme.environment(installed), cwd=tmp_path)

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
