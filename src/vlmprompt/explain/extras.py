"""What explain.json shows of a run beside its images: what it has learned, and how that came about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vlmprompt.explain.learned import learned_figures, learned_tables
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.runs import Run


def extra_figures(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Figures that are written into the folder: `file`, `title` and `caption` of each."""
    return learned_figures(run, folder)


def extra_tables(run: Run, method: PromptMethod) -> list[dict[str, Any]]:
    """Tables: `title`, `columns`, `rows` and `caption` of each."""
    return learned_tables(run, method)
