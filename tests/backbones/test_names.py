"""Names of architectures and tags as open_clip's files have them, against open_clip itself."""

from __future__ import annotations

import re
import sys

import open_clip
import pytest

from vlmprompt import installed
from vlmprompt.backbones import listed, names
from vlmprompt.backbones.load import load_backbone
from vlmprompt.errors import InputError, UsageError


def test_architectures_are_open_clips_own_with_or_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sorted(open_clip.list_models())
    assert listed.architectures() == expected
    monkeypatch.delitem(sys.modules, "open_clip")
    assert listed.architectures() == expected


def test_tags_are_open_clips_own() -> None:
    for architecture in open_clip.list_models():
        assert list(listed.tags(architecture) or ()) == open_clip.list_pretrained_tags_by_model(architecture)
    assert listed.tags("ViT-B-16-quickgelu")
    assert listed.tags("no-such") == ()


@pytest.mark.parametrize(
    "text", ["_PRETRAINED = table()", "_PRETRAINED = {key: {}}", "other = {}", "_PRETRAINED = {'a': b}"]
)
def test_a_table_in_another_shape_is_not_known(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(installed, "package_file", lambda *_: text)
    assert listed._table.__wrapped__() is None


def test_what_cannot_be_read_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listed, "_pretrained", lambda: None)
    names.require_backbone("ViT-B-16/opnai")
    with pytest.raises(UsageError, match="unknown architecture"):
        names.require_backbone("ViT-B-1/openai")


@pytest.mark.parametrize(
    ("spec", "seed"),
    [
        ("doodle-clip", None),
        ("hf-hub:owner/name", None),
        ("local-dir:/somewhere", None),
        ("ViT-B-16/openai", None),
        ("ViT-B-16", 0),
        ("ViT-B-32-quickgelu/laion2b_s34b_b79k", None),  # the loader names the right twin
    ],
)
def test_what_may_be_right_is_left_to_the_loader(spec: str, seed: int | None) -> None:
    names.require_backbone(spec, random_weights=seed)


@pytest.mark.parametrize(
    ("spec", "seed", "message", "hint"),
    [
        ("", None, "no backbone named", "for example"),
        ("local-dir:", None, "names no folder", "local-dir:folder"),
        ("hf-hub:", None, "names no OWNER/NAME", "hf-hub:OWNER/NAME"),
        ("local-dir:there", 0, "names weights, --random-weights asks for others", "leave --random-weights out"),
        ("hf-hub:a/b", 0, "names weights, --random-weights asks for others", "leave --random-weights out"),
        ("HF-HUB:a/b", None, "unknown architecture", "did you mean --backbone hf-hub:a/b?"),
        ("local_dir:x/y", None, "unknown architecture", "did you mean --backbone local-dir:x/y?"),
        ("doodle-clip/x", None, "'doodle-clip' has its own weights", "use --backbone doodle-clip"),
        ("https://host/x.pt", None, "is an address", "fetch the file"),
        ("ViT-B-32/https://host/x.pt", None, "is an address", "fetch the file"),
        ("RN50", None, "names no weights", "RN50-quickgelu/openai, or"),
        ("ViT-H-14", None, "names no weights", "ViT-H-14/laion2b_s32b_b79k, or"),
        ("ViT-B-16/~nobody-at-all/x.pt", None, "there is no file ~nobody-at-all/x.pt", "check the path"),
    ],
)
def test_what_cannot_be_right_is_told(spec: str, seed: int | None, message: str, hint: str) -> None:
    for refuse in (names.require_backbone, load_backbone):
        with pytest.raises((UsageError, InputError), match=re.escape(message)) as error:
            refuse(spec, random_weights=seed)
        assert hint in str(error.value.hint)


@pytest.mark.parametrize("spec", ["someone/model", "nothing-like-it", "open_clip"])
def test_a_hint_names_no_loader_and_not_all_architectures(spec: str) -> None:
    with pytest.raises(UsageError) as error:
        names.require_backbone(spec)
    assert "open_clip" not in str(error.value.hint) and "EVA01" not in str(error.value.hint)


def test_the_weights_that_are_suggested_first_can_be_loaded_as_written() -> None:
    """By open_clip's own word on the activation: the first tags of most architectures are OpenAI's."""
    for architecture in open_clip.list_models():
        known = listed.tags(architecture)
        if known:
            name, _, tag = names._loadable(architecture, known[0]).partition("/")
            config = open_clip.get_pretrained_cfg(name.removesuffix(listed.TWIN), tag)
            built = bool((open_clip.get_model_config(name) or {}).get("quick_gelu"))
            assert built >= bool(config.get("quick_gelu")) or f"{name}{listed.TWIN}" not in open_clip.list_models()
