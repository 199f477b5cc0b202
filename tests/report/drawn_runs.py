"""Runs in memory for sections, and what is to be read off their SVG."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

import numpy as np

from tests.report.material import details, key_of, measured
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Figure, Section, Table
from vlmprompt.results.details import Details
from vlmprompt.results.rows import ResultRow

SVG = "{http://www.w3.org/2000/svg}"


def run_of(
    name: str,
    rows: Sequence[ResultRow] = (),
    cells: Mapping[str, Details] | None = None,
    *,
    method: str = "coop",
    reference: bool = False,
    log: Sequence[dict[str, Any]] = (),
) -> ReportRun:
    """A run without a folder."""
    return ReportRun(
        name, None, None, list(rows), log=list(log), details=cells or {}, method=method, reference=reference
    )


def told(label: Sequence[int], prediction: Sequence[int], names: Sequence[str], *, confidence: float = 0.75) -> Details:
    """Images whose class was told so, all with one confidence."""
    rest = (1 - confidence) / max(1, len(names) - 1)
    p_BK = np.full((len(label), len(names)), rest)
    p_BK[np.arange(len(label)), prediction] = confidence if len(names) > 1 else 1.0
    return details([f"{i}.png" for i in range(len(label))], names, p_BK, label)


def classified_run(
    name: str, found: Details, number: int = 1, *, method: str = "coop", reference: bool = False, **changes: Any
) -> ReportRun:
    """A run with one cell of the accuracy suite."""
    value = float(found.correct.mean())
    one = measured(name, number, method=method, value=value, n=len(found), **changes)
    return run_of(name, [one], {key_of(number): found}, method=method, reference=reference)


def scores_run(name: str, inside: Mapping[str, Any], outside: Mapping[str, Any], set_name: str = "far") -> ReportRun:
    """A run with one cell of the OOD suite for each score."""
    rows, cells = [], {}
    for number, score in enumerate(inside, 1):
        sides = {score: np.asarray(inside[score], float)}, {score: np.asarray(outside[score], float)}
        cells[key_of(number)] = Details(
            "scores",
            "folder:photos",
            ("cat", "dog"),
            suite="ood",
            cell=f"{set_name}/{score}",
            inside=sides[0],
            outside=sides[1],
            in_ids=tuple(map(str, range(len(sides[0][score])))),
            out_ids=tuple(map(str, range(len(sides[1][score])))),
            companion=set_name,
        )
        rows.append(measured(name, number, suite="ood", cell=f"{set_name}/{score}", metric="auroc"))
    return run_of(name, rows, cells)


def figures(section: Section | None) -> list[Figure]:
    """Of a section that is there."""
    assert section is not None
    return [part for part in section.parts if isinstance(part, Figure)]


def tables(section: Section | None) -> list[Table]:
    """Of a section that is there."""
    assert section is not None
    return [part for part in section.parts if isinstance(part, Table)]


def texts(figure: Figure) -> list[str]:
    """All texts that are drawn."""
    return [element.text or "" for element in ElementTree.fromstring(figure.svg).iter(f"{SVG}text")]


def paths(figure: Figure, style: str) -> list[list[tuple[float, float]]]:
    """The corners of all paths with a piece of style, in points from the upper left."""
    found = [
        element.get("d", "")
        for element in ElementTree.fromstring(figure.svg).iter(f"{SVG}path")
        if style in element.get("style", "")
    ]
    return [[(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+) (-?[\d.]+)", d)] for d in found]
