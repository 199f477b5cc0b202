"""Rows as a frame of pandas, for tables: each number once, by names that tell data sets and towers apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from vlmprompt.results.means import identity, with_means_of_what_is_shown
from vlmprompt.results.rows import BACKBONE_DIGEST, DATA, DATA_DIGEST, ResultRow

MISSING = "–"
DEFAULT = "default"
SETUP = "setup."  # before a key of `ResultRow.setup` that became a column of the frame
Column = tuple[str, str]  # cell (what stands before a slash), metric


def frame_of(rows: Iterable[ResultRow]) -> pd.DataFrame:
    """Rows as a frame, each unit of work once although several runs may quote it, means of what is there.

    Of a cell `a/b`, a goes across and b down, as "score".
    """
    newest = {(identity(row), row.cell, row.metric): row for row in rows}
    quoted = {(row.key or id(row), row.method, row.cell, row.metric): row for row in newest.values()}
    shown = _told_apart(with_means_of_what_is_shown(quoted.values()))
    frame = pd.DataFrame([row.model_dump() for row in shown], columns=list(ResultRow.model_fields))
    frame["value"] = frame["value"].astype(float)
    frame["shots"] = [_shots(row) for row in shown]
    frame["score"] = [cell.partition("/")[2] for cell in frame["cell"]]
    frame["cell"] = [cell.partition("/")[0] for cell in frame["cell"]]
    frame["column"] = list(zip(frame["cell"], frame["metric"], strict=True))
    for key in dict.fromkeys(key for setup in frame["setup"] for key in setup):
        frame[SETUP + key] = [setup.get(key, DEFAULT if "." in key else MISSING) for setup in frame["setup"]]
    return frame


def _told_apart(rows: Iterable[ResultRow]) -> list[ResultRow]:
    """The rows, with more in the names of data sets and towers where one name stands for several."""
    rows = list(rows)
    data = _labels([(row.dataset, row.setup.get(DATA_DIGEST), row.setup.get(DATA)) for row in rows])
    towers = _labels([(row.backbone, row.setup.get(BACKBONE_DIGEST), None) for row in rows])
    both = zip(rows, data, towers, strict=True)
    return [row.model_copy(update={"dataset": dataset, "backbone": tower}) for row, dataset, tower in both]


def _labels(things: Sequence[tuple[str, str | None, str | None]]) -> list[str]:
    """Names of things given as name, digest and spec: with the spec, or else the digest, where a name is not enough."""
    digests: dict[str, dict[str, str | None]] = {}  # name -> digest -> spec
    for name, digest, spec in things:
        if digest is not None:  # unknown of a training that failed
            digests.setdefault(name, {})[digest] = spec

    def label(name: str, digest: str | None, spec: str | None) -> str:
        known = digests.get(name, {})
        if len(known) < 2:
            return name
        specs = set(known.values())
        return f"{name} ({spec if spec and len(specs) == len(known) else digest or 'unknown'})"

    return [label(*thing) for thing in things]


def _shots(row: ResultRow) -> str:
    """Where neither shots nor seed matter, or with 0 shots, nothing was trained; shots alone missing are all images."""
    if row.shots is None:
        return MISSING if row.seed is None else "all"
    return str(row.shots) if row.shots else MISSING
