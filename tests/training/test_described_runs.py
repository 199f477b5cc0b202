"""Runs of methods that read class descriptions: where these come from, and that the run keeps them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from torch import Tensor

from tests.describe.material import NAMES, PHRASES, write_descriptions
from tests.training.material import Hooked, config, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError
from vlmprompt.methods.config import MethodConfig
from vlmprompt.methods.coop import CoOp
from vlmprompt.methods.output import Losses, MethodOutput
from vlmprompt.methods.requirements import DescriptionUse
from vlmprompt.training.checkpoint import Checkpoint
from vlmprompt.training.dry_run import dry_run
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

# Folders are sorted; labels follow them.
SORTED = tuple(sorted(NAMES))


class Taught(CoOp):
    """CoOp whose loss reads descriptions; it keeps what it was built with."""

    seen: ClassVar[list[tuple[tuple[str, ...], object]]] = []

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        Taught.seen.append((self.class_names, self.descriptions))

    @classmethod
    def reads_descriptions(cls, config: MethodConfig) -> DescriptionUse:
        return "training" if getattr(config, "n_ctx", 0) < 5 else "never"

    def loss(self, output: MethodOutput, labels: Tensor, *, draws: Mapping[str, Tensor] | None = None) -> Losses:
        assert (self.descriptions is None) == (type(self).reads_descriptions(self.config) == "never")
        return super().loss(output, labels)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    Taught.seen = []
    with registered("taught", Taught, module=__name__):
        yield tmp_path


@pytest.fixture
def file(here: Path) -> Path:
    """Descriptions of all four classes, where they are looked up."""
    return write_descriptions(here / "prompts_cache/photos/openai--m-1--features.jsonl", SORTED)


def texts(*names: str) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(PHRASES[name]) for name in names)


def test_a_method_gets_the_descriptions_of_its_classes(
    photos: Path, file: Path, tiny_backbone: Backbone, here: Path
) -> None:
    run = train(config(photos, method="taught"), runtime(here), backbone=tiny_backbone).run
    assert Taught.seen == [(SORTED, texts(*SORTED))]
    info = load_run(run).info.descriptions
    assert info is not None
    assert (info.file, info.texts, info.missing) == (str(file), 8, ())
    assert info.providers == ("openai m-1",)
    assert (run / "descriptions.jsonl").read_bytes() == file.read_bytes()
    assert Checkpoint.load(run / "checkpoint.safetensors").header.digests["descriptions"] == info.digest
    assert "openai m-1" in (run / "MODEL_CARD.md").read_text()


def test_other_methods_and_options_get_none(photos: Path, file: Path, tiny_backbone: Backbone, here: Path) -> None:
    for name, options in (("taught", {"n_ctx": 5}), ("coop", {})):
        progress = Hooked()
        settings = config(photos, method=name, max_steps=1, descriptions=str(file), **options)
        run = train(settings, runtime(here), backbone=tiny_backbone, progress=progress).run
        assert load_run(run).info.descriptions is None
        assert not (run / "descriptions.jsonl").exists()
        assert [w for w in progress.warnings if "--descriptions has no effect" in w]
    assert [seen for _, seen in Taught.seen] == [None]


def test_the_run_answers_without_the_file(photos: Path, file: Path, tiny_backbone: Backbone, here: Path) -> None:
    """A run trained on half of the classes keeps descriptions of all, wherever it is used."""
    settings = config(photos, method="taught", setting="base-to-new", max_steps=1)
    folder = train(settings, runtime(here), backbone=tiny_backbone).run
    file.unlink()
    run = load_run(folder)
    assert run.load_dataset().descriptions == texts(*SORTED)
    run.build_method(tiny_backbone)
    assert Taught.seen == [(SORTED[:2], texts(*SORTED[:2]))] * 2
    (folder / "descriptions.jsonl").write_text("")
    with pytest.raises(InputError, match=r"openai--m-1\S* is not what run|descriptions\.jsonl is not what run"):
        load_run(folder).build_method(tiny_backbone)


def test_missing_descriptions_stop_a_run_before_any_work(photos: Path, tiny_backbone: Backbone, here: Path) -> None:
    settings = config(photos, method="taught", max_steps=1)
    with pytest.raises(InputError, match="no descriptions of the classes"):
        train(settings, runtime(here), backbone=tiny_backbone)
    some = {name: PHRASES[name] for name in SORTED[:3]}
    partial = write_descriptions(here / "some.jsonl", SORTED, some)
    for work in (train, dry_run):
        with pytest.raises(InputError, match=r"some\.jsonl does not describe 1 of 4 classes: 'red fox'"):
            work(settings.model_copy(update={"descriptions": "some.jsonl"}), runtime(here), backbone=tiny_backbone)
    allowed = settings.model_copy(update={"descriptions": "some.jsonl", "allow_missing": True})
    run = train(allowed, runtime(here), backbone=tiny_backbone).run
    assert Taught.seen == [(SORTED, (*texts(*SORTED[:3]), ()))]
    assert json.loads((run / "run.json").read_text())["descriptions"]["missing"] == ["red fox"]
    # Of the classes that a setting does not train on the loss needs none.
    half = config(photos, method="taught", setting="base-to-new", descriptions=str(partial), max_steps=1)
    train(half, runtime(here), backbone=tiny_backbone)


def test_changed_descriptions_are_another_run(photos: Path, file: Path, tiny_backbone: Backbone, here: Path) -> None:
    settings = config(photos, method="taught", max_steps=1)
    first = train(settings, runtime(here), backbone=tiny_backbone).run
    train(settings, runtime(here), backbone=tiny_backbone)
    assert len(Taught.seen) == 1
    write_descriptions(file, SORTED, PHRASES | {"red fox": ["a tail"]})
    with pytest.raises(InputError, match=r"descriptions of the classes .* have changed since the run"):
        train(settings, runtime(here), backbone=tiny_backbone)
    train(settings, runtime(here), backbone=tiny_backbone, force=True)
    assert (first / "descriptions.jsonl").read_bytes() == file.read_bytes()
    # An earlier method's copy does not stay behind.
    train(config(photos, max_steps=1), runtime(here), out=first, force=True, backbone=tiny_backbone)
    assert not (first / "descriptions.jsonl").exists()
