"""Curves over the epochs of a run, drawn from its log."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vlmprompt.atomic import write_atomic
from vlmprompt.errors import InputError
from vlmprompt.methods.curves import Curves, Panel
from vlmprompt.regular import regular
from vlmprompt.training.trackers.contract import flat

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Four of Okabe and Ito's, which those tell apart, too, who do not tell red from green.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
FEW = len(COLOURS)  # lines that colours of their own tell apart; more are shaded from first to last
MARKED = 12  # epochs, each of which has a dot
SIZE = 5.0, 3.2  # inches of a panel


def epoch_lines(log: Path) -> list[dict[str, Any]]:
    """What a log says at the end of each epoch, without tables in it.

    Raises:
        InputError: it cannot be read, or a line is damaged.
    """
    try:
        content = regular(log).read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"cannot read {log}: {error.strerror}") from error
    found = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            record = json.loads(line)
            if record.get("epoch_end"):
                found.append({"epoch": int(record["epoch"])} | flat(record))
        except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
            raise InputError(f"line {number} of {log} is damaged: no line of a training's") from error
    return found


def names_of(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the lines hold, in the order in which it first comes up."""
    return list(dict.fromkeys(name for line in lines for name in line))


def draw(curves: Curves, lines: Sequence[Mapping[str, Any]], folder: Path) -> dict[str, Any]:
    """Draw a picture into a folder; the same lines give the same bytes.

    Args:
        lines: of `epoch_lines`.

    Returns:
        `file` (its name in the folder), `title` and `caption`, which says the number of epochs.

    Raises:
        InputError: it cannot be written.
    """
    import matplotlib as mpl

    content = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": curves.name}):
        figure_of(curves, lines).savefig(content, format="svg", metadata={"Date": None})
    file = f"{curves.name}.svg"
    write_atomic(folder / file, content.getvalue())
    many = f"{len(lines)} epochs" if len(lines) != 1 else "one epoch"
    return {"file": file, "title": curves.title, "caption": f"{curves.caption} Values at the end of {many}."}


def figure_of(curves: Curves, lines: Sequence[Mapping[str, Any]]) -> Figure:
    """The picture: its panels two in a row."""
    from matplotlib.figure import Figure

    columns = min(2, len(curves.panels))
    rows = math.ceil(len(curves.panels) / columns)
    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
    places = figure.subplots(rows, columns, squeeze=False).flatten()
    for axes, panel in zip(places, curves.panels, strict=False):
        _draw_panel(axes, panel, lines)
    for axes in places[len(curves.panels) :]:
        axes.set_axis_off()
    return figure


def _draw_panel(axes: Axes, panel: Panel, lines: Sequence[Mapping[str, Any]]) -> None:
    from matplotlib.ticker import MaxNLocator

    epochs, positive = [line["epoch"] for line in lines], False
    marker = "o" if len(epochs) <= MARKED else ""
    for (label, name), colour in zip(panel.lines.items(), _colours(len(panel.lines)), strict=True):
        values = [_number(line.get(name), log=panel.log) for line in lines]
        positive = positive or any(value > 0 for value in values)
        axes.plot(epochs, values, label=label, color=colour, marker=marker, markersize=3, linewidth=1.4)
    axes.set_title(panel.title)
    axes.set_xlabel("epoch")
    axes.set_ylabel(panel.label)
    axes.set_xlim(min(epochs) - 0.5, max(epochs) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(y=0.3)  # room for the legend
    if panel.limits is not None:
        axes.set_ylim(*panel.limits)
    if panel.log and positive:
        axes.set_yscale("log")
    axes.grid(alpha=0.25)
    beside = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.02), "frameon": False}
    axes.legend(fontsize="small", **({"framealpha": 0.8} if len(panel.lines) <= FEW else beside))


def _colours(n: int) -> list[Any]:
    import matplotlib as mpl

    if n <= FEW:
        return list(COLOURS[:n])
    return [mpl.colormaps["viridis"](0.9 * i / (n - 1)) for i in range(n)]


def _number(value: Any, *, log: bool) -> float:
    """A gap where there is no number, or none that the axis has a place for."""
    usable = isinstance(value, int | float) and (value > 0 or not log)
    return float(value) if usable else math.nan
