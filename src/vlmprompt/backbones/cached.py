"""Features that were computed once: in memory, or in files of which the rows that are asked for are read.

Shapes: B rows, V views of n images.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vlmprompt.backbones.types import GLOBAL, ImageFeatures


class CachedFeatures:
    """Features of V views of n images, view after view: row v*n + i is view v of record i.

    Attributes:
        features: raw features of all V*n rows.
        labels: (V*n,).
        views: V.
        source: "computed", or where they were read from.
    """

    def __init__(self, features: ImageFeatures, labels: Tensor, views: int = 1, source: str = "computed") -> None:
        self._features: ImageFeatures | None = features
        self.labels, self.views, self.source = labels, views, source

    @property
    def features(self) -> ImageFeatures:
        """All rows."""
        assert self._features is not None
        return self._features

    def rows(self, index_B: Tensor | slice) -> ImageFeatures:
        """Some rows, where the features are.

        Args:
            index_B: int64, on the device of the labels.
        """
        return self.features[index_B]

    def global_only(self) -> CachedFeatures:
        """The same without local features and what else there is."""
        return CachedFeatures(ImageFeatures(self.features.global_Bd), self.labels, self.views, self.source)

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return _bytes(self.features)

    @property
    def held(self) -> int:
        """Bytes of them in memory."""
        return self.bytes


@dataclass(frozen=True)
class Piece:
    """Consecutive rows.

    Attributes:
        rows: how many.
        open: gives tensors of them by name, memory-mapped or in memory: those that are named, or all.
        held: bytes of them in memory before they are opened.
    """

    rows: int
    open: Callable[[Collection[str] | None], Mapping[str, Tensor]]
    held: int = 0


class StoredFeatures(CachedFeatures):
    """Features in files, which are opened when a row of theirs is first asked for.

    Attributes:
        opened: which pieces were.

    Args:
        pieces: in the order of the rows.
        size: bytes of all rows in fp32.
        names: of the tensors; None: all that there are.
        alive: held for as long as rows may be asked for.
    """

    def __init__(
        self,
        pieces: Sequence[Piece],
        labels: Tensor,
        views: int,
        source: str,
        *,
        size: int,
        names: Collection[str] | None = None,
        alive: object = None,
    ) -> None:
        self._features = None
        self.labels, self.views, self.source = labels, views, source
        self.opened: set[int] = set()
        self._pieces, self._size, self._names, self._alive = pieces, size, names, alive
        self._tensors: dict[int, Mapping[str, Tensor]] = {}

    @property
    def features(self) -> ImageFeatures:
        """All rows, from here on in memory."""
        if self._features is None:
            pieces = [self._opened(number) for number in range(len(self._pieces))]
            whole = {name: torch.cat([_single(piece[name]) for piece in pieces]) for name in pieces[0]}
            self._features = ImageFeatures.from_tensors(whole)
            self._tensors.clear()
        return self._features

    def rows(self, index_B: Tensor | slice) -> ImageFeatures:
        """Copies of some rows, in fp32."""
        if self._features is not None:
            return self._features[index_B]
        if isinstance(index_B, slice):
            index_B = torch.arange(len(self.labels))[index_B]
        piece_B = torch.bucketize(index_B, self._ends, right=True)
        found: dict[str, Tensor] = {}
        for number in piece_B.unique().tolist():
            place_b = (piece_B == number).nonzero().flatten()
            local_b = index_B[place_b] - (int(self._ends[number]) - self._pieces[number].rows)
            for name, tensor in self._opened(number).items():
                part = _single(tensor[local_b])
                found.setdefault(name, part.new_empty(len(index_B), *part.shape[1:]))[place_b] = part
        return ImageFeatures.from_tensors(found)

    def global_only(self) -> StoredFeatures:
        """See `CachedFeatures.global_only`."""
        return StoredFeatures(
            self._pieces, self.labels, self.views, self.source, size=self._size, names=[GLOBAL], alive=self._alive
        )

    @property
    def bytes(self) -> int:
        """See `CachedFeatures.bytes`."""
        return self._size

    @property
    def held(self) -> int:
        """See `CachedFeatures.held`."""
        loaded = 0 if self._features is None else _bytes(self._features)
        return loaded + sum(piece.held for piece in self._pieces)

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor([piece.rows for piece in self._pieces]).cumsum(0)

    def _opened(self, number: int) -> Mapping[str, Tensor]:
        if number not in self._tensors:
            self._tensors[number] = self._pieces[number].open(self._names)
            self.opened.add(number)
        return self._tensors[number]


def _single(tensor: Tensor) -> Tensor:
    """Floats as fp32."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _bytes(features: ImageFeatures) -> int:
    return sum(t.numel() * t.element_size() for t in features.tensors().values())
