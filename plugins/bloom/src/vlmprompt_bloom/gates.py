"""The gates of a trained run as a table, layers by directions.

Shapes: J prompted layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vlmprompt.api import LearnedTable

DIRECTIONS = {"gate_v": "image tower from text (l2v)", "gate_l": "text tower from image (v2l)"}


def gate_table(layers: Iterable[int], shares: Mapping[str, Sequence[float]], *, routed: bool) -> LearnedTable:
    """The cross share of each layer and direction, then its mean and spread over the layers.

    Args:
        layers: counted from 0, J of them.
        shares: cross shares by gate (`gate_v`, `gate_l`), J each.
        routed: after training a layer takes all of the larger of own and cross, and a cell says which.
    """
    by_layer = zip(layers, zip(*shares.values(), strict=True), strict=True)
    rows = [[str(layer + 1), *(_cell(share, routed) for share in own)] for layer, own in by_layer]
    rows.append(["mean", *(f"{sum(own) / len(own):.3f}" for own in shares.values())])
    rows.append(["spread", *(f"{max(own) - min(own):.3f}" for own in shares.values())])
    used = " Routing takes all of the larger share, which is named." if routed else ""
    caption = (
        "Cross share softmax(G)[1]: how much of a layer's prompts comes from the other tower; its own share is the "
        f"rest of 1.{used} Spread: the largest minus the smallest over the layers. Gates do not depend on images or "
        "classes, so each of them is one number."
    )
    return LearnedTable("Gates between the towers", ["layer", *(DIRECTIONS[gate] for gate in shares)], rows, caption)


def _cell(share: float, routed: bool) -> str:
    return f"{share:.3f}" + (f" ({'cross' if share > 0.5 else 'own'})" if routed else "")
