"""The digest of weights that is kept: always that of the tensors, and computed only where something has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlmprompt.backbones import kept_digest
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.backbones.kept_digest import sample_digest, weights_digest


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Of each whole digest that is computed how many numbers it covers; samples of these tensors have fewer."""
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", str(tmp_path / "cache"))
    found: list[int] = []

    def watched(tensors: dict[str, Tensor]) -> str:
        count = sum(tensor.numel() for tensor in tensors.values())
        if count >= 1000:
            found.append(count)
        return tensors_digest(tensors)

    monkeypatch.setattr(kept_digest, "tensors_digest", watched)
    return found


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    return {"weight": torch.arange(1000.0).view(20, 50), "scale": torch.tensor(2.0)}


@pytest.mark.parametrize("folder", [False, True])
def test_it_is_computed_once_for_a_file(
    computed: list[int], tensors: dict[str, Tensor], tmp_path: Path, folder: bool
) -> None:
    file = tmp_path / "model" / "weights.pt"
    file.parent.mkdir()
    file.write_bytes(b"some")
    named = str(file.parent if folder else file)
    found = [weights_digest(tensors, named) for _ in range(3)]
    assert set(found) == {tensors_digest(tensors)} and computed == [1001]
    file.write_bytes(b"same")  # of one size; the time of change is another
    os.utime(file, ns=(1, 1))
    assert weights_digest(tensors, named) == found[0] and len(computed) == 2


def test_towers_that_were_changed_in_memory_get_a_digest_of_their_own(
    computed: list[int], tensors: dict[str, Tensor], tmp_path: Path
) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"some")
    first = weights_digest(tensors, str(file))
    tensors["weight"].data *= 1.5
    assert weights_digest(tensors, str(file)) == tensors_digest(tensors) != first
    assert len(computed) == 2


@pytest.mark.parametrize("content", ["", "[]", "{", '{"seen": 1, "digest": 2}'])
def test_a_damaged_entry_is_computed_anew(
    computed: list[int], tensors: dict[str, Tensor], tmp_path: Path, content: str
) -> None:
    file = tmp_path / "weights.pt"
    file.write_bytes(b"some")
    weights_digest(tensors, str(file))
    (entry,) = (tmp_path / "cache" / "digests").iterdir()
    entry.write_text(content, encoding="utf-8")
    for _ in range(2):
        assert weights_digest(tensors, str(file)) == tensors_digest(tensors)
    assert len(computed) == 2


def test_without_a_file_or_a_place_for_it_nothing_is_kept(
    computed: list[int], tensors: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "weights.pt"
    for given in (None, str(tmp_path / "gone.pt")):
        assert weights_digest(tensors, given) == tensors_digest(tensors)
    assert not (tmp_path / "cache").exists()
    file.write_bytes(b"some")
    (tmp_path / "taken").write_bytes(b"a file, where a folder should be")
    for place in (str(tmp_path / "taken"), "~nobody-of-this-name/cache"):
        monkeypatch.setenv("VLMPROMPT_CACHE_DIR", place)
        assert weights_digest(tensors, str(file)) == tensors_digest(tensors)
    assert len(computed) == 4


def test_a_sample_covers_every_tensor_its_name_type_and_shape() -> None:
    plain = {"a": torch.arange(640.0), "b": torch.zeros(3)}
    others: list[dict[str, Tensor]] = [
        {**plain, "b": torch.ones(3)},
        {**plain, "b": torch.zeros(3, 1)},
        {**plain, "b": torch.zeros(3, dtype=torch.float64)},
        {"a": plain["a"], "c": plain["b"]},
        {**plain, "a": torch.arange(640.0) + 1},
    ]
    digests = [sample_digest(tensors) for tensors in (plain, *others)]
    assert len(set(digests)) == 6
    changed = plain["a"].clone()
    changed[11] = -1  # between two that are looked at: every tenth is
    assert sample_digest({**plain, "a": changed}) == digests[0]
