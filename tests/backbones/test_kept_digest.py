"""The digest of weights that is kept: always that of the tensors, and computed only where something has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vlmprompt.backbones import kept_digest
from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.backbones.kept_digest import WORDS, sums_digest, weights_digest


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[int]:
    """Of each whole digest that is computed how many numbers it covers; those of sums have other names."""
    monkeypatch.setenv("VLMPROMPT_CACHE_DIR", str(tmp_path / "cache"))
    found: list[int] = []

    def watched(tensors: dict[str, Tensor]) -> str:
        if "weight" in tensors:
            found.append(sum(tensor.numel() for tensor in tensors.values()))
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
    tensors["weight"].data[3, 7] += 1
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


def test_sums_cover_every_tensor_its_name_type_and_shape() -> None:
    plain = {"a": torch.arange(640.0), "b": torch.zeros(3)}
    others: list[dict[str, Tensor]] = [
        {**plain, "b": torch.ones(3)},
        {**plain, "b": torch.zeros(3, 1)},
        {**plain, "b": torch.zeros(3, dtype=torch.int32)},
        {"a": plain["a"], "c": plain["b"]},
        {**plain, "a": torch.arange(640.0) + 1},
    ]
    assert len({sums_digest(tensors) for tensors in (plain, *others)}) == 6


def test_sums_tell_every_change_of_a_weight() -> None:
    """A single number, a column, rows that change places; of whole sums (6 of them) and of what is left over."""
    weight = torch.randn(96, 192, generator=torch.Generator().manual_seed(0))
    assert weight.nbytes > 8 * WORDS and weight.nbytes % (8 * WORDS)
    changed = [weight.clone() for _ in range(5)]
    changed[0][3, 7] = torch.nextafter(changed[0][3, 7], torch.tensor(9.0))
    changed[1][-1, -1] *= -1
    changed[2][:, 64:128] = 0
    changed[3][[0, 1]] = weight[[1, 0]]
    changed[4][5, [8, 9]] = weight[5, [9, 8]]
    assert len({sums_digest({"w": tensor}) for tensor in (weight, *changed)}) == 6
    columns = torch.empty(192, 96).T.copy_(weight)
    behind = torch.cat([torch.zeros(1), weight.flatten()])[1:].view(96, 192)  # at an odd place of its memory
    assert {sums_digest({"w": tensor}) for tensor in (columns, behind)} == {sums_digest({"w": weight})}
