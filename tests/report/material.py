"""Folders of runs for the page, written without any training; and a page taken apart."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from tests.results.result_rows import row
from vlmprompt.config.models import RunConfig
from vlmprompt.results.details import Details, details_file
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore

VOID = frozenset({"meta", "link", "img", "br"})
CHECKPOINT = "c" * 64


def key_of(number: int) -> str:
    """The key of a cell."""
    return f"{number:064x}"


def details(
    ids: Sequence[str],
    names: Sequence[str],
    probabilities_BK: Any,
    label: Sequence[int],
    dataset: str = "folder:photos",
) -> Details:
    """What was said of some images, of whole rows of probabilities."""
    p_BK = np.asarray(probabilities_BK, dtype=np.float64)
    order_BK = np.argsort(-p_BK, axis=1, kind="stable")
    rows = np.arange(len(p_BK))
    second = order_BK[:, 1] if p_BK.shape[1] > 1 else np.full(len(p_BK), -1)
    return Details(
        "classification",
        dataset,
        tuple(names),
        suite="accuracy",
        cell="test",
        ids=tuple(ids),
        label=np.asarray(label),
        prediction=order_BK[:, 0],
        confidence=p_BK.max(axis=1),
        true_probability=p_BK[rows, label],
        square_sum=(p_BK**2).sum(axis=1),
        runner_up=second,
        runner_up_probability=p_BK[rows, second],
    )


def run_json(name: str, class_names: Sequence[str], config: RunConfig, **more: Any) -> dict[str, Any]:
    """The content of a run.json."""
    content = {
        "name": name,
        "status": "finished",
        "config": config.model_dump(mode="json"),
        "sources": {},
        "class_names": list(class_names),
        "data": {
            "spec": config.data,
            "name": "photos",
            "digest": "d" * 64,
            "template": "a photo of a {}.",
            "notes": {},
            "classes": len(class_names),
            "labels": list(range(len(class_names))),
            "train_ids": ["train/a.png"],
            "val_ids": [],
            "val_source": "none",
            "fewshot_digest": "f" * 64,
        },
        "backbone": {
            "spec": config.backbone,
            "name": "tiny",
            "digest": "b" * 64,
            "random_weights": None,
            "quick_gelu": None,
        },
        "versions": {"vlmprompt": "1.0"},
        "device": "cpu",
        "features": "fresh views",
        "trainable_parameters": 2048,
        "started": "2026-01-02T03:04:05Z",
        "steps": 3,
        "seconds": 1.5,
        "peak_memory": {"rss": 300 << 20},
        "checkpoint": CHECKPOINT,
    }
    return content | more


def write_run(
    folder: Path,
    rows: Sequence[ResultRow],
    *,
    class_names: Sequence[str] = ("cat", "dog"),
    config: RunConfig | None = None,
    cells: Mapping[str, Details] | None = None,
    log: Sequence[Mapping[str, Any]] = (),
    **more: Any,
) -> Path:
    """A run's folder with results and details; `more` are keys of run.json."""
    folder.mkdir(parents=True)
    config = config or RunConfig(method="coop", data="folder:photos", backbone="tiny-vit", shots=4)
    content = run_json(folder.name, class_names, config, **more)
    (folder / "run.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in log), encoding="utf-8")
    if rows:
        ResultStore(folder / "results.jsonl").append(rows)
    for key, found in (cells or {}).items():
        file = details_file(folder / "results.jsonl", key)
        assert file is not None
        found.write(file)
    return folder


def measured(name: str, number: int = 1, **changes: Any) -> ResultRow:
    """A row of a run."""
    return row(run=name, key=key_of(number), dataset="photos", backbone="tiny-vit", **changes)


@dataclass
class Taken(HTMLParser):
    """A page taken apart as a browser does.

    Attributes:
        tags: names of all elements.
        attributes: of all elements, (element, attribute, value).
        headings: ids of the sections' headings.
        tables: rows of cells, by the table's title.
        texts: all text that is shown.
    """

    html: str
    tags: list[str] = field(default_factory=list)
    attributes: list[tuple[str, str, str]] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)
    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    texts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._open: list[str] = []
        self._title = ""
        self.feed(self.html)
        assert self._open == [], "elements that are not closed"

    @property
    def text(self) -> str:
        """All text, blanks as they are."""
        return "".join(self.texts)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        found = dict(attrs)
        if tag == "h2" and found.get("id") not in (None, "contents"):
            self.headings.append(found["id"] or "")
        if tag == "div" and found.get("role") == "region":
            self._title = found["aria-label"] or ""
            self.tables[self._title] = []
        if tag == "tr":
            self.tables[self._title].append([])
        if tag in ("td", "th"):
            self.tables[self._title][-1].append("")
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open and self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("td", "th"):
            self.tables[self._title][-1][-1] += data
        if not self._open or self._open[-1] != "style":
            self.texts.append(data)
