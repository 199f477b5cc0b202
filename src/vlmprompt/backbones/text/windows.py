"""Where short runs of tokens lie for attention: in windows of one width, no run across two.

Runs of all lengths then need one product, and a mask keeps them apart. Only attention sees windows: other layers run
over the flat tokens, and nothing there is padded.

Shapes: T flat tokens, n windows of W slots, S slots of all windows, Q queries in the flat order, U query slots of a
window.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vlmprompt.backbones.outliving import outliving

Made = TypeVar("Made")

# Slots of a window: many enough for a product that a processor likes, few enough that most of it is not masked.
WIDTH = 32


@dataclass(frozen=True)
class Group:
    """Classes of one suffix length: `count` runs of `length` tokens from flat position `start`.

    Attributes:
        sees_itself: whether the last token of a run attends to itself.
    """

    start: int
    count: int
    length: int
    sees_itself: bool = True

    @property
    def stop(self) -> int:
        """One past the last flat position."""
        return self.start + self.count * self.length

    @property
    def last_K(self) -> Tensor:
        """Flat position of the last token of each run."""
        return torch.arange(self.start + self.length - 1, self.stop, self.length)


def adjoining(kinds: Iterable[tuple[int, int, bool]]) -> tuple[Group, ...]:
    """Groups without gaps, of the count and length of each, and whether its last tokens see themselves."""
    groups: list[Group] = []
    for count, length, sees_itself in kinds:
        groups.append(Group(groups[-1].stop if groups else 0, count, length, sees_itself))
    return tuple(groups)


@dataclass(frozen=True)
class Runs:
    """Runs of some groups, which lie without gaps, and what is made of them once.

    None of it depends on what the tokens are: chunks of classes whose runs have the same lengths share it, so that it
    does not grow with the number of classes.

    Attributes:
        hidden_T: -inf at tokens that no token of their run may attend to, 0 at others; None where there are none.
        tables: what is made once of them by others, see `once`.
    """

    groups: tuple[Group, ...]
    hidden_T: Tensor | None
    device: torch.device
    tables: dict[object, Any] = field(default_factory=dict, init=False, compare=False)

    @classmethod
    def of(cls, groups: tuple[Group, ...], hidden: Sequence[int], device: torch.device) -> Runs:
        """Runs of which the tokens at some flat positions are hidden."""
        hidden_T = None  # rather than zeros, so that masks of the many towers without a class token need no addition
        if hidden:
            at = torch.tensor(hidden, dtype=torch.long, device=device)
            hidden_T = torch.zeros(groups[-1].stop, device=device).index_fill(0, at, float("-inf"))
        return cls(groups, hidden_T, device)

    def once(self, key: object, make: Callable[[], Made]) -> Made:
        """What `make` gives, for all who ask with this key."""
        if key not in self.tables:
            with outliving():
                self.tables[key] = make()
        made: Made = self.tables[key]
        return made

    @cached_property
    def windows(self) -> Windows:
        """Where all tokens ask for attention."""
        return self._windows(ends=False)

    @cached_property
    def end_windows(self) -> Windows:
        """Where the last token of each run asks."""
        return self._windows(ends=True)

    @outliving()
    def _windows(self, *, ends: bool) -> Windows:
        return Windows.of(self.groups, self.hidden_T, ends=ends, device=self.device)


@dataclass(frozen=True)
class Windows:
    """Where runs lie in windows.

    Attributes:
        n: windows.
        token_S: the flat token in each slot of all windows; any in a slot that holds none.
        slot_T: the slot of each flat token.
        query_S: which query stands in each query slot of all windows; any in one that holds none.
        asked_S: 1 in query slots that hold one, 0 in others; None where all do.
        answer_Q: the query slot of each query.
        bias_nUW: 0 where a query may see a slot, -inf elsewhere.
    """

    n: int
    token_S: Tensor
    slot_T: Tensor
    query_S: Tensor
    asked_S: Tensor | None
    answer_Q: Tensor
    bias_nUW: Tensor
    _behind: dict[int, Tensor] = field(default_factory=dict, compare=False)

    def behind(self, n_prefix: int) -> Tensor:
        """The slot of each flat token where so many others stand first in every window; made once."""
        if n_prefix not in self._behind:
            self._behind[n_prefix] = self.slot_T + n_prefix * (1 + self.slot_T // self.bias_nUW.shape[2])
        return self._behind[n_prefix]

    @classmethod
    def of(cls, groups: Sequence[Group], hidden_T: Tensor | None, *, ends: bool, device: torch.device) -> Windows:
        """Windows of the runs of some groups, which lie without gaps.

        Args:
            hidden_T: -inf at tokens that nobody may attend to, 0 at others.
            ends: only the last token of each run asks, in place of all.
        """
        slots = _slots(groups)
        run_nW, token_nW, blind_nW = (torch.tensor(rows) for rows in slots)
        place_W = torch.arange(run_nW.shape[1])
        bias_nWW = _bias(run_nW, blind_nW, place_W)
        if hidden_T is not None:
            bias_nWW = bias_nWW + hidden_T.cpu()[token_nW][:, None]
        there_nW = run_nW >= 0
        last_nW = there_nW & (run_nW != F.pad(run_nW[:, 1:], (0, 1), value=-1))
        asks_nW = last_nW if ends else there_nW
        # Query slots of each window: those that ask come first, in their order.
        most = int(asks_nW.sum(dim=1).max())
        at_nU = asks_nW.logical_not().int().sort(dim=1, stable=True).indices[:, :most]
        asked_nU = asks_nW.gather(1, at_nU)
        query_nU = (asked_nU.flatten().cumsum(0) - 1).clamp_min(0).view_as(at_nU)
        bias_nUW = bias_nWW.gather(1, at_nU[..., None].expand(-1, -1, run_nW.shape[1]))
        # What stands in no slot sees all: its softmax is finite, and nobody reads it.
        bias_nUW = bias_nUW.masked_fill(~asked_nU[..., None], 0.0)
        return cls(
            len(run_nW),
            token_nW.flatten().to(device),
            there_nW.flatten().nonzero()[:, 0].to(device),
            query_nU.flatten().to(device),
            None if bool(asked_nU.all()) else asked_nU.flatten().float().to(device),
            asked_nU.flatten().nonzero()[:, 0].to(device),
            bias_nUW.to(device),
        )


def _slots(groups: Sequence[Group]) -> tuple[list[list[int]], list[list[int]], list[list[bool]]]:
    """Of each slot of each window: its run (-1: none), its token, and whether the token does not see itself."""
    longest, total = max(g.length for g in groups), sum(g.count * g.length for g in groups)
    width = min(max(WIDTH, longest), total)
    runs: list[list[int]] = [[]]
    tokens: list[list[int]] = [[]]
    blind: list[list[bool]] = [[]]
    run = 0
    for group in groups:
        for start in range(group.start, group.stop, group.length):
            if len(runs[-1]) + group.length > width:
                runs.append([])
                tokens.append([])
                blind.append([])
            runs[-1] += [run] * group.length
            tokens[-1] += range(start, start + group.length)
            blind[-1] += [False] * (group.length - 1) + [not group.sees_itself]
            run += 1
    width = max(map(len, runs))  # nothing is read of slots that no window fills
    for rows, filler in ((runs, -1), (tokens, 0), (blind, False)):
        for row in rows:
            row += [filler] * (width - len(row))
    return runs, tokens, blind


def _bias(run_nW: Tensor, blind_nW: Tensor, place_W: Tensor) -> Tensor:
    """0 where a token sees a token of its own run, not behind it; -inf elsewhere: (n,W,W)."""
    same_nWW = run_nW[:, :, None] == run_nW[:, None]
    seen_nWW = same_nWW & (place_W[:, None] >= place_W) & (run_nW >= 0)[:, None]
    seen_nWW = seen_nWW & ~torch.diag_embed(blind_nW)
    return torch.zeros(seen_nWW.shape).masked_fill(~seen_nWW, float("-inf"))
