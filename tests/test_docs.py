"""What the documentation shows works as shown."""

from __future__ import annotations

import os
import re
import shlex
import textwrap
import tomllib
from pathlib import Path

import open_clip
import pytest
import torch

from tests.conftest import tiny_clip
from tests.processes import Process
from vlmprompt.api import Backbone, build_method, list_methods
from vlmprompt.cli.main import main
from vlmprompt.reproduce.configuration import configuration, require_known
from vlmprompt.reproduce.recipe import load_recipe

ROOT = Path(__file__).parents[1]
# In docs/plugins.md a file's text follows its name: `path` ...: fenced block.
FILE = re.compile(r"^`(?P<path>[\w./]+)`[^\n]*(?:\n[^\n`]+)*:\n\n```\w+\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


def use() -> None:
    """The plugin of the documentation, installed, at work."""
    assert "ensemble" in list_methods()
    backbone = Backbone.from_model(tiny_clip(), open_clip.SimpleTokenizer())
    method = build_method("ensemble", backbone, ["rose", "lily", "oak"], {"n_prompts": 3})
    output = method(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    method.loss(output, torch.tensor([0, 2])).total.backward()
    assert output.logits.shape == (2, 3)
    assert method.ctx.shape == (3, 4, 64) and (method.ctx.grad != 0).all()
    assert method.with_classes(["ash", "elm"])(torch.zeros(1, 3, 32, 32)).logits.shape == (1, 2)


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """The plugin of docs/plugins.md as files, with the metadata that an installation would add."""
    text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    files = {match["path"]: match["text"] for match in FILE.finditer(text)}
    assert sorted(files) == [
        "pyproject.toml",
        "src/vlmprompt_ensemble/__init__.py",
        "src/vlmprompt_ensemble/method.py",
    ]
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    project = tomllib.loads(files["pyproject.toml"])["project"]
    metadata = tmp_path / "src" / f"vlmprompt_ensemble-{project['version']}.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Name: {project['name']}\nVersion: {project['version']}\n", encoding="utf-8")
    points = [f"{name} = {value}" for name, value in project["entry-points"]["vlmprompt"].items()]
    (metadata / "entry_points.txt").write_text("\n".join(["[vlmprompt]", *points, ""]), encoding="utf-8")
    return tmp_path


def test_the_plugin_of_the_docs_works(example: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(example / "src"), "VLMPROMPT_STRICT_PLUGINS": "1"}
    process = Process(use, env=env)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    links = [
        (document, target)
        for document in documents
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    ]
    assert links
    assert [f"{document.name}: {target}" for document, target in links if not (document.parent / target).exists()] == []


def indented(document: str, heading: str) -> list[str]:
    """The indented blocks below a heading of a document."""
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?:^    .*\n|^\n(?=    ))+", section, re.MULTILINE)
    return [textwrap.dedent(block).strip() for block in blocks]


def test_the_commands_on_settings_and_grids_work_as_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All but those that train, which are resolved and planned."""
    text = (ROOT / "docs/runs.md").read_text(encoding="utf-8")
    (content,) = re.findall(r"`run.toml`:\n\n```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "run.toml").write_text(content, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(indented("runs.md", "Settings in a file, and grids of them")).splitlines()
    assert len(lines) == 7
    for line in lines:
        program, command, *rest = shlex.split(line)
        planned = [*rest, "--dry-run"] if command == "sweep" and "--dry-run" not in rest else rest
        assert program == "vlmprompt"
        assert main(["config", "show", *rest] if command == "train" else [command, *planned]) == 0, line
    printed = capsys.readouterr().out
    assert "coop-doodles-animals-doodle-clip-4shot-seed1-lr=0.01-weight_decay=0.0" in printed
    assert "gallop-doodles-doodle-clip-16shot-seed1-topk=" in printed


def test_the_recipe_with_settings_is_one(tmp_path: Path) -> None:
    blocks = indented("reproduce.md", "A recipe of your own")
    assert len(blocks) == 2
    (tmp_path / "mine.toml").write_text(blocks[1], encoding="utf-8")
    recipe = load_recipe(str(tmp_path / "mine.toml"))
    require_known(recipe, None)
    runs = [configuration(spec, {"method": "coop", "data": spec.data[0], "shots": 4}).run for spec in recipe.grid]
    assert [(run.options["n_ctx"], run.train.lr) for run in runs] == [(4, 0.002), (16, 0.002)]
