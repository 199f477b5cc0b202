"""Names of architectures and tags as open_clip's files have them, against open_clip itself."""

from __future__ import annotations

import open_clip
import pytest

from vlmprompt.backbones import names
from vlmprompt.errors import UsageError


def test_architectures_are_open_clips_own_with_or_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = sorted(open_clip.list_models())
    assert names.architectures() == expected
    monkeypatch.delitem(names.sys.modules, "open_clip")
    assert names.architectures() == expected


def test_tags_are_open_clips_own() -> None:
    for architecture in open_clip.list_models():
        assert list(names.tags(architecture) or ()) == open_clip.list_pretrained_tags_by_model(architecture)
    assert names.tags("ViT-B-16-quickgelu")
    assert names.tags("no-such") == ()


@pytest.mark.parametrize(
    "text", ["_PRETRAINED = table()", "_PRETRAINED = {key: {}}", "other = {}", "_PRETRAINED = {'a': b}"]
)
def test_a_table_in_another_shape_is_not_known(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(names, "package_file", lambda *_: text)
    assert names._table.__wrapped__() is None


def test_what_cannot_be_read_refuses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "_pretrained", lambda: None)
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
