"""What a recipe would do: its grid, what is missing, what it costs; nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.training.material import make_photos
from vlmprompt.backbones.load import architecture_of
from vlmprompt.backbones.openclip.miniature import miniature
from vlmprompt.cli.main import main
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.reproduce import cost
from vlmprompt.reproduce.cost import Prompting, Towers, prompting_of
from vlmprompt.reproduce.missing import look, without
from vlmprompt.reproduce.plan import duration, figure
from vlmprompt.reproduce.recipe import GridSpec, load_recipe

VIT, RN = "ViT-B-16-quickgelu/openai", "RN50-quickgelu/openai"


def test_plan_of_a_table_without_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vlmprompt.reproduce.run.carry_out", lambda *a, **k: pytest.fail("trained"))
    command = ["reproduce", "gallop-table1", "--dry-run", "--root", str(tmp_path)]
    assert main([*command, "--json"]) == 0
    plan: dict[str, Any] = json.loads(capsys.readouterr().out)["data"]
    # gallop: 11 x 3; of the nine others zero-shot and the probe have one run a data set, or one a seed
    assert [part["runs"] for part in plan["parts"]] == [33, 11 + 8 * 33]
    assert all(part["flops"] > 0 for part in plan["parts"])
    assert [one["what"] for one in plan["missing"]] == load_recipe("gallop-table1").grid[0].data
    assert all(str(tmp_path) in one["reason"] and one["hint"] for one in plan["missing"])
    assert plan["compute"]["gpu_seconds"] == pytest.approx(plan["compute"]["flops"] / 50e12)
    assert main([*command, "--seed", "1"]) == 0
    shown = capsys.readouterr().out
    for words in ("11 runs  gallop;", "110 runs in all", "Not there:", "coop:imagenet", "this machine:", "a GPU:"):
        assert words in shown


def test_companions_of_absent_data_are_named(tmp_path: Path) -> None:
    missing = [one.what for one in look(load_recipe("gallop-table2"), tmp_path).missing]
    assert missing[0] == "coop:imagenet" and "coop:imagenet-a" in missing and "OOD set iNaturalist" in missing


def test_towers_by_hand() -> None:
    # doodle-clip: 65 tokens of width 192 in 4 layers, 64 patches of 8 x 8 x 3; text: keys and values alone in the last
    expected = 4 * (24 * 65 * 192**2 + 4 * 65**2 * 192) + 2 * 64 * 192 * 192
    found = Towers.of(architecture_of("doodle-clip"))
    assert found.image == expected and found.text_token == pytest.approx((3 * 24 + 4) * 192**2)
    # open_clip's own profiles: 35.13 and 12.22 GFLOPs an image
    assert Towers.of(architecture_of(VIT)).image == pytest.approx(35.13e9, rel=0.01)
    assert Towers.of(architecture_of(RN)).image == pytest.approx(12.22e9, rel=0.01)
    for spec in ("ViT-B-16-SigLIP2", "roberta-ViT-B-32"):  # of timm and of transformers
        with pytest.raises(CapabilityError, match="not known by formula"):
            Towers.of(architecture_of(spec))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("gallop", Prompting(8, 4, False, False, 0, True, caches=True)),
        ("bloom", Prompting(1, 4, False, True, 0, True)),
        ("cocoop", Prompting(1, 4, True, False, 0, True, caches=True)),
        ("proda", Prompting(4, 16, False, False, 0, True, caches=True)),  # of 32, four a step
        ("vpt", Prompting(0, 0, False, True, 0, True)),
        ("linear_probe", Prompting(0, 0, False, False, 1, False, caches=True)),
        ("tpt", Prompting(0, 0, False, False, 0, False, views=64, caches=True)),
    ],
)
def test_what_methods_ask_for(method: str, expected: Prompting) -> None:
    config = resolve({"method": method, "data": "coop:dtd", "backbone": VIT}, env={}).run
    assert prompting_of(config, miniature(architecture_of(VIT), VIT)) == expected


def test_flops_of_a_grid_by_hand() -> None:
    # DTD: 47 classes x 16 shots = 752 images in batches of 32: 23 steps an epoch, 200 epochs; 1,692 test images
    spec = GridSpec(methods=["coop"], data=["coop:dtd"], suites=["accuracy"], backbone=VIT)
    towers = Towers.of(architecture_of(VIT))
    text = (16 + 6 * 47) * towers.text_token
    once = 23 * 200 * (32 * towers.image + 2 * text) + 1692 * towers.image
    assert cost.Estimator({}).flops(spec, [1, 2]) == pytest.approx(2 * once)
    by_rule = 16 * 752 * towers.image + 23 * 200 * 2 * text + 1692 * towers.image  # 196 fresh views of each image
    automatic = spec.model_copy(update={"settings": {"views": "auto"}})
    assert cost.Estimator({}).flops(automatic, [1]) == pytest.approx(by_rule)
    unknown = spec.model_copy(update={"data": ["folder:nowhere"]})
    assert cost.Estimator({}).flops(unknown, [1]) is None


def test_numbers_as_they_are_shown() -> None:
    assert [duration(s) for s in (0.5, 30, 90, 9000, 2e5, 2e8)] == [
        "0.5 s",
        "30 s",
        "1.5 min",
        "2.5 h",
        "2.3 days",
        "2,315 days",
    ]
    assert [figure(x) for x in (0.01234, 1.234, 123.4, 12345.6)] == ["0.0123", "1.23", "123", "12,346"]


TEXT = """
title = "Two"
about = "one of two data sets is there"
seeds = [1]
paper = "A paper"

[[grid]]
methods = ["zeroshot"]
data = ["folder:photos", "coop:dtd"]
backbone = "tiny-vit"
suites = ["accuracy"]
reference = false

[[column]]
header = "{}"
each = ["photos", "dtd"]
data = "{}"
suite = "accuracy"
cell = "test"

[[published]]
table = "Table 1"
columns = ["dtd"]
rows = { zeroshot = [44.1] }
"""


@pytest.mark.usefixtures("tiny_spec")
def test_what_is_there_is_measured_and_the_rest_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make_photos(tmp_path / "photos", splits={"train": 1, "test": 2})
    Path("two.toml").write_text(TEXT, encoding="utf-8")
    assert main(["reproduce", "two.toml", "--device", "cpu", "--workers", "0"]) == 5
    captured = capsys.readouterr()
    assert "not there: coop:dtd (runs skipped)" in captured.err and str(tmp_path) in captured.err
    table = Path("reproduce/two/table.md").read_text(encoding="utf-8")
    assert "| zeroshot | dtd | – | – | skipped | 44.10 | – |" in table and "- coop:dtd" in table
    assert "| zeroshot | photos | 1 |" in table


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    recipe = load_recipe("gallop-rn50")
    with pytest.raises(InputError, match="none of the recipe's data sets is there"):
        without(recipe, look(recipe, tmp_path))
