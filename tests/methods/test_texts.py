"""A class text that no tower can read is found before any tower runs, with the class and its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import pytest

from tests.training.material import CLASSES, config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.text.causal import CausalTower
from vlmprompt.backbones.vision.tokens import TokenEngine
from vlmprompt.errors import InputError
from vlmprompt.evaluation.runner import evaluate
from vlmprompt.methods.build import build_method, list_methods
from vlmprompt.methods.texts import require_texts_fit
from vlmprompt.training.dry_run import dry_run
from vlmprompt.training.run import train

LONG = "very " * 80 + "long"
NAMES = ("cat", "red_panda")
PHRASES = (("soft fur",), ("a ringed tail", LONG))


@pytest.fixture
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """No tower may run."""
    for part in (TokenEngine, CausalTower):
        monkeypatch.setattr(part, "encode", lambda *args, **more: pytest.fail("a tower ran"))


def photos_with(folder: Path, *names: str) -> Path:
    return make_photos(folder / "photos", splits={"train": 3, "test": 1}, classes=(*CLASSES[: 4 - len(names)], *names))


def tokens(tokenizer: open_clip.SimpleTokenizer, text: str) -> int:
    """With those of start and end."""
    return len(tokenizer.encode(text)) + 2


def refused(backbone: Backbone, method: str, names: Sequence[str] = NAMES, **options: Any) -> str:
    """What is said of a method's texts."""
    built = build_method(method, backbone, names, options, descriptions=PHRASES)
    with pytest.raises(InputError, match="too long") as error:
        require_texts_fit(built)
    return error.value.message


@pytest.mark.usefixtures("idle")
def test_the_class_its_tokens_and_the_limit_are_named(
    tiny_backbone: Backbone, tokenizer: open_clip.SimpleTokenizer
) -> None:
    n = tokens(tokenizer, f"{LONG} cat.")
    said = refused(tiny_backbone, "zeroshot", template=f"{LONG} {{}}.")
    text = f"the text of class 'cat' and of 1 more is too long: {n} tokens with its prompt, and the text tower reads 77"
    assert said == text
    # Start, 75 tokens of context, "cat", full stop, end.
    assert "class 'cat' and of 1 more is too long: 79 tokens" in refused(tiny_backbone, "coop", n_ctx=75)


@pytest.mark.usefixtures("idle")
def test_a_description_is_found_by_its_class(tiny_backbone: Backbone, tokenizer: open_clip.SimpleTokenizer) -> None:
    n = tokens(tokenizer, f"red panda, which has {LONG}")
    assert f"the text of class 'red_panda' is too long: {n} tokens" in refused(tiny_backbone, "descriptions")
    n = tokens(tokenizer, LONG)
    said = refused(tiny_backbone, "dual_pt", description_template="{phrase}")
    assert f"the text of class 'red_panda' is too long: {n} tokens" in said


@pytest.mark.parametrize("name", sorted({*list_methods()} - {"linear_probe"}))
def test_every_method_is_asked(name: str, tiny_backbone: Backbone) -> None:
    """Whatever its prompts, a name of 81 words cannot fit; where a method encodes texts when built, it is so then."""
    options = {"allow_equal_scales": True} if name == "gallop" else {}
    phrases = (("soft fur",), ("a ringed tail",))
    with pytest.raises(InputError, match=r"the text of class 'very very .* is too long: [0-9]+ tokens"):
        require_texts_fit(build_method(name, tiny_backbone, ["cat", LONG], options, descriptions=phrases))
    require_texts_fit(build_method(name, tiny_backbone, NAMES, options, descriptions=phrases))


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("act", [train, dry_run])
@pytest.mark.parametrize(("method", "changes"), [("coop", {"views": 1}), ("zeroshot", {"template": f"{LONG} {{}}"})])
def test_before_images_are_encoded(
    act: Any, method: str, changes: dict[str, Any], tiny_backbone: Backbone, tmp_path: Path
) -> None:
    photos = photos_with(tmp_path, LONG[:120])
    options = changes if method == "zeroshot" else {"n_ctx": 60, **changes}
    with pytest.raises(InputError, match="is too long"):
        act(config(photos, method=method, **options), runtime(tmp_path / "runs"), backbone=tiny_backbone)


@pytest.mark.usefixtures("idle")
def test_classes_that_are_left_for_evaluation_count_in_training(tiny_backbone: Backbone, tmp_path: Path) -> None:
    photos = photos_with(tmp_path, "yak " * 50)  # the last of four: of the new half
    settings = config(photos, setting="base-to-new", n_ctx=40)
    with pytest.raises(InputError, match=r"the text of class 'yak yak .* is too long: 9. tokens"):
        train(settings, runtime(tmp_path / "runs"), backbone=tiny_backbone)


def test_classes_of_other_data_are_refused_before_their_images(
    tiny_backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train(config(photos_with(tmp_path / "a")), runtime(tmp_path / "runs"), backbone=tiny_backbone).run
    target = photos_with(tmp_path / "b", "a " * 90, "b " * 90)
    monkeypatch.setattr(TokenEngine, "encode", lambda *args, **more: pytest.fail("a tower ran"))
    rows = evaluate(
        run,
        "cross-dataset",
        runtime(run.parent),
        backbone=tiny_backbone,
        reference=False,
        companions={"targets": [f"folder:{target}"]},
    )
    assert {row.status for row in rows} == {"failed"}
    assert "and of 1 more is too long" in rows[0].note
