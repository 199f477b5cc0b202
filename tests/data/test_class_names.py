"""Class names are compared as CLIP's tokenizer reads them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

import open_clip
import pytest

from vlmprompt.data.aliases import Aliases, to_label_space
from vlmprompt.data.load import load_dataset
from vlmprompt.data.names import labels_by_name, read_as, read_names, shared_names, spellings
from vlmprompt.data.records import Dataset, Record
from vlmprompt.errors import InputError

MakeTree = Callable[[Iterable[str]], Path]

SPELLINGS = """café|cafe\u0301|CAFÉ|CafÃ©|cafe|Bee|bee|ＢＥＥ|t-shirt|t - Shirt|tshirt|boeing 747|boeing747|boeing 7 47
a&amp;b|a & b|a&amp;amp;b|it's|it ' s|its|“x”|"x"|x²|x ²|x2|½|x½
Straße|strasse|ﬁn|fin|İstanbul|istanbul|x  y|x\u00a0y|xy|Ⅳ|IV|٣|3|日本|日 本|...|. . .|a...b|c++|c + +|x_y|x y
dog's|dog 's|dog ' s|&eacute;t|ét|soft\u00adhyphen|softhyphen|हिन्दी|a\u0301\u0302"""


def test_as_the_tokenizer_reads_them(tokenizer: open_clip.SimpleTokenizer) -> None:
    names = SPELLINGS.replace("\n", "|").split("|")
    tokens = {name: tokenizer.encode(" ".join(name.replace("_", " ").split())) for name in names}
    wrong = [
        (a, b) for a, b in itertools.combinations(names, 2) if (read_as(a) == read_as(b)) != (tokens[a] == tokens[b])
    ]
    assert wrong == []
    alike = {(a, b) for a, b in itertools.combinations(names, 2) if read_as(a) == read_as(b)}
    assert {("café", "cafe\u0301"), ("Bee", "ＢＥＥ"), ("t-shirt", "t - Shirt"), ("x_y", "x y")} <= alike
    assert ("café", "cafe") not in alike and ("t-shirt", "tshirt") not in alike


@pytest.mark.parametrize(("one", "other"), [("café", "cafe\u0301"), ("Bee", "bee"), ("bee", "ｂｅｅ")])
def test_folders_that_read_alike_are_no_two_classes(make_tree: MakeTree, one: str, other: str) -> None:
    photos = make_tree(f"{split}/{name}/0.png" for split, name in (("train", one), ("test", other), ("train", "x")))
    with pytest.raises(InputError, match="both name the class") as error:
        load_dataset(f"folder:{photos}")
    if not one.isascii():
        assert r"'caf\xe9'" in error.value.message and r"'cafe\u0301'" in error.value.message
    (photos / "list.csv").write_text(
        f"path,label,split\ntrain/{one}/0.png,{one},train\ntest/{other}/0.png,{other},test\n"
    )
    with pytest.raises(InputError, match="both name the class"):
        load_dataset(f"csv:{photos}/list.csv")


def test_labels_of_a_list_meet_the_names_file_as_they_read(make_tree: MakeTree, tmp_path: Path) -> None:
    photos = make_tree(["a/0.png", "b/0.png"])
    (photos / "list.csv").write_text(
        "path,label,split\na/0.png,BEE,train\nb/0.png,cafe\u0301,train\n", encoding="utf-8"
    )
    (tmp_path / "names.txt").write_text("café\nbee\n", encoding="utf-8")
    dataset = load_dataset(f"csv:{photos}/list.csv", class_names_file=tmp_path / "names.txt")
    assert [r.label for r in dataset.split("train")] == [1, 0] and dataset.class_names == ("café", "bee")


def test_names_by_place() -> None:
    assert labels_by_name(["Bee", "eel", "café"], ["cafe\u0301", "bee"]) == [1, None, 0]
    # ImageNet's two missiles: each meets its own.
    assert labels_by_name(["missile", "x", "Missile"], ["x", "missile", "missile"]) == [1, 0, 2]
    assert labels_by_name(["missile", "missile"], ["missile"]) == [0, 0]
    assert shared_names(["Ｂee", "eel"], ["bee"]) == ["Ｂee"]


# -- aliases ------------------------------------------------------------------------------------------------
def made(*names: str) -> Dataset:
    records = tuple(Record(f"{i}.png", i, Path(f"{i}.png")) for i in range(len(names)))
    return Dataset("other", "x:other", names, {"test": records})


def aliases(tmp_path: Path, text: str) -> Aliases:
    (tmp_path / "aliases.txt").write_text(text, encoding="utf-8")
    return Aliases.read(Path("aliases.txt"), tmp_path)


def test_aliases(tmp_path: Path) -> None:
    known = aliases(tmp_path, "# theirs = ours\n\nHoney_Bee = bee\ntabby = cat\nyak = ox\n")
    renamed = known.renamed(made("eel", "honey bee", "Tabby"))
    assert renamed.class_names == ("eel", "bee", "cat") and known.unused == ["yak"]
    ours = to_label_space(renamed, ("bee", "cat", "eel", "fly"), "run r")
    assert ours.class_names == ("bee", "cat", "eel", "fly")
    assert [(r.id, r.label) for r in ours.split("test")] == [("0.png", 2), ("1.png", 0), ("2.png", 1)]
    with pytest.raises(InputError, match="class 'honey bee' of x:other is none of those of run r") as error:
        to_label_space(made("eel", "honey bee"), ("bee", "eel"), "run r")
    assert error.value.hint and "--aliases" in error.value.hint
    with pytest.raises(InputError, match="classes 'cat' and 'tabby' of x:other would both be called 'cat'"):
        known.renamed(made("cat", "tabby"))


@pytest.mark.parametrize(
    ("text", "message"),
    [("bee\n", "line 1 is no alias: 'bee'"), ("a = b\n = c\n", "line 2 is no"), ("a = b\nA = c\n", "'A' has two new")],
)
def test_files_that_are_no_aliases(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        aliases(tmp_path, text)
    with pytest.raises(InputError, match="there is no"):
        Aliases.read(Path("nowhere.txt"), tmp_path)


def test_all_aliases_hold_at_once_and_leave_other_classes_alone() -> None:
    swap = Aliases.of({"cat": "dog", "Dog": "cat"})
    assert swap.renamed(made("Cat", "dog", "eel")).class_names == ("dog", "cat", "eel")
    # ImageNet's two missiles were alike before, and are no fault of the aliases.
    twice = Aliases.of({"eel": "sea eel"}).renamed(made("missile", "eel", "missile"))
    assert twice.class_names == ("missile", "sea eel", "missile")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"tabby": "CAT"}, "classes 'cat' and 'tabby' of x:other would both be called 'CAT'"),
        ({"tabby": "puss | cat"}, "classes 'cat' and 'tabby' of x:other would both be called 'cat'"),
        ({"tabby": "a", "eel": "A"}, "classes 'tabby' and 'eel' of x:other would both be called 'A'"),
        ({"tabby": "puss |cat"}, r"'puss \|cat' has a \| without a name on both sides"),
        ({"tabby": "puss | Puss"}, "says the same name twice"),
        ({"tabby": "a", "Tabby": "b"}, "'Tabby' has two new names"),
    ],
)
def test_aliases_that_leave_classes_in_doubt(table: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Aliases.of(table).renamed(made("cat", "tabby", "eel"))


def test_an_alias_that_concerns_no_class_of_the_runs_own_data_is_told() -> None:
    own = Aliases.of({"tabi": "cat", "whale": "eel", "tabby": "puss"}).own(made("tabby", "eel"))
    assert own.class_names == ("puss", "eel")  # and "whale" is what other data call an eel
    assert own.warnings == ["alias 'tabi' has no effect: no class of x:other is called so; did you mean 'tabby'?"]


# -- several names a class ----------------------------------------------------------------------------------
def test_several_names_of_a_class() -> None:
    assert spellings("car | automobile |  motor car") == ("car", "automobile", "motor car")
    assert spellings("cat|dog") == ("cat|dog",)  # a label of a list, of several things
    assert labels_by_name(["Automobile", "eel", "bike | car"], ["cat", "car | automobile"]) == [1, None, 1]
    assert shared_names(["van | AUTOMOBILE", "eel"], ["car | automobile"]) == ["van | AUTOMOBILE"]
    ours = to_label_space(made("automobile", "cat"), ("cat", "car | automobile"), "run r")
    assert [record.label for record in ours.split("test")] == [1, 0]
    assert Aliases.of({"automobile": "van"}).renamed(made("car | automobile")).class_names == ("van",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("car | auto\nAuto\n", "line 1 of .* and line 2 of .* both name the class 'Auto'"),
        ("cat\ncar | Car\n", "line 2: 'car | Car' says the same name twice"),
        ("car |\n", "line 1: 'car |' has a | without a name on both sides"),
        ("car| auto\n", "line 1: 'car| auto' has a | without"),
        ("| auto\n", "has a | without"),
    ],
)
def test_several_names_in_a_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "names.txt").write_text(text)
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        read_names(tmp_path / "names.txt", None)
    (tmp_path / "names.txt").write_text("car | automobile\ncat\n")
    assert read_names(tmp_path / "names.txt", None)[0] == ("car | automobile", "cat")
