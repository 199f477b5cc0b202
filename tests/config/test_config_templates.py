"""Templates and aliases as people write them, and what a run makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from open_clip import OPENAI_IMAGENET_TEMPLATES, SIMPLE_IMAGENET_TEMPLATES

from vlmprompt.config.aliases import read_aliases
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.config.templates import CLIP7, NAMED, read_templates
from vlmprompt.errors import InputError, UsageError


def made(method: str = "zeroshot", *sets: str, **flags: object) -> Resolved:
    return resolve({"method": method, **flags}, sets=sets, env={})


def file(tmp_path: Path, content: str | bytes, name: str = "texts.txt") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# -- templates ----------------------------------------------------------------------------------------------
def test_lists_by_name_are_those_of_open_clip() -> None:
    assert NAMED["clip80"]() == tuple(template("{}") for template in OPENAI_IMAGENET_TEMPLATES)
    assert len(NAMED["clip80"]()) == 80
    assert set(CLIP7) == {template("{}") for template in SIMPLE_IMAGENET_TEMPLATES}


def test_a_file_has_a_template_a_line(tmp_path: Path) -> None:
    content = "\ufeff# of mine\r\n\r\n  a sketch of a {}.  \r\n{} on paper\r\n"
    assert read_templates(file(tmp_path, content)) == ("a sketch of a {}.", "{} on paper")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no templates"),
        ("# nothing\n\n", "holds no templates"),
        ("a {}\n\na photo\n", r"line 3: 'a photo' must hold exactly one \{\}"),
        ("{} and {}\n", r"line 1: '\{\} and \{\}' must hold exactly one"),
        ("a {class}\n", "line 1: .* must hold exactly one"),
        ("a {} in {place}\n", "must hold no braces but the one"),
        ("a {{}}\n", "must hold no braces but the one"),
        ("a \x1b[31m{}\n", "without control characters"),
        ("a {}\nb {}\n#\nA  {}\n", "lines 1 and 4 are the same template, 'A  {}'"),
        ("a {}\na {}\n", "lines 1 and 2 are the same template"),
        ("'a photo of a {}.',\n", "line 1 is in quotes"),
        (b"\xff\xfea {}\n", "are not UTF-8 text"),
    ],
)
def test_files_that_are_no_templates(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_templates(file(tmp_path, content))


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no file of templates clip81") as error:
        made(templates="clip81")
    assert error.value.hint and error.value.hint.endswith("clip7 or clip80")
    with pytest.raises(InputError, match=r"there is no file of templates x{5000}$"):
        made(templates="x" * 5000)
    with pytest.raises(InputError, match="Is a directory"):
        made(templates=str(tmp_path))


def test_what_is_read_is_part_of_the_run_and_the_option_of_its_method(tmp_path: Path) -> None:
    path = file(tmp_path, "a {} here\nthe {}\n")
    resolved = made(templates=str(path))
    path.unlink()
    assert resolved.run.templates == ("a {} here", "the {}")
    assert resolved.run.options["template"] == ["a {} here", "the {}"]
    assert resolved.sources["options.template"] == "templates (--templates)"
    assert resolve(resolved.run.model_dump() | {"train": None, "options": None}, env={}).run == resolved.run
    assert made("kgcoop", templates="a {} here").run.options["teacher_template"] == "a {} here"
    assert made("kgcoop", data="coop:dtd", templates="a {}").run.options["teacher_template"] == "a {}"  # over overrides
    assert made("promptsrc", templates="clip7").run.options["teacher_templates"] == list(CLIP7)
    assert made("vpt", templates="the {}").run.options["template"] == "the {}"
    assert made("coop", templates="the {}").run.templates == ("the {}",)


def test_every_source_may_give_templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = file(tmp_path, 'templates = ["the {}", "a {}"]\n[aliases]\n"old fox" = "fox"\n', "run.toml")
    run = resolve({"method": "zeroshot"}, config_file=config, env={}).run
    assert run.options["template"] == ["the {}", "a {}"] and run.aliases == {"old fox": "fox"}
    assert resolve({"method": "zeroshot"}, env={"VLMPROMPT_TEMPLATES": "clip7"}).run.templates == CLIP7
    assert made("zeroshot", 'templates=["the {}", "a {}"]').run.templates == ("the {}", "a {}")
    assert made("zeroshot", "template=one {}", templates="a {}").run.options["template"] == "one {}"
    assert made("zeroshot", "templates=none").run.templates is None


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("templates", "[]", "must hold at least one template"),
        ("templates", '["a {}", "b"]', r"holds 'b', which must hold exactly one \{\}"),
        ("templates", '["a {}", "A {}"]', r"holds 'A \{\}' twice"),
        ("template", '["a {}", "A {}"]', r"holds 'A \{\}' twice"),
        ("template", "[]", "must hold at least one template"),
        ("template", "a photo", r"it must hold exactly one \{\}, where"),
        ("ensemble", "clip7", "ensemble clip7 leaves the template out"),
    ],
)
def test_values_that_are_no_templates(key: str, value: str, message: str) -> None:
    more = {"templates": "a {}"} if key == "ensemble" else {}
    with pytest.raises(UsageError, match=message):
        made("zeroshot", f"{key}={value}", **more)


# -- aliases ------------------------------------------------------------------------------------------------
def test_aliases_are_lines_or_a_table(tmp_path: Path) -> None:
    assert read_aliases(file(tmp_path, "\ufeff# mine\r\nold = new = er\r\n a=b \r\n")) == {"old": "new = er", "a": "b"}
    assert read_aliases(file(tmp_path, '"a b" = "c"\n', "names.toml")) == {"a b": "c"}
    assert read_aliases(file(tmp_path, '[aliases]\na = "c | d"\n', "names.toml")) == {"a": "c | d"}


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "a.txt", "holds no aliases"),
        ("bee\n", "a.txt", "line 1 is no alias: 'bee'"),
        ("a = b\n = c\n", "a.txt", "line 2 is no alias"),
        ("a = b\na = c\n", "a.txt", "line 2: 'a' has two new names"),
        ("a = 1\n", "a.toml", "must give every old name a new one; 'a' has 1"),
        ("aliases = 1\n", "a.toml", "must be a table"),
        ("a = \n", "a.toml", "is not TOML"),
        (b"\xff\xfe", "a.txt", "are not UTF-8 text"),
    ],
)
def test_files_that_are_no_aliases(tmp_path: Path, content: str | bytes, name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_aliases(file(tmp_path, content, name))


def test_aliases_read_back_as_set_takes_them() -> None:
    run = made(aliases={'a "b"': "c", "d": "e = f"})
    shown = dict(row.split("=", 1) for row in [f"aliases={_shown(run)}"])["aliases"]
    assert made("zeroshot", f"aliases={shown}").run == run.run


def _shown(resolved: Resolved) -> str:
    from vlmprompt.config.explain import explain

    return next(row.shown for row in explain(resolved) if row.key == "aliases")
