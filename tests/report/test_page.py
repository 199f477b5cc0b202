"""The page: what stands on it, and that nothing from outside becomes markup."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from tests.report.material import CHECKPOINT, Taken, details, key_of, measured, write_run
from vlmprompt.config.models import RunConfig
from vlmprompt.report.loading import load
from vlmprompt.report.page import SECTIONS, is_page, page
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Commands, Figure, Picture, Pictures, Section, Table, Text
from vlmprompt.report.sections.images import least_certain, surest_mistakes
from vlmprompt.results.store import ResultStore, current
from vlmprompt.results.tables import summarise

HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "{{7*7}}", "a\u202eb & 'c' {% raw %}")
# What a section may be made of; everything else would have come from outside.
PLAIN = {
    *("html", "head", "meta", "link", "title", "style", "body", "a", "div", "header", "h1", "h2", "h3", "p", "br"),
    *("ul", "li", "nav", "main", "section", "table", "thead", "tbody", "tfoot", "tr", "th", "td", "details", "summary"),
    *("figure", "figcaption", "img", "span", "pre", "code", "footer"),
}
DRAWN = {"svg", "g", "path", "use", "defs", "text", "tspan", "rect", "clippath", "image", "pattern", "title"}


FITTED = {
    "checkpoint": CHECKPOINT,
    "split": "val",
    "temperature": 1.5,
    "n": 4,
    "before": {"nll": 1.0},
    "after": {"nll": 0.5},
}


def html_of(*folders: Path, root: Path | None = None) -> str:
    stored = {
        folder / "results.jsonl": current(ResultStore(folder / "results.jsonl").read().rows) for folder in folders
    }
    return page(load(stored, root=root))


def guesses(n_classes: int, per_class: int, seed: int = 0) -> tuple[np.ndarray, list[int]]:
    """Probabilities of a classifier that is often right, and the labels."""
    noise = np.random.default_rng(seed)
    label = np.repeat(np.arange(n_classes), per_class)
    logits = noise.normal(size=(len(label), n_classes))
    logits[np.arange(len(label)), label] += 2
    p_BK = np.exp(2 * logits)
    return p_BK / p_BK.sum(axis=1, keepdims=True), label.tolist()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A page in which everything that can come from outside tries to be markup."""
    folder = tmp_path_factory.mktemp("hostile") / HOSTILE[1].replace("/", "")
    p_BK, label = guesses(4, 6)
    ids = [f"{HOSTILE[i % 4]}/{i}" for i in range(len(label))]
    rows = [measured(folder.name, value=0.5, n=24, note=HOSTILE[0], setup={"train.lr": HOSTILE[2]})]
    rows.append(measured(folder.name, 2, suite="few-shot", cell="4-shot", status="failed", note=HOSTILE[1]))
    rows.append(measured(folder.name, 3, method=HOSTILE[0], shots=None, seed=None, value=0.25, n=24))
    config = RunConfig(
        method="coop", data="folder:photos", backbone=HOSTILE[1], preset=HOSTILE[2], options={HOSTILE[0]: HOSTILE[3]}
    )
    cells = {key_of(1): details(ids, HOSTILE, p_BK, label), key_of(3): details(ids, HOSTILE, p_BK[::-1], label)}
    log = [{"step": i, "epoch": 1, "loss": 1.0 / i, "seconds": 0.1 * i} for i in range(1, 5)]
    write_run(folder, rows, class_names=HOSTILE, config=config, cells=cells, log=log, error=HOSTILE[0], status="failed")
    (folder / "calibration.json").write_text(json.dumps(FITTED | {"before": {HOSTILE[0]: 1.0}}))
    (folder / "explain").mkdir()
    explained = {
        "version": 1,
        "run": HOSTILE[0],
        "checkpoint": CHECKPOINT,
        "images": [{"id": HOSTILE[0], "predicted": HOSTILE[1], "pictures": [{"file": f"{HOSTILE[2]}.png"}]}],
        "tables": [{"title": HOSTILE[0], "columns": [HOSTILE[1]], "rows": [[HOSTILE[2]]], "caption": HOSTILE[3]}],
    }
    (folder / "explain" / "explain.json").write_text(json.dumps(explained))
    return html_of(folder)


def test_nothing_from_outside_becomes_markup(hostile: str) -> None:
    taken = Taken(hostile)
    drawn = set(taken.tags) - PLAIN
    assert "script" not in taken.tags
    assert drawn <= DRAWN, "an element that no template writes"
    events = [(tag, name) for tag, name, _ in taken.attributes if name.startswith("on")]
    assert events == []
    assert "img" not in taken.tags  # the only ones are of the names; the data set is not there
    for name in HOSTILE[:3]:
        assert name in taken.text
    cells = [cell for table in taken.tables.values() for line in table for cell in line]
    assert HOSTILE[2] in cells and "49" not in cells


def test_writing_from_right_to_left_is_shown_as_its_number(hostile: str) -> None:
    assert "\u202e" not in hostile
    assert "a\\u202eb & 'c' {% raw %}" in Taken(hostile).text


def test_names_are_escaped_within_figures_too(hostile: str) -> None:
    texts = re.findall(r"<text[^>]*>(.*?)</text>", hostile, re.DOTALL)
    assert any("&lt;script" in text or "&lt;img" in text for text in texts)
    assert any("{{7*7}}" in text for text in texts)


def test_the_page_loads_nothing(hostile: str) -> None:
    taken = Taken(hostile)
    policy = next(value for tag, _, value in taken.attributes if tag == "meta" and value.startswith("default-src"))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:;")
    addresses = {
        (tag, name, value) for tag, name, value in taken.attributes if name in ("src", "href", "srcset", "data")
    }
    assert all(value.startswith(("#", "data:")) for _, _, value in addresses), addresses
    assert "url(http" not in hostile and "@import" not in hostile


def test_links_of_the_contents_lead_to_the_sections(hostile: str) -> None:
    taken = Taken(hostile)
    links = [value for tag, name, value in taken.attributes if tag == "a" and name == "href"]
    assert links == ["#content", *(f"#{key}" for key in taken.headings)]
    assert taken.headings[0] == "results" and taken.headings[-1] == "record"
    identities = [value for _, name, value in taken.attributes if name == "id"]
    assert len(identities) == len(set(identities))


def test_the_tables_are_those_of_the_command(tmp_path: Path) -> None:
    folders = []
    for seed, value in ((1, 0.25), (2, 0.5)):
        rows = [
            measured(f"run{seed}", seed, seed=seed, value=value, n=200),
            measured(f"run{seed}", seed, seed=seed, metric="ece_15", value=0.1, n=200, higher_is_better=False),
        ]
        folders.append(write_run(tmp_path / f"run{seed}", rows))
    html = html_of(*folders)
    taken = Taken(html)
    (expected,) = summarise(row for folder in folders for row in ResultStore(folder / "results.jsonl").read().rows)
    shown = taken.tables[expected.title]
    assert shown == [list(expected.columns), *map(list, expected.rows), list(expected.images)]
    assert shown[1][-2] == "37.50 ± 17.68"  # the mean, and half the difference times the root of two
    assert shown[-1] == ["images", "", "", "200", "200"]
    assert html_of(*folders) == html


def test_settings_stand_side_by_side_where_they_differ(tmp_path: Path) -> None:
    config = RunConfig(method="coop", data="folder:photos", backbone="tiny-vit", shots=4)
    other = config.model_copy(update={"train": config.train.model_copy(update={"lr": 0.5}), "options": {"n_ctx": 2}})
    one = write_run(tmp_path / "one", [measured("one", value=0.5)], config=config, sources={"exif": "default"})
    two = write_run(tmp_path / "two", [measured("two", 2, value=0.5)], config=other, sources={"exif": "--set"})
    taken = Taken(html_of(one, two))
    assert taken.tables["Settings in which the runs differ"] == [
        ["run", "train.lr", "options.n_ctx"],
        ["one", "0.002", "–"],
        ["two", "0.5", "2"],
    ]
    shared = {line[0]: line[1:] for line in taken.tables["Settings that all runs share"]}
    assert shared["exif"] == ["true", "default, --set"]
    assert "train.lr" not in shared and "method" not in shared
    costs = taken.tables["Costs"]
    assert costs[1] == ["one", "cpu", "fp32", "2,048", "1.5", "300 MiB", "–"]
    assert taken.tables["Digests (SHA-256)"][1] == ["one", CHECKPOINT, "d" * 64, "f" * 64, "b" * 64]
    assert taken.tables["Runs"][1][5] == "2026-01-02 03:04+00:00"


def test_what_is_unfinished_or_random_is_said_first(tmp_path: Path) -> None:
    backbone = {"spec": "tiny", "name": "tiny", "digest": "b" * 64, "random_weights": 0, "quick_gelu": None}
    folder = write_run(tmp_path / "run", [measured("run", value=0.5)], status="running", backbone=backbone)
    text = Taken(html_of(folder)).text
    head = text[: text.index("Contents")]
    assert "Not finished" in head and "run: running" in head
    assert "The towers' weights are random" in head


def test_mistakes_stand_by_confidence_and_all_images_by_doubt() -> None:
    p_BK = [[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.3, 0.7], [0.3, 0.7], [0.55, 0.45]]
    found = details("abcdef", ("cat", "dog"), p_BK, [1, 0, 0, 0, 1, 1])
    assert surest_mistakes(found) == [0, 2, 3, 5]
    assert least_certain(found) == [5, 1, 3, 4, 2, 0]


@pytest.mark.parametrize(("n_classes", "per_class"), [(64, 32), (1000, 5)])
def test_a_page_of_many_classes_stays_small(tmp_path: Path, n_classes: int, per_class: int) -> None:
    names = [f"class number {i} of a long list" for i in range(n_classes)]
    p_BK, label = guesses(n_classes, per_class)
    ids = [f"test/{i}.png" for i in range(len(label))]
    log = [{"step": i, "epoch": 1 + i // 50, "loss": 1.0 / i, "seconds": 0.1 * i} for i in range(1, 3000)]
    rows = [measured("run", value=0.5, n=len(label)), measured("run", 2, method="zeroshot", value=0.5, n=len(label))]
    cells = {key_of(1): details(ids, names, p_BK, label), key_of(2): details(ids, names, p_BK[::-1], label)}
    folder = write_run(tmp_path / "run", rows, class_names=names, cells=cells, log=log)
    assert len(html_of(folder).encode()) < 3_000_000


def test_every_kind_of_part_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    figure = Figure("one", "Drawn <b>", "n = 3", '<?xml version="1.0"?><svg viewBox="0 0 1 1"><path d="M0 0"/></svg>')
    picture = Picture(b"abc", "png", 4, 2, 'alt "', ("first", "second"))
    table = Table("T", ("a", "b"), (("x", "1 & 2"),), "caption", folded=True, footnotes=("why",), footer=("n", "3"))
    parts = (figure, table, Pictures("P", (picture,), "c"), Text("plain <i>"), Commands("C", ("a b", "c 'd'")))
    made = Section("key", "Title", "Intro.", parts)
    monkeypatch.setattr("vlmprompt.report.page.SECTIONS", (lambda runs: made, lambda runs: None))
    html = page(load({}))
    taken = Taken(html)
    assert taken.headings == ["key"]
    assert taken.tables == {"T": [["a", "b"], ["x", "1 & 2"], ["n", "3"]]}
    assert '<svg viewBox="0 0 1 1"><path d="M0 0"/></svg>' in html and "<?xml" not in html
    assert ("img", "src", "data:image/png;base64,YWJj") in taken.attributes
    assert ("img", "alt", 'alt "') in taken.attributes
    assert "a b\nc 'd'\n" in taken.text
    for text in ("Drawn <b>", "n = 3", "caption", "[1] why", "first", "second", "plain <i>", "Intro."):
        assert text in taken.text
    assert html.index("<details>") < html.index("<summary>T</summary>")


def test_no_two_sections_are_one() -> None:
    assert len(set(SECTIONS)) == len(SECTIONS)


def test_sections_without_anything_to_say_are_left_out() -> None:
    bare = ReportRun("run", None, None, [measured("run", value=0.5)], method="coop")
    keys = {found.key for make in SECTIONS if (found := make([bare])) is not None}
    assert "results" in keys
    assert keys.isdisjoint({"images", "explained", "calibrated", "record", "learning", "ood", "reliability"})


def test_a_page_knows_itself(hostile: str) -> None:
    assert is_page(hostile.encode())
    assert not is_page(b"<!doctype html>\n<html>")


def luminance(colour: str) -> float:
    """Relative luminance of WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_stands_out_from_its_ground(scheme: int) -> None:
    css = (files("vlmprompt.report") / "page.css").read_text(encoding="utf-8")
    blocks = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", blocks[scheme]))
    assert set(colours) == {"bg", "fg", "muted", "line", "panel", "accent", "warn"}
    for ground in ("bg", "panel"):
        for text in ("fg", "muted", "accent", "warn"):
            low, high = sorted(luminance(colours[name]) for name in (ground, text))
            assert (high + 0.05) / (low + 0.05) >= 4.5, f"{text} on {ground}"


def test_tall_figures_have_the_whole_width_of_a_sheet(tmp_path: Path) -> None:
    p_BK, label = guesses(40, 2)
    ids = [f"{i}.png" for i in range(len(label))]
    cells = {key_of(1): details(ids, [f"class {i}" for i in range(40)], p_BK, label)}
    taken = Taken(html_of(write_run(tmp_path / "run", [measured("run", value=0.5)], cells=cells)))
    tall = {value for _, name, value in taken.attributes if name == "id" and value and value.startswith("class")}
    found = re.findall(r'<figure id="([^"]+)"( class="tall")?', html_of(tmp_path / "run"))
    assert tall & {name for name, marked in found if marked}  # 40 bars
    assert {name for name, marked in found if name.startswith("reliability")} & {n for n, marked in found if not marked}
