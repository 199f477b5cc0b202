"""What people write, saved by an editor with a byte-order mark and Windows line ends, is the same to all readers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vlmprompt.config.layers import file_layer
from vlmprompt.data.coop.listing import _lines, _read_json
from vlmprompt.data.lists import CsvReader, JsonReader
from vlmprompt.data.names import read_names
from vlmprompt.data.ood_sets import _listed
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.describe.providers.file import _object
from vlmprompt.describe.templates import load_template
from vlmprompt.errors import InputError, UsageError
from vlmprompt.reproduce.recipe import load_recipe

RECIPE = """
title = "Small"
about = "Zürich"
seeds = [1]
[[grid]]
methods = ["coop"]
data = ["folder:photos"]
shots = [2]
suites = ["accuracy"]
[[column]]
header = "all"
suite = "accuracy"
cell = "test"
metric = "top1"
"""
ROWS = '[{"path": "a.png", "label": "é", "split": "train"},\n {"path": "b.png", "label": "é", "split": "test"}]'


def listed(reader: Any) -> Callable[[Path], Any]:
    def read(file: Path) -> Any:
        for name in ("a.png", "b.png"):
            (file.parent / name).touch()
        dataset = reader.load(str(file), root=None, class_names_file=None, split_seed=1)
        return dataset.class_names, [(r.id, r.label) for split in ("train", "test") for r in dataset.split(split)]

    return read


FILES: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "run.toml": ('shots = 4\n[train]\nlr = 0.1\n[options]\nctx_init = "é"\n', lambda file: file_layer(file).values),
    "recipe.toml": (RECIPE, lambda file: load_recipe(str(file))),
    "list.csv": ("path,label,split\na.png,é,train\nb.png,é,test\n", listed(CsvReader())),
    "list.json": (ROWS, listed(JsonReader())),
    "names.txt": ("é\nred fox\n", lambda file: read_names(file, None)[0]),
    "ood.txt": ("é/1.png 0\nb/2.png 1\n", _listed),
    "classes.txt": ("é\nb c\n", _lines),
    "split.json": (
        '{"train": [["é.png", 0, "é"]],\n "test": [["b.png", 0, "é"]]}',
        lambda file: (_read_json(file).names, _read_json(file).splits),
    ),
    "descriptions.jsonl": (
        '{"class_index": 0, "class": "é", "text": "long"}\n{"class_index": 1, "class": "b", "text": "short"}\n',
        lambda file: DescriptionFile.read(file).lines,
    ),
    "described.json": ('{"é": ["a",\n "b"]}', lambda file: _object(file)[0]),
    "question.txt": ("What does a {class} look like?\n", lambda file: load_template(str(file)).text),
    "question.toml": ('text = "What is é about {class}?"\nkind = "sentence"\n', lambda file: load_template(str(file))),
}


@pytest.mark.parametrize("name", FILES)
def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path, name: str) -> None:
    text, read = FILES[name]
    file = tmp_path / name
    file.write_bytes(text.encode())
    plain = read(file)
    file.write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    assert read(file) == plain


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith((".toml", ".json", ".jsonl"))])
@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "9" * 10_000 + "]"], ids=["deep", "digits"])
def test_lists_without_end_and_numbers_without_end_are_one_line(tmp_path: Path, name: str, text: str) -> None:
    _, read = FILES[name]
    (tmp_path / name).write_text(f"a = {text}" if name.endswith(".toml") else text)
    with pytest.raises((InputError, UsageError)) as error:
        read(tmp_path / name)
    assert name.removesuffix(".toml") in error.value.message and "\n" not in error.value.message
    assert len(error.value.message) < 400
