"""Aliases and templates are a run's own: they hold for its data, for others beside it, and for the references."""

from __future__ import annotations

import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.material import Hooked, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import RunConfig
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.evaluation.subjects import reference_config
from vlmprompt.evaluation.variants import train_command, unusual, variant
from vlmprompt.methods.build import build_method
from vlmprompt.training.run import train
from vlmprompt.training.runs import Run, load_run

ALIASES = {"red_fox": "fox", "Vixen": "fox", "green FROG": "frog | toad"}
NAMES = ("blue whale", "frog | toad", "fox")  # of folders "blue whale", "green frog", "red_fox"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return make_photos(
        tmp_path / "photos", splits={"train": 3, "test": 2}, classes=("red_fox", "green frog", "blue whale")
    )


def trained(photos: Path, backbone: Backbone, progress: Hooked | None = None, **changes: Any) -> Run:
    run = config(photos, shots=2, epochs=1, **{"method": "zeroshot", "aliases": ALIASES} | changes)
    return load_run(train(run, runtime(photos.parent / "runs"), backbone=backbone, progress=progress).run)


def test_a_run_keeps_its_aliases_and_templates(photos: Path, tiny_backbone: Backbone) -> None:
    run = trained(photos, tiny_backbone, templates=("the {}", "a {} here"))
    assert run.class_names == NAMES and run.config.aliases == ALIASES
    assert run.config.options["template"] == ["the {}", "a {} here"]
    built = build_method("zeroshot", tiny_backbone, NAMES, {"template": ["the {}", "a {} here"]})
    loaded = run.build_method(tiny_backbone)
    assert torch.equal(loaded.encode_text().features_PKd, built.encode_text().features_PKd)


def test_data_beside_the_run_are_read_by_its_aliases(photos: Path, tiny_backbone: Backbone, tmp_path: Path) -> None:
    run = trained(photos, tiny_backbone)
    other = make_photos(tmp_path / "other", splits={"all": 1}, classes=("vixen", "Toad", "Blue Whale"), seed=7)
    spec = f"folder:{other / 'all'}"
    rows = evaluate(run.path, "accuracy", runtime(run.path.parent), backbone=tiny_backbone, data=spec, reference=False)
    assert [(row.status, row.n) for row in rows if row.metric == "top1"] == [("ok", 3)]


def test_aliases_without_effect_are_told(photos: Path, tiny_backbone: Backbone) -> None:
    said: list[str] = []
    progress = Hooked()
    progress.warn = said.append  # type: ignore[method-assign]
    trained(photos, tiny_backbone, progress, aliases={"red foxx": "reynard", "orca": "blue whale"})
    assert said == [
        f"alias 'red foxx' has no effect: no class of folder:{photos} is called so; did you mean 'red fox'?"
    ]
    with pytest.raises(InputError, match=r"classes 'blue whale' and 'red fox' of .* would both be called 'Blue Whale'"):
        trained(photos, tiny_backbone, aliases={"red fox": "Blue Whale"})


def test_several_names_are_refused_before_anything_is_learned(photos: Path, tiny_backbone: Backbone) -> None:
    with pytest.raises(CapabilityError, match=r"CoOp learns prompts around one name a class, 'frog \| toad' has 2"):
        trained(photos, tiny_backbone, method="coop")


@pytest.mark.parametrize(
    ("method", "changes", "doubt"),
    [
        ("coop", {}, "method 'coop' writes classes into no template: --templates has no effect on it, only on"),
        ("zeroshot", {"template": "a {} there"}, "--templates has no effect: option template is given, too"),
    ],
)
def test_templates_without_effect_are_told(
    photos: Path, tiny_backbone: Backbone, method: str, changes: dict[str, Any], doubt: str
) -> None:
    said: list[str] = []
    progress = Hooked()
    progress.warn = said.append  # type: ignore[method-assign]
    trained(photos, tiny_backbone, progress, method=method, aliases={}, templates=("the {}",), **changes)
    assert any(line.startswith(doubt) for line in said)


def made(method: str, **flags: Any) -> RunConfig:
    return resolve({"method": method, "data": "folder:photos", **flags}, env={}).run


def test_references_write_in_the_runs_templates_and_names() -> None:
    run = made("coop", templates="clip7", aliases={"a": "b"})
    zeroshot = reference_config("zeroshot", run)
    assert zeroshot.options["template"] == list(run.templates or ()) and zeroshot.aliases == {"a": "b"}
    probe = reference_config("linear_probe", run)
    assert probe.templates is None and probe.aliases == {"a": "b"}
    assert probe == reference_config("linear_probe", made("coop", aliases={"a": "b"}))


def test_a_run_can_be_asked_for_again() -> None:
    resolved = resolve({"method": "kgcoop", "templates": "clip7", "aliases": {'a "b"': "c = d"}}, env={})
    assert variant(resolved.run, resolved.sources) == resolved.run
    words = shlex.split(train_command(resolved.run, resolved.sources, shots=4))
    sets = [value for flag, value in pairwise(words) if flag == "--set"]
    assert [value.partition("=")[0] for value in sets] == ["aliases", "templates"]
    again = resolve({"method": "kgcoop", "shots": 4}, sets=sets, env={}).run
    assert again == variant(resolved.run, resolved.sources, shots=4)
    shown = unusual(resolved.run)
    assert set(shown) == {"aliases", "templates"} and len(shown["templates"]) <= 61
    assert shown["templates"] != unusual(made("kgcoop", templates="clip80"))["templates"]
