"""The page: one HTML file with everything in it. The same runs give the same bytes."""

from __future__ import annotations

import base64
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from itertools import groupby
from typing import Any

from jinja2 import Environment
from markupsafe import Markup, escape

from vlmprompt import __version__, shown
from vlmprompt.report.loading import Loaded
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Commands, Figure, Part, Pictures, Section, Table, Text
from vlmprompt.report.sections import (
    base_new,
    calibrated,
    classes,
    comparison,
    confusion,
    domains,
    explained,
    few_shot,
    images,
    learning,
    ood,
    record,
    reliability,
    results,
)

# The first line of the file after its type: such a file may be replaced.
MARK = "<!-- made by vlmprompt report, which replaces it -->"
_LONG = 20  # letters
_HEIGHT = re.compile(r'<svg[^>]* height="(\d+)"')
_TALLEST = 500  # CSS pixels of a figure that may stand beside another one on paper
MOST_NAMED = 6  # runs, methods or data sets in the head of the page
# What the page holds, in this order; a section that has nothing to say gives None.
SECTIONS: tuple[Callable[[Sequence[ReportRun]], Section | None], ...] = (
    results.section,
    few_shot.section,
    base_new.section,
    domains.section,
    comparison.section,
    learning.section,
    classes.section,
    confusion.section,
    reliability.section,
    calibrated.section,
    ood.section,
    images.section,
    explained.section,
    record.section,
)


@dataclass(frozen=True)
class Notice:
    """What a reader must know before anything else."""

    title: str
    lines: tuple[str, ...]


def page(loaded: Loaded) -> str:
    """The page of some runs.

    Args:
        loaded: what could not be read is told at its top, also what sections find damaged only now.
    """
    sections = [section for make in SECTIONS if (section := make(loaded.runs)) is not None]
    return _render(loaded.runs, sections, loaded.left_out)


def is_page(content: bytes) -> bool:
    """Whether a file begins as a page does."""
    return MARK.encode() in content[:200].splitlines()


def _render(runs: Sequence[ReportRun], sections: Sequence[Section], left_out: Sequence[str]) -> str:
    environment = Environment(autoescape=True, finalize=_finalize, trim_blocks=True)
    environment.filters |= {"base64": _base64, "long": _long, "svg": _svg, "tall": _tall, "whole": _whole}
    folder = files("vlmprompt.report")
    template = environment.from_string((folder / "page.html").read_text(encoding="utf-8"))
    return template.render(
        mark=Markup(MARK),
        css=Markup((folder / "page.css").read_text(encoding="utf-8")),
        title=_title(runs),
        facts=_facts(runs),
        notices=_notices(runs, left_out),
        sections=[_grouped(section) for section in sections],
        version=__version__,
    )


def _finalize(value: Any) -> Any:
    """Text from outside without what steers the direction of writing, and not without end; escaped afterwards."""
    return shown.cell(value) if type(value) is str else value


def _whole(text: str) -> Markup:
    """Text that may be long, as it is to be copied."""
    return escape(shown.block(text))


def _long(text: str) -> str:
    """The class of a cell with a word that may be broken anywhere: others would lose their last letters to a line."""
    return " long" if any(len(word) > _LONG for word in text.split()) else ""


def _base64(data: bytes) -> Markup:
    return Markup(base64.b64encode(data).decode())


def _svg(text: str) -> Markup:
    """A figure as it was drawn; what stands before the element itself is for files."""
    return Markup(shown.block(text[text.index("<svg") :]))


def _tall(svg: str) -> Markup:
    """The class of a figure whose letters are lost where two share the width of a sheet of paper."""
    found = _HEIGHT.search(svg)
    return Markup(' class="tall"' if found is not None and int(found[1]) > _TALLEST else "")


def _grouped(section: Section) -> dict[str, Any]:
    """A section as the template takes it: neighbours of one kind together."""
    groups = [(kind.__name__, list(parts)) for kind, parts in groupby(section.parts, _kind)]
    return {"key": section.key, "title": section.title, "intro": section.intro, "groups": groups}


def _kind(part: Part) -> type:
    return next(kind for kind in (Figure, Table, Pictures, Commands, Text) if isinstance(part, kind))


def _title(runs: Sequence[ReportRun]) -> str:
    own = _own(runs)
    return own[0].name if len(own) == 1 else f"{len(own)} runs: {_some(run.method for run in own)}"


def _facts(runs: Sequence[ReportRun]) -> list[str]:
    """What was measured, in a few lines."""
    rows = [row for run in runs for row in run.rows]
    beside = _some(run.method for run in runs if run.reference)
    numbers = sum(row.value is not None for row in rows)
    facts = [f"Data: {_some(row.dataset for row in rows)}. Backbone: {_some(row.backbone for row in rows)}."]
    facts += [f"Measured beside: {beside}."] if beside else []
    return [*facts, f"{numbers:,} numbers are stored, of {_some(row.suite for row in rows)}."]


def _notices(runs: Sequence[ReportRun], left_out: Iterable[str]) -> list[Notice]:
    lines = tuple(dict.fromkeys(left_out))
    unfinished = [(run, run.info) for run in runs if run.info is not None and run.info.status != "finished"]
    states = tuple(f"{run.name}: {info.status}{f' ({info.error})' if info.error else ''}" for run, info in unfinished)
    bare = tuple(run.name for run in _own(runs) if not run.rows and run.info and run.info.status == "finished")
    random = any(run.info is not None and run.info.backbone.random_weights is not None for run in runs)
    nothing = ("The numbers say nothing but that the code ran.",)
    found = [
        Notice("The towers' weights are random", nothing if random else ()),
        Notice("Cannot be used, and is left out", lines),
        Notice("Not finished", states),
        Notice("Trained, but not measured: 'vlmprompt evaluate' does that", bare),
    ]
    return [notice for notice in found if notice.lines]


def _own(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """The runs without what stands beside them."""
    return [run for run in runs if not run.reference]


def _some(names: Iterable[str]) -> str:
    """Different names in order of first appearance, the first of many."""
    counted = list(Counter(name for name in names if name))
    more = len(counted) - MOST_NAMED
    return ", ".join(counted[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
