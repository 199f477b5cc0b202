"""`explain.json`: what `vlmprompt explain` has drawn of a run, read as outside input."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.shown import problem

EXPLAIN_DIR = "explain"
EXPLAIN_FILE = "explain.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Drawn(_Model):
    """One picture of an image; `pointing` is its score where masks are known, `chance` that of looking anywhere."""

    file: str
    kind: str = ""
    title: str = ""
    caption: str = ""
    pointing: float | None = None
    chance: float | None = None


class ExplainedImage(_Model):
    """One image and what was drawn of it; `true` is None of an image without a label."""

    id: str
    path: str | None = None
    true: str | None = None
    predicted: str
    probability: float | None = None
    pictures: tuple[Drawn, ...] = ()


class ExplainedFigure(_Model):
    """A figure of the run as a whole."""

    file: str
    title: str = ""
    caption: str = ""


class ExplainedTable(_Model):
    """A table of the run as a whole."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""


class Explained(_Model):
    """The content of explain.json.

    Attributes:
        checkpoint: SHA-256 of the checkpoint that was looked at.
        folder: where its files are.
    """

    version: Literal[1]
    run: str
    checkpoint: str | None = None
    images: tuple[ExplainedImage, ...] = ()
    figures: tuple[ExplainedFigure, ...] = ()
    tables: tuple[ExplainedTable, ...] = ()
    folder: Path = Path()

    @classmethod
    def read(cls, folder: Path) -> Explained | None:
        """What lies in a folder; None where nothing was drawn.

        Raises:
            InputError: explain.json cannot be read, or is damaged.
        """
        path = folder / EXPLAIN_FILE
        if not path.exists():
            return None
        try:
            found = cls.model_validate_json(regular(path).read_bytes())
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}", hint="check who may read it") from error
        except ValidationError as error:
            raise InputError(
                f"{path} is damaged, or of another version ({problem(error)})",
                hint="draw it again with 'vlmprompt explain'",
            ) from error
        return found.model_copy(update={"folder": folder})
