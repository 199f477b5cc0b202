"""What a trained method says of pictures: classes, probabilities, and where it was asked for, what it does not know.

Shapes: B pictures, K classes.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from vlmprompt import shown
from vlmprompt.methods.classifier import Classification
from vlmprompt.predict.rejection import UNKNOWN, Rejection

SHOWN = 3  # classes of a picture
ROWS = 20  # pictures in a notebook


@dataclass(frozen=True, repr=False)
class Prediction(Classification):
    """What is said of some pictures, in their order.

    Attributes:
        sources: what each picture is called: its path where it has one.
        temperature: the logits are divided by it before they become probabilities; 1: nothing was fitted.
        rejection: by which pictures are told from unknown things; None where it was not asked for.
        scores_B: float32, of each picture; None likewise.
        sets_BK: bool, the classes of each prediction set; None where none was asked for.
        shown: how many classes of a picture `top`, tables and notebooks show.
    """

    sources: tuple[str, ...] = ()
    temperature: float = 1.0
    rejection: Rejection | None = None
    scores_B: Tensor | None = None
    sets_BK: Tensor | None = None
    shown: int = SHOWN

    @cached_property
    def probabilities_BK(self) -> Tensor:
        """Softmax of the logits over the temperature."""
        return probabilities(self.logits_BK, self.temperature)

    @property
    def verdicts(self) -> list[str] | None:
        """ "known" or "unknown" of each picture; None where no rejection was asked for."""
        if self.rejection is None or self.scores_B is None:
            return None
        return self.rejection.verdicts(self.scores_B.tolist())

    @property
    def sets(self) -> list[list[str]] | None:
        """The names in each prediction set, the likeliest first; None where none was asked for."""
        if self.sets_BK is None:
            return None
        order_BK = self.probabilities_BK.argsort(dim=-1, descending=True, stable=True)
        rows = zip(order_BK.tolist(), self.sets_BK.tolist(), strict=True)
        return [[self.class_names[label] for label in order if inside[label]] for order, inside in rows]

    def top(self, k: int | None = None) -> list[dict[str, float]]:
        """For each picture its k likeliest classes with their probabilities; by default as many as were asked for."""
        return super().top(self.shown if k is None else k)

    def __repr__(self) -> str:
        lines = [f"Prediction({len(self)} pictures, {len(self.class_names)} classes)"]
        verdicts = self.verdicts or [""] * len(self)
        for source, top, verdict in list(zip(self.sources, self.top(), verdicts, strict=True))[:ROWS]:
            said = ", ".join(f"{shown.line(name)} {p:.3f}" for name, p in top.items())
            lines.append(f"  {shown.line(source)}: {said}{f', {verdict}' if verdict else ''}")
        return "\n".join(lines + ["  ..."] * (len(self) > ROWS))

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        verdicts = self.verdicts or [""] * len(self)
        heads = ["picture", *(["class", "probability"] * min(self.shown, len(self.class_names)))]
        heads += ["verdict"] * (self.verdicts is not None)
        rows = [_row([html.escape(head) for head in heads], "th")]
        for source, top, verdict in list(zip(self.sources, self.top(), verdicts, strict=True))[:ROWS]:
            cells = [_cell(source), *(part for name, p in top.items() for part in (_cell(name), f"{p:.3f}"))]
            rows.append(_row(cells + [f"<b>{verdict}</b>" if verdict == UNKNOWN else verdict] * bool(verdict), "td"))
        more = f"<caption>the first {ROWS} of {len(self):,} pictures</caption>" if len(self) > ROWS else ""
        return f"<table>{more}{''.join(rows)}</table>"


def probabilities(logits_BK: Tensor, temperature: float) -> Tensor:
    """Softmax of logits over a temperature above 0, finite however small that is."""
    return ((logits_BK - logits_BK.amax(dim=-1, keepdim=True)) / temperature).softmax(dim=-1)


def joined(parts: list[Prediction], empty: Prediction) -> Prediction:
    """Several predictions as one; of none, the empty one."""
    if not parts:
        return empty
    first = parts[0]
    scores = [part.scores_B for part in parts if part.scores_B is not None]
    sets = [part.sets_BK for part in parts if part.sets_BK is not None]
    return Prediction(
        first.class_names,
        torch.cat([part.logits_BK for part in parts]),
        tuple(source for part in parts for source in part.sources),
        first.temperature,
        first.rejection,
        torch.cat(scores) if scores else None,
        torch.cat(sets) if sets else None,
        first.shown,
    )


def _cell(text: str) -> str:
    return html.escape(shown.line(text))


def _row(cells: list[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in cells) + "</tr>"
