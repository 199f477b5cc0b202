"""`vlmprompt predict` as it is typed: what it prints, writes and sorts, and how it ends."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.cli import predicted
from vlmprompt.cli.main import main
from vlmprompt.cli.predicted import Target
from vlmprompt.errors import UsageError
from vlmprompt.predict.sorting import Sorter
from vlmprompt.predict.writers import Csv, JsonLines, Lines
from vlmprompt.training.runs import load_run

ROW: dict[str, Any] = {"picture": "a.png", "class": "fox", "label": 1, "probability": 0.75}
ROW |= {
    "others": [{"class": "o,wl", "probability": 0.25}],
    "score": 0.1234567,
    "verdict": "known",
    "set": ["fox", "o,wl"],
}


@pytest.fixture(autouse=True)
def place(finished: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_spec: None) -> Path:
    """A working directory with a run, and a folder `in` of twelve pictures."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "runs" / "mine")
    shutil.copytree(photos / "test", tmp_path / "in")
    return tmp_path


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def sorted_files(folder: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


def test_a_table_of_the_newest_run(capsys: pytest.CaptureFixture[str], tiny_backbone: Backbone) -> None:
    assert main(["predict", "in", "--top", "2", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    heads, *rows = out.splitlines()
    assert heads.split() == ["picture", "class", "p", "then"] and len(rows) == 12
    run = load_run("runs/mine")
    files = sorted(Path("in").rglob("*.png"))
    top = run.predict(files, top=2, backbone=tiny_backbone).top()
    for row, file, two in zip(rows, files, top, strict=True):
        (name, p), (other, q) = two.items()
        assert row.split() == [*str(file).split(), *name.split(), f"{p:.3f}", *other.split(), f"{q:.3f}"]
    assert "newest run: runs/mine" in err and "pictures: 12/12 img" in err


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_broken_picture_among_good_ones(workers: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/broken.png").write_text("no picture")
    Path("in/notes.txt").touch()
    code = main(["predict", "mine", "in", "--format", "jsonl", "--workers", workers, "--batch-size", "5"])
    out, err = capsys.readouterr()
    assert code == 5 and len(lines(out)) == 12
    assert "cannot read image in/broken.png" in err and "notes.txt" not in err
    assert "error: 1 of 13 pictures could not be read, and are left out" in err


def test_nothing_that_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    Path("broken.png").write_text("no picture")
    assert main(["predict", "mine", "broken.png", "--out", "found.csv"]) == 3
    assert "none of 1 pictures could be read" in capsys.readouterr().err
    assert not Path("found.csv").exists() and not list(Path().glob(".*part"))


def test_formats_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "mine", "in", "--reject", "0.9", "--conformal", "0.25", "--top", "2"]
    assert main([*command, "--format", "jsonl"]) == 0
    rows = lines(capsys.readouterr().out)
    assert main([*command, "--out", "deep/found.csv"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "" and "written to deep/found.csv" in captured.err
    table = list(csv.DictReader(io.StringIO(Path("deep/found.csv").read_text())))
    assert list(table[0]) == [
        "picture",
        "class",
        "label",
        "probability",
        "class_2",
        "probability_2",
        "score",
        "verdict",
        "set",
    ]
    for row, flat in zip(rows, table, strict=True):
        assert (row["picture"], row["class"], row["verdict"]) == (flat["picture"], flat["class"], flat["verdict"])
        assert float(flat["score"]) == row["score"] and float(flat["probability"]) == row["probability"]
        assert flat["set"].split("; ") == row["set"] and flat["class_2"] == row["others"][0]["class"]
    assert main([*command, "--json"]) == 0
    captured = capsys.readouterr()
    data = json.loads(captured.out)["data"]
    assert data["predictions"] == rows and data["pictures"] == 12 and data["unread"] == 0
    assert data["rejection"]["n"] == 12 and data["rejection"]["split"] == "val" and data["conformal"]["alpha"] == 0.25
    assert data["unknown"] == sum(row["verdict"] == "unknown" for row in rows) and data["temperature"] == 1.0
    assert "threshold by" not in captured.err  # they are kept
    assert main([*command, "--json", "--out", "found.jsonl"]) == 0
    assert "predictions" not in json.loads(capsys.readouterr().out)["data"]
    assert lines(Path("found.jsonl").read_text()) == rows


def test_sorted_into_a_folder_within(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "mine", "in", "--sort-into", "in/sorted", "--reject", "0.5", "--format", "jsonl"]
    assert main(command) == 0
    captured = capsys.readouterr()
    rows, first = lines(captured.out), sorted_files("in/sorted")
    assert len(first) == 12 and "sorted into in/sorted" in captured.err
    for row in rows:
        folder = "unknown" if row["verdict"] == "unknown" else row["class"]
        assert Path(row["sorted"]).parent == Path("in/sorted", folder)
        assert Path(row["sorted"]).read_bytes() == Path(row["picture"]).read_bytes()
    verdicts = [row["verdict"] for row in rows]
    assert 0 < verdicts.count("unknown") < 12
    assert main(command) == 0
    assert lines(capsys.readouterr().out) == rows and sorted_files("in/sorted") == first
    shutil.rmtree("in/sorted")
    assert main(["predict", "mine", "in", "--sort-into", "links", "--link", "symbolic"]) == 0
    assert all(path.is_symlink() for path in Path("links").rglob("*.png")) and len(sorted_files("links")) == 12


def test_a_list_on_stdin(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    text = b"in/red_fox/0.png\r\nnowhere.png\n\nin/\xff.png\nin/grey wolf"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text), encoding="ascii"))
    assert main(["predict", "mine", "-", "--format", "csv"]) == 5
    out, err = capsys.readouterr()
    found = [row["picture"] for row in csv.DictReader(io.StringIO(out))]
    assert found == ["in/red_fox/0.png", *(f"in/grey wolf/{i}.png" for i in range(3))]
    assert "cannot read image nowhere.png" in err and "2 of 6 pictures" in err
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    assert main(["predict", "mine", "-"]) == 3
    assert "standard input names no picture" in capsys.readouterr().err


@pytest.mark.filterwarnings("default:some grey pictures")
def test_pictures_of_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 52, 4), dtype=np.uint8)
    Path("odd").mkdir()
    Image.fromarray(pixels[..., 0]).save("odd/grey.png")
    Image.fromarray(pixels).save("odd/rgba.png")
    Image.fromarray(pixels[..., :3]).convert("P").save("odd/palette.png")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save("odd/deep.png")
    Image.fromarray(pixels[..., :3]).resize((20_000, 8)).save("odd/wide.png")
    assert main(["predict", "mine", "odd", "--format", "jsonl"]) == 0
    rows = {Path(row["picture"]).stem: row for row in lines(capsys.readouterr().out)}
    assert list(rows) == ["deep", "grey", "palette", "rgba", "wide"]
    assert rows["deep"]["probability"] == pytest.approx(rows["grey"]["probability"], abs=1e-5)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["mine"], 2, "no picture is named"),
        (["in", "runs/mine"], 2, "runs/mine is a run, and named behind pictures"),
        (["mine", "in", "runs/mine"], 2, "runs/mine is a run, and named beside runs/mine"),
        (["begun", "in"], 3, "run begun is not finished"),
        (["mien", "in"], 3, "neither a picture nor a run mien"),
        (["mine", "in", "nowhere"], 3, "there is no nowhere"),
        (["mine", "-", "--json"], 2, "standard input is empty under --json"),
        (["mine", "in", "--link", "hard"], 2, "--link has no effect without --sort-into"),
        (["mine", "in", "--score", "mcm"], 2, "--score has no effect without --reject"),
        (["mine", "in", "--link", "hrd", "--sort-into", "x"], 2, "unknown kind of link 'hrd'"),
        (["mine", "in", "--sort-into", "in/"], 2, "in is named as a folder of pictures, and as the folder to sort"),
        (["mine", "in", "--sort-into", "notes.txt"], 2, "notes.txt is a file, not a folder"),
        (["mine", "in", "--out", "notes.txt"], 2, "notes.txt does not say what is to be in it"),
        (["mine", "in", "--out", "in"], 2, "in is a folder, not a file"),
        (["mine", "in", "--out", "notes.txt", "--format", "table"], 2, "a table is for people"),
        (["mine", "in", "--format", "csv", "--json"], 2, "--format csv has no effect with --json"),
        (["in", "--runs-dir", "empty"], 3, "there is no finished run in empty"),
    ],
)
def test_what_is_refused(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.txt").touch()
    begun = Path("runs/begun/run.json")
    begun.parent.mkdir()
    begun.write_text(Path("runs/mine/run.json").read_text().replace('"finished"', '"interrupted"'))
    assert main(["predict", *words]) == code
    printed = capsys.readouterr()
    assert message in printed.err + printed.out and "hint" in printed.err + printed.out


def test_too_many_for_a_document(monkeypatch: pytest.MonkeyPatch) -> None:
    Target("document").require(predicted.MOST_IN_DOCUMENT)
    Target("jsonl").require(10**9)
    with pytest.raises(UsageError, match="10,001 pictures are too many for one JSON document"):
        Target("document").require(10_001)


def test_it_stops_when_nobody_reads_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Target, "abandoned", property(lambda self: True))
    assert main(["predict", "mine", "in", "--format", "jsonl", "--batch-size", "2"]) == 0
    assert len(lines(capsys.readouterr().out)) == 2


@pytest.mark.parametrize("name", ["in/red_fox/0.png", "runs/mine/run.json", "notes.csv"])
def test_a_file_of_something_else_is_not_replaced(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("notes.csv").write_text("day,bill\n1,30\n")
    before = Path(name).read_bytes()
    assert main(["predict", "mine", "in", "--out", name, "--format", "csv"]) == 3
    assert f"{name} was not made by 'vlmprompt predict'" in capsys.readouterr().err
    assert Path(name).read_bytes() == before


def test_an_earlier_file_of_predictions_is_replaced() -> None:
    Path("found.csv").touch()
    for form, beginning in (("csv", "picture,class,"), ("jsonl", '{"picture": '), ("csv", "picture,class,")):
        assert main(["predict", "mine", "in/red_fox", "--out", "found.csv", "--format", form]) == 0
        assert Path("found.csv").read_text().startswith(beginning)


@pytest.mark.skipif(os.name == "nt", reason="no named pipes there")
def test_a_pipe_is_no_place_for_predictions(capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo("pipe.csv")
    assert main(["predict", "mine", "in", "--out", "pipe.csv"]) == 3
    assert "cannot write pipe.csv: it is a named pipe, not a file" in capsys.readouterr().err
    assert Path("pipe.csv").is_fifo()


def test_a_pattern_finds_nothing_in_the_folder_that_is_filled(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["predict", "mine", "in/**/*.png", "--sort-into", "in/sorted", "--link", "symbolic"]
    for _ in range(2):
        assert main(command) == 0
        assert len(sorted_files("in/sorted")) == 12
        assert "12/12" in capsys.readouterr().err


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_what_cannot_be_read_is_counted_and_shown_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/red_fox/0.png").rename("in/two\nlines.png")
    shutil.copy("in/red_fox/1.png", os.fsencode("in/red_fox") + b"/\xff.png")
    assert main(["predict", "mine", "in/*", "in/red_fox/*"]) == 5
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 1 + 14 and "in/two lines.png" in out
    assert "16/16" in err and "2 of 16 pictures" in err


def test_bars_are_not_drawn_where_lines_come_out(monkeypatch: pytest.MonkeyPatch) -> None:
    a_file = Target("csv", Path("found.csv"))
    for terminal in (False, True):
        monkeypatch.setattr(sys.stdout, "isatty", lambda terminal=terminal: terminal, raising=False)
        found = [Target(form).bars(5) for form in ("table", "csv", "jsonl", "document")]
        assert found == ([None, False, False, None] if terminal else [None] * 4)
        assert [Target("table").bars(total) for total in (1000, 1001, None)] == (
            [None, False, False] if terminal else [None] * 3
        )
        assert a_file.bars(None) is None


def test_text_of_rows() -> None:
    text = io.StringIO()
    for _ in range(2):
        Csv(text.write).add([ROW])
    head = "picture,class,label,probability,class_2,probability_2,score,verdict,set\n"
    line = 'a.png,fox,1,0.75,"o,wl",0.25,0.1234567,known,"fox; o,wl"\n'
    assert text.getvalue() == (head + line) * 2
    writer, text = Csv((two := io.StringIO()).write), two
    writer.add([ROW, ROW])
    writer.add([ROW])
    assert text.getvalue() == head + line * 3
    text = io.StringIO()
    JsonLines(text.write).add([ROW, ROW])
    assert lines(text.getvalue()) == [ROW, ROW]


def test_tables_of_so_many_rows() -> None:
    shown: list[tuple[list[str], int]] = []
    writer = Lines(lambda heads, rows: shown.append((list(heads), len(rows))), most=3)
    for count in (2, 5, 1):
        writer.add([ROW] * count)
    writer.close()
    writer.close()
    assert [count for _, count in shown] == [3, 3, 2]
    assert shown[0][0] == ["picture", "class", "p", "then", "score", "verdict", "set"]
    plain = {key: [] if key == "others" else ROW[key] for key in ("picture", "class", "probability", "others")}
    cells: list[Any] = []
    writer = Lines(lambda heads, rows: cells.extend([heads, *rows]), most=3)
    writer.add([plain, plain | {"picture": "b.png"}])
    writer.close()
    assert cells == [["picture", "class", "p"], ["a.png", "fox", "0.750"], ["b.png", "fox", "0.750"]]


@pytest.mark.skipif(os.name == "nt", reason="no such names there")
def test_names_that_could_steer_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in/red_fox/0.png").rename("bell\x07\x1b[31m.png")
    for form in ("table", "csv", "jsonl"):
        assert main(["predict", "mine", ".", "--format", form]) == 0
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err and "\x07" not in out + err and r"bell\u0007\u001b[31m.png" in out
    assert main(["predict", "mine", ".", "--out", "found.csv"]) == 0
    assert "bell\x07\x1b[31m.png" in Path("found.csv").read_text()


def test_interrupted_it_leaves_no_half_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    puts: list[Path] = []

    def put(self: Sorter, picture: Path, label: int, *, known: bool = True) -> Path:
        puts.append(picture)
        if len(puts) == 5:
            raise KeyboardInterrupt
        return picture

    monkeypatch.setattr(Sorter, "put", put)
    earlier = "picture,class,label,probability\na.png,fox,1,0.75\n"
    Path("found.csv").write_text(earlier)
    command = ["predict", "mine", "in", "--out", "found.csv", "--sort-into", "sorted", "--batch-size", "2"]
    assert main(command) == 130
    assert Path("found.csv").read_text() == earlier and not list(Path().glob(".*part"))
    assert "interrupted" in capsys.readouterr().err


def test_towers_that_have_moved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "mine", "in", "--backbone", "tiny-vit"]) == 0
    assert main(["predict", "mine", "in", "--backbone", "doodle-clip"]) == 3
    assert "the weights of backbone 'doodle-clip' are not those that run mine" in capsys.readouterr().err


def test_a_folder_that_cannot_be_sorted_into(capsys: pytest.CaptureFixture[str]) -> None:
    Path("file").touch()
    assert main(["predict", "mine", "in", "--sort-into", "file/below"]) == 3
    assert "--sort-into" in capsys.readouterr().err.splitlines()[-1]
