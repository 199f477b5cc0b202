"""What the documentation shows works as shown."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from tests.cli.tiny_loader import TinyLoader
from tests.data.benchmark_trees import write_tree
from tests.documents import differs, transcript
from tests.laid_out import lay_out
from tests.processes import Process
from tests.training.material import make_photos
from vlmprompt.api import Backbone, build_method, list_methods
from vlmprompt.cli.main import main
from vlmprompt.cli.plugins_new import Kind, package_files
from vlmprompt.reproduce.configuration import configuration, require_known
from vlmprompt.reproduce.recipe import load_recipe
from vlmprompt.testing import tiny_clip

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


def shown_files() -> dict[str, str]:
    """The files of docs/plugins.md: path -> text."""
    text = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    return {match["path"]: match["text"] for match in FILE.finditer(text)}


def test_the_files_of_the_docs_are_those_of_a_new_package() -> None:
    """One source, the templates of `plugins new`: where they differ, the page is to be written anew."""
    shown, written = shown_files(), package_files("ensemble", Kind.METHOD)
    assert shown.keys() == written.keys() - {"README.md"}
    assert shown == {path: written[path] for path in shown}


@pytest.mark.long
def test_the_plugin_of_the_docs_works(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONPATH": str(lay_out(tmp_path, shown_files())), "VLMPROMPT_STRICT_PLUGINS": "1"}
    process = Process(use, env=env)
    _, errors = process.communicate()
    assert process.returncode == 0, errors


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/python.md says is at hand."""
    photos = make_photos(tmp_path / "photos", splits={"train": 4, "test": 1})
    Image.open(photos / "train/red_fox/0.png").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("tiny_spec", "photographs")
def test_the_lines_from_python_do_what_they_say(tiny_backbone: Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TinyLoader, "load", lambda *args, **more: tiny_backbone)
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8").replace("ViT-B-16-quickgelu/openai", "tiny-vit")
    space: dict[str, Any] = {}
    for number, block in enumerate(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)):
        exec(compile(block, f"block {number} of docs/python.md", "exec"), space)
    assert number == 10
    run, found = space["run"], space["found"]
    assert run.path == Path("runs/coop-photos-tiny-vit-4shot-seed1") and run.info.steps == 20
    assert (
        repr(run)
        == "Run('runs/coop-photos-tiny-vit-4shot-seed1': coop on folder:photos, 4 classes, tiny-vit, finished)"
    )
    assert found.names[0] in run.class_names and found.probabilities_BK.shape == (1, 4)
    assert len(found.top(3)[0]) == 3 and len(space["part"]) == 4
    assert {row.method for row in space["rows"]} == {"zeroshot"}
    assert space["output"].logits.shape == (1, 3)
    assert space["mine"].ctx.grad is not None


def test_links_between_documents_lead_somewhere() -> None:
    documents = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]
    links = [
        (document, target)
        for document in documents
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text(encoding="utf-8"))
    ]
    assert links
    assert [f"{document.name}: {target}" for document, target in links if not (document.parent / target).exists()] == []


def test_every_page_is_in_the_table_of_contents() -> None:
    index = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    contents = index.partition("| to | read |")[2].partition("\n\n")[0]
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages == {target for target in re.findall(r"\]\(([^)]+)\)", contents) if "/" not in target}


def carry_out(document: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command of a document's transcript, in order, in the working directory; each prints what is shown.

    Of programs other than vlmprompt only what they write to stdout is looked at, and only where some is shown.
    """
    shown = transcript(document)
    assert shown
    for command in shown:
        program, *arguments = command.words
        if program != "vlmprompt":
            done = subprocess.run(command.line, shell=True, check=True, stdout=subprocess.PIPE, text=True)
            wrong = differs(command.output, done.stdout.splitlines()) if "".join(command.output).strip() else None
            assert wrong is None, f"{command.line}\n{wrong}"
            continue
        code = main(arguments)
        printed = capsys.readouterr()
        assert code == 0, f"{command.line}\n{printed.err}"
        wrong = differs(command.output, (printed.err + printed.out).splitlines())
        assert wrong is None, f"{command.line}\n{wrong}"


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder, and a terminal of a hundred columns."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")


def test_the_path_from_photographs_to_a_table(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs/photos.md").read_text(encoding="utf-8")
    (making,) = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    exec(compile(making, "docs/photos.md", "exec"), {})
    carry_out("docs/photos.md", capsys)


@pytest.mark.filterwarnings("default:backbone 'doodle-clip' has never seen")  # an ant
def test_the_path_from_coop(terminal: None, capsys: pytest.CaptureFixture[str]) -> None:
    write_tree(Path("DATA"), "caltech101")
    carry_out("docs/from-coop.md", capsys)


def test_the_commands_that_show_where_a_run_looks(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With CoOp after a step in place of Bloom, and pictures that cost nothing."""
    from vlmprompt.explain import entries

    monkeypatch.setattr(entries, "draw", lambda *args: b"")
    text = (ROOT / "docs/explain.md").read_text(encoding="utf-8").replace("bloom", "coop")
    lines = [line.strip() for line in text.splitlines() if line.startswith("    vlmprompt ")]
    assert [line.split()[1] for line in lines] == ["train", "explain", "explain", "explain"]
    for name in ("holiday.jpg", "photos/test/turtle/1.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (90, 140, 60)).save(name)
    assert main([*shlex.split(lines[0])[1:], "--max-steps", "1", "--device", "cpu"]) == 0
    run, found = Path(shlex.split(lines[1])[2]), []
    for line in lines[1:]:
        assert main([*shlex.split(line)[1:], "--device", "cpu"]) == 0
        found.append(json.loads((run / "explain/explain.json").read_text(encoding="utf-8")))
    assert [len(one["images"]) for one in found] == [8, 4, 2]
    assert all(image["true"] != image["predicted"] for image in found[1]["images"])
    assert [image["true"] for image in found[2]["images"]] == [None, "turtle"]
    assert {key for image in found[0]["images"] for own in image["pictures"] for key in own} == {
        *("file", "kind", "title", "caption", "pointing", "chance", "maps")
    }


@pytest.mark.parametrize(
    ("shown", "printed", "wrong"),
    [
        (["a  1", "b"], ["a 1", "b  "], None),
        (["a 71.4"], ["a   73.9"], None),
        (["a 71.4"], ["a 80.0"], "shown: 'a 71.4', printed: 'a 80.0'"),
        (["a 71"], ["a 72"], "shown: 'a 71', printed: 'a 72'"),
        (["...", "b"], ["x", "y", "b"], None),
        (["a", "..."], ["a", "x"], None),
        (["a"], ["a", "x"], "not shown: 'x'"),
        (["a", "b"], ["a"], "shown: 'b', printed: 'nothing more'"),
        (["steps 0  seconds ..."], ["steps 0  seconds 0.02"], None),
        (["steps 0  seconds ..."], ["steps 1  seconds 0.02"], "shown: 'steps 0  seconds ...', printed: "),
        (["── 1.0"], ["───── 2.0"], None),
        ([], ["x"], "not shown: 'x'"),
    ],
)
def test_what_is_shown_is_held_against_what_is_printed(shown: list[str], printed: list[str], wrong: str | None) -> None:
    found = differs(shown, printed)
    assert found == wrong or (wrong is not None and found is not None and found.startswith(wrong))


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
