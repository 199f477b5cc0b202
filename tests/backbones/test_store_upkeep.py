"""The store of features kept small: what was not used for longest goes, and nothing that is in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.backbones.stored_images import LOCAL, LOCAL_ROW, Wanting
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.store.in_use import READERS, in_use
from vlmprompt.backbones.store.place import Store
from vlmprompt.backbones.store.upkeep import groups, held, prune, size_in_bytes
from vlmprompt.errors import UsageError


@pytest.fixture
def wanting(tiny_backbone: Backbone, tmp_path: Path) -> Wanting:
    return Wanting(tiny_backbone, tmp_path / "store")


def test_the_least_used_go_first_and_none_that_is_in_use(wanting: Wanting) -> None:
    store = Store(wanting.folder, 1e9)
    assert prune(store, 0) == {"deleted": 0, "freed": 0, "left": 0, "in_use": 0}
    old, new = wanting(n=4), wanting(LOCAL, n=4)
    assert in_use(wanting.folder) >= {f.name for f in wanting.files}
    of_old = next(f for f in held(store) if f.size < 4 * LOCAL_ROW)
    assert prune(store, 0)["in_use"] == 2 and len(wanting.files) == 2
    kept = old.features.global_Bd.clone()
    long_ago(of_old.path)
    assert held(store)[0].path == of_old.path
    assert [row["reads"] for row in groups(store)] == ["global", "global, local value_block joint"]
    del old, new
    assert in_use(wanting.folder) == set() and not (wanting.folder / READERS).exists()
    counts = prune(store, sum(f.size for f in held(store)) - 1)
    assert counts == {"deleted": 1, "freed": of_old.size, "left": held(store)[0].size, "in_use": 0}
    assert not of_old.path.exists() and torch.equal(wanting(n=4).features.global_Bd, kept)


def long_ago(file: Path) -> None:
    """When it was last used, as far as anything tells."""
    for one in (file, file.parent / "used" / file.name):
        if one.exists():
            os.utime(one, (1e9, 1e9))


def test_what_is_used_is_younger(wanting: Wanting) -> None:
    wanting(n=4), wanting(LOCAL, n=4)
    store = Store(wanting.folder, 1e9)
    for file in wanting.files:
        long_ago(file)
    wanting(LOCAL, n=4).rows(slice(0, 1))
    assert held(store)[0].size < held(store)[1].size and held(store)[0].used == 1e9 < held(store)[1].used


@pytest.mark.parametrize(("text", "size"), [("5GB", 5e9), ("500 mb", 5e8), ("12", 12), ("0.5TB", 5e11)])
def test_sizes(text: str, size: float) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["5 apples", "", "-1GB", "nan"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="is no size"):
        size_in_bytes(text)
