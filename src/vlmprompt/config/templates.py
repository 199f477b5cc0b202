"""Templates: hand-written texts around a class's name, such as "a photo of a {}.", one or several to be averaged."""

from __future__ import annotations

import ast
import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from vlmprompt.config.text_lines import text_lines
from vlmprompt.errors import InputError
from vlmprompt.installed import assigned
from vlmprompt.regular import named_path

PLACE = "{}"
# The seven templates that CLIP's authors selected for ImageNet.
CLIP7 = (
    "itap of a {}.",
    "a bad photo of the {}.",
    "a origami {}.",
    "a photo of the large {}.",
    "a {} in a video game.",
    "art of the {}.",
    "a photo of the small {}.",
)
# A line as it stands in a list of a program.
_QUOTED = re.compile(r"""(["']).*\1,?""")


def clip80() -> tuple[str, ...]:
    """The 80 templates that CLIP's authors wrote for ImageNet, out of the installed open_clip, which is not imported.

    Raises:
        InputError: it has no such list.
    """
    # Each is `lambda c: f"a bad photo of a {c}."`.
    listed = assigned("open_clip", "zero_shot_metadata.py", "OPENAI_IMAGENET_TEMPLATES")
    texts = [node for node in ast.walk(listed) if isinstance(node, ast.JoinedStr)]
    return tuple("".join(_part(part) for part in text.values) for text in texts)


# What --templates takes beside a file.
NAMED: Mapping[str, Callable[[], tuple[str, ...]]] = {"clip7": lambda: CLIP7, "clip80": cache(clip80)}


def fault(template: str) -> str | None:
    """What is wrong with a template, to be read after "it"; None where nothing is."""
    if template.count(PLACE) != 1:
        return "must hold exactly one {}, where the class name stands"
    if set(template.replace(PLACE, "")) & set("{}"):
        return "must hold no braces but the one {} of the class name"
    if any(unicodedata.category(sign) in ("Cc", "Cs") for sign in template):
        return "must be one line of UTF-8 text, without control characters"
    return None


def _checked(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """One template or several, fit for use."""
    texts = as_tuple(value)
    if not texts:
        raise ValueError("must hold at least one template")
    for text in texts:
        if wrong := fault(text):
            raise ValueError(wrong if isinstance(value, str) else f"holds {text!r}, which {wrong}")
    if twice := _twice(texts):
        raise ValueError(f"holds {texts[twice[1]]!r} twice, which would count double in the mean")
    return value


def _read(value: Any) -> Any:
    """The templates that a text stands for: a list by its name, one template, or a file of them."""
    if not isinstance(value, str):
        return value
    if value in NAMED:
        return NAMED[value]()
    return (value,) if PLACE in value else read_templates(named_path(value))


# Of options of methods: a text, or a list of them.
TextTemplate = Annotated[str | tuple[str, ...], AfterValidator(_checked)]
# Of a run: also by the name of a list, or of a file.
Templates = Annotated[tuple[str, ...], BeforeValidator(_read), AfterValidator(_checked)]


def read_templates(path: Path) -> tuple[str, ...]:
    """Templates from a text file, one a line; blank lines and those that begin with # say nothing.

    Raises:
        InputError: it cannot be read, holds none, or a line that is none, or one twice.
    """
    if not os.path.exists(path):  # noqa: PTH110 (Path.exists fails on names that are too long)
        raise InputError(
            f"there is no file of templates {path}",
            hint=f"a file with one text a line and {PLACE} in it for the class name, or {' or '.join(NAMED)}",
        )
    lines = text_lines(path, "templates")
    if not lines:
        raise InputError(f"{path} holds no templates", hint=f"one text a line, such as: a photo of a {PLACE}.")
    for number, line in lines:
        if _QUOTED.fullmatch(line):
            raise InputError(f"{path}, line {number} is in quotes: {line}", hint="write the text alone, without commas")
        if wrong := fault(line):
            raise InputError(f"{path}, line {number}: {line!r} {wrong}", hint=f"such as: a photo of a {PLACE}.")
    texts = tuple(line for _, line in lines)
    if twice := _twice(texts):
        first, second = (lines[place][0] for place in twice)
        raise InputError(
            f"{path}, lines {first} and {second} are the same template, {texts[twice[1]]!r}",
            hint="keep one of them: the other would count double in the mean",
        )
    return texts


def as_tuple(templates: str | Iterable[str]) -> tuple[str, ...]:
    """One template or several, as several."""
    return (templates,) if isinstance(templates, str) else tuple(templates)


def template_values(option: str | None, templates: tuple[str, ...] | None) -> dict[str, Any]:
    """A run's templates as the option in which its method takes them; empty where there are none, or no such option.

    Args:
        option: `MethodConfig.template_option`.
    """
    if option is None or not templates:
        return {}
    return {option: templates[0] if len(templates) == 1 else templates}


def _twice(texts: Sequence[str]) -> tuple[int, int] | None:
    """The places of two templates that are one to a tokenizer, which minds neither case nor runs of spaces."""
    seen: dict[str, int] = {}
    for place, text in enumerate(texts):
        first = seen.setdefault(" ".join(text.lower().split()), place)
        if first != place:
            return first, place
    return None


def _part(part: ast.expr) -> str:
    return str(part.value) if isinstance(part, ast.Constant) else PLACE
