"""What explain.json shows of a run beside its images: figures and tables of what was learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.runs import Run


def extra_figures(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Figures that are written into the folder: `file`, `title` and `caption` of each."""
    return []


def extra_tables(run: Run, method: PromptMethod) -> list[dict[str, Any]]:
    """Tables: `title`, `columns`, `rows` and `caption` of each."""
    return []
