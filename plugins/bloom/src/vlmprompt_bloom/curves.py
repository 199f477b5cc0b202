"""The gates over training as a picture, made of a run's log; this module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from vlmprompt.api import Curves, Panel

TOWERS = {"gate_v": "image tower", "gate_l": "text tower"}


def gate_curves(names: Collection[str]) -> Sequence[Curves]:
    """One picture of all that a log says of the gates; none where it says nothing.

    Args:
        names: what the epochs' lines hold.
    """
    shares = [_shares(gate, tower, names) for gate, tower in TOWERS.items()]
    panels = [panel for panel in (*shares, _moves(names), _ratios(names)) if panel.lines]
    if not panels:
        return ()
    caption = (
        "Cross share softmax(G)[1] of the gate of each layer: how much it takes from the other tower; 0.5 is equal "
        "shares. Below, how far the gates of a tower are apart (spread) and from where they began (change), and the "
        "norm of the gates' gradient over that of the prompts' (mean over the steps of an epoch): gates with a small "
        "ratio hardly move. The paper shows the shares after training in its Fig. 6."
    )
    return (Curves("gates", "Gates between the towers", caption, tuple(panels)),)


def _shares(gate: str, tower: str, names: Collection[str]) -> Panel:
    keys = [name for name in names if name.startswith(f"diagnostics.{gate}.") and name.endswith(".cross")]
    lines = {f"layer {key.split('.')[2]}": key for key in keys}
    return Panel(f"Gates of the {tower}", "cross share", lines, limits=(0, 1))


def _moves(names: Collection[str]) -> Panel:
    pairs = [(gate, tower, kind) for gate, tower in TOWERS.items() for kind in ("spread", "change")]
    lines = {f"{tower}, {kind}": f"diagnostics.{gate}.{kind}" for gate, tower, kind in pairs}
    there = {label: key for label, key in lines.items() if key in names}
    return Panel("How far they are apart, and moved", "difference of shares", there, limits=(0, None))


def _ratios(names: Collection[str]) -> Panel:
    lines = {tower: f"gradients.{gate}.ratio" for gate, tower in TOWERS.items()}
    there = {label: key for label, key in lines.items() if key in names}
    return Panel("Gradient of gates : prompts", "ratio of norms", there, log=True)
