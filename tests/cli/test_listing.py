"""`list` and `show` of every kind, for people and as JSON."""

from __future__ import annotations

import json
import re
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from vlmprompt import plugins
from vlmprompt.cli import options_help
from vlmprompt.cli.main import main


class Options(BaseModel):
    """Options of every shape."""

    n: int = Field(4, ge=1, lt=9, description="how many; paper: 4")
    rate: float | None = Field(None, gt=0, description="in 1/s; code: none")
    kind: Literal["gate", "add"] = Field("gate", description="which one")
    flag: bool = Field(True, description="on or off")
    pair: tuple[int, int] = Field((1, 2), description="from, to")
    many: list[str] = Field(default_factory=list, description="names")
    needed: Annotated[str, Field(description="no default", min_length=2)]


def run_json(*args: str, capsys: pytest.CaptureFixture[str], code: int = 0) -> dict[str, Any]:
    assert main([*args, "--json"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert found["command"] == " ".join(args[:2])
    return found


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("methods", {"bloom", "coop", "linear_probe", "zeroshot"}),
        ("datasets", {"csv", "folder", "json"}),
        ("suites", {"accuracy", "base-to-new", "few-shot"}),
        ("backbones", {"open_clip"}),
        ("reporters", {"csv", "json", "latex", "markdown", "terminal"}),
        ("trackers", {"csv", "tensorboard"}),
        ("executors", {"local"}),
    ],
)
def test_list(kind: str, names: set[str], capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(kind, "list", capsys=capsys)["data"][kind]
    assert {row["name"] for row in rows} >= names
    assert all(row["summary"] and row["distribution"] and row["version"] and row["target"] for row in rows)
    assert main([kind, "list"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in names)


def test_show_prints_every_option_of_a_method(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = plugins.host().methods.get("bloom").load_config()
    assert config is not None
    data = run_json("methods", "show", "bloom", capsys=capsys)["data"]
    assert [option["name"] for option in data["options"]] == list(config.model_fields)
    assert all(option["type"] and option["description"] for option in data["options"])
    by_name = {option["name"]: option for option in data["options"]}
    assert (by_name["d_m"]["type"], by_name["d_m"]["default"]) == ("integer >= 1", 64)
    assert by_name["direction"]["type"] == "both | v2l | l2v"
    assert data["capabilities"] == sorted(plugins.host().methods.get("bloom").load().capabilities)
    assert data["distribution"] == "vlmprompt-bloom"

    monkeypatch.setenv("COLUMNS", "80")
    assert main(["methods", "show", "bloom"]) == 0
    page = capsys.readouterr().out
    assert max(map(len, page.splitlines())) <= 80
    assert all(f"  {name}  (" in page for name in config.model_fields)
    assert data["doc"].split("\n\n")[0].split()[0] in page


def test_show_prints_docstrings(capsys: pytest.CaptureFixture[str]) -> None:
    doc = run_json("datasets", "show", "folder", capsys=capsys)["data"]["doc"]
    assert main(["datasets", "show", "folder"]) == 0
    page = capsys.readouterr().out
    assert doc.split() == page.split()[page.split().index(doc.split()[0]) :][: len(doc.split())]


@pytest.mark.parametrize("kind", ["methods", "datasets", "suites", "backbones", "reporters", "trackers", "executors"])
def test_everything_that_is_listed_can_be_shown(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in plugins.host().registries[kind].names():
        assert run_json(kind, "show", name, capsys=capsys)["data"]["doc"]


def test_an_unknown_name_is_a_usage_error_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json("methods", "show", "blom", capsys=capsys, code=2)
    assert found["error"]["message"] == "unknown method 'blom'"
    assert found["error"]["hint"].startswith("did you mean 'bloom'?")
    assert run_json("plugins", "show", "bilt-in", capsys=capsys, code=2)["error"]["hint"] == "did you mean 'builtin'?"


def test_plugins(capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json("plugins", "list", capsys=capsys)["data"]["plugins"]
    assert rows[0]["plugin"] == "builtin"
    (bloom,) = [row for row in rows if row["plugin"] == "bloom"]
    assert (bloom["status"], bloom["provides"], bloom["failures"]) == ("ok", {"methods": ["bloom"]}, [])
    assert run_json("plugins", "show", "vlmprompt-bloom", capsys=capsys)["data"]["plugins"] == [bloom]


def test_no_plugins_leaves_the_core(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "_host", None)
    monkeypatch.setenv(plugins.DISABLE, "")  # `main` sets it: have it restored
    rows = run_json("methods", "list", "--no-plugins", capsys=capsys)["data"]["methods"]
    assert {row["distribution"] for row in rows} == {"vlmprompt"}


def test_architectures_come_from_open_clip(capsys: pytest.CaptureFixture[str]) -> None:
    import open_clip

    data = run_json("backbones", "list", "--architectures", capsys=capsys)["data"]
    rows = {row["name"]: row for row in data["architectures"]}
    assert list(rows) == sorted(open_clip.list_models())
    assert rows["ViT-B-16-SigLIP2"]["visual_prompts"] and not rows["convnext_tiny"]["visual_prompts"]
    assert rows["ViT-B-16-SigLIP2"]["grid"] == [14, 14]
    assert "architectures" not in run_json("backbones", "list", capsys=capsys)["data"]


def test_towers_of_a_backbone_are_shown(capsys: pytest.CaptureFixture[str], tiny_architecture: str) -> None:
    """Numbers of the description in tests/tiny_architectures.py; parameters as open_clip's own model has them."""
    import open_clip

    data = run_json("backbones", "show", tiny_architecture, capsys=capsys)["data"]
    assert (data["text"], data["context_length"], data["text_layers"]) == ("causal, read at the end token", 77, 2)
    assert (data["image"], data["image_size"], data["grid"]) == ("ViT, class token", [32, 32], [4, 4])
    assert data["visual_prompts"] and data["transform"]["size"] == 32
    model = open_clip.create_model(tiny_architecture)
    assert data["parameters"]["all"] == sum(p.numel() for p in model.parameters())
    assert data["parameters"]["image"] == sum(p.numel() for p in model.visual.parameters())
    assert data["methods"]["vpt"] is data["methods"]["coop"] is None
    assert main(["backbones", "show", "other-x"]) == 0
    page = capsys.readouterr().out
    assert re.search(r"\nvpt +no: needs an image tower that takes prompt tokens", page)
    assert re.search(r"\nlocal features +2 x 2, each position alone through pool and head\n", page)


def test_towers_are_shown_at_another_size(capsys: pytest.CaptureFixture[str], tiny_architecture: str) -> None:
    """Against the page without the size: patches have 8 pixels, and a position each."""
    own, other = (
        run_json("backbones", "show", tiny_architecture, *size, capsys=capsys)["data"]
        for size in ([], ["--image-size", "64x96"])
    )
    assert (other["image_size"], other["grid"], own["grid"]) == ([64, 96], [8, 12], [4, 4])
    assert other["transform"]["mean"] == own["transform"]["mean"]
    assert other["parameters"]["image"] - own["parameters"]["image"] == 64 * (8 * 12 - 4 * 4)
    assert other["parameters"]["text"] == own["parameters"]["text"]


@pytest.mark.parametrize(
    ("spec", "size", "code", "message"),
    [
        ("tiny-x", "12y", 2, "image_size = 12y (--image-size) is not allowed: it should be 1 to 100000 pixels"),
        ("tiny-x", "60", 3, "images of 60 x 60 pixels do not divide into the patches of backbone 'tiny-x', of 8 x 8"),
        ("other-x", "96", 3, "the image tower of backbone 'other-x', a ModifiedResNet, reads images of one size alone"),
        ("doodle-clip", "96", 3, "backbone 'doodle-clip' reads images of one size alone"),
        ("open_clip", "96", 2, "open_clip is a loader and has no images"),
    ],
)
def test_sizes_that_cannot_be_shown(
    spec: str, size: str, code: int, message: str, capsys: pytest.CaptureFixture[str], tiny_architecture: str
) -> None:
    assert main(["backbones", "show", spec, "--image-size", size]) == code
    assert message in capsys.readouterr().err


def test_a_plugins_backbone_is_loaded_to_be_shown(capsys: pytest.CaptureFixture[str], tiny_spec: None) -> None:
    data = run_json("backbones", "show", "tiny-vit", capsys=capsys)["data"]
    assert (data["name"], data["image"]) == ("tiny-vit", "ViT, class token")
    assert main(["backbones", "show", "no-such-tower"]) == 2
    assert "no-such-tower" in capsys.readouterr().err


def test_options_of_every_shape() -> None:
    rows = {row["name"]: row for row in options_help.describe(Options)}
    assert {name: row["type"] for name, row in rows.items()} == {
        "n": "integer >= 1 and < 9",
        "rate": "number > 0 or none",
        "kind": "gate | add",
        "flag": "true | false",
        "pair": "[integer, integer]",
        "many": "list of text",
        "needed": "text length >= 2",
    }
    assert [name for name, row in rows.items() if row["required"]] == ["needed"]
    assert (rows["n"]["default"], rows["rate"]["default"], rows["many"]["default"]) == (4, None, [])
    page = options_help.page(options_help.describe(Options))
    assert "  n  (integer >= 1 and < 9; default 4)\n      how many; paper: 4\n" in page
    assert "  needed  (text length >= 2; required)" in page
    assert "  rate  (number > 0 or none; default none)" in page


def test_docstrings_are_refilled_but_lists_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    doc = "A plain paragraph that is longer than the line.\n\n* one\n* two\n\nArgs:\n    x: kept"
    assert options_help.reflow(doc) == (
        "A plain paragraph that is\nlonger than the line.\n\n* one\n* two\n\nArgs:\n    x: kept"
    )


def test_names_with_hyphens_are_not_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert (
        options_help.wrapped("dataset=photos|imagenet-sketch|pets", indent=2) == "  dataset=photos|imagenet-sketch|pets"
    )
    assert options_help.wrapped("always: a=one-two, b=three-four", indent=2) == "  always: a=one-two,\n    b=three-four"
