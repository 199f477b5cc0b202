"""Specs to readers, through the registry."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from vlmprompt.data.load import load_dataset
from vlmprompt.errors import UsageError

MakeTree = Callable[[Iterable[str]], Path]


def test_every_scheme_of_the_core(make_tree: MakeTree, tmp_path: Path) -> None:
    photos = make_tree(["train/cat/a.png"])
    (photos / "list.csv").write_text("path,label,split\ntrain/cat/a.png,cat,train\n", encoding="utf-8")
    (photos / "list.json").write_text('[{"path":"train/cat/a.png","label":"cat","split":"train"}]', encoding="utf-8")
    names = tmp_path / "names.txt"
    names.write_text("house cat\n", encoding="utf-8")
    digests = set()
    for spec in ("folder:photos", "csv:photos/list.csv", "json:photos/list.json"):
        dataset = load_dataset(spec, root=tmp_path)
        assert dataset.spec == spec and dataset.class_names == ("cat",)
        digests.add(dataset.digest)
    assert len(digests) == 1
    assert load_dataset("folder:photos", root=tmp_path, class_names_file=names).class_names == ("house cat",)


def test_data_are_given_by_a_text(tmp_path: Path) -> None:
    path: Any = tmp_path
    with pytest.raises(UsageError, match="and not by a PosixPath") as error:
        load_dataset(path)
    assert "f'folder:{path}'" in str(error.value.hint)


def test_unknown_scheme_and_forgotten_scheme(make_tree: MakeTree) -> None:
    photos = make_tree(["train/cat/a.png", "list.csv"])
    with pytest.raises(UsageError) as error:
        load_dataset("foldr:photos")
    assert "folder" in (error.value.hint or "")
    for spec, scheme in ((photos, "folder"), (photos / "list.csv", "csv")):
        with pytest.raises(UsageError, match="does not say what it is") as error:
            load_dataset(str(spec))
        assert error.value.hint == f"write --data {scheme}:{spec}"
