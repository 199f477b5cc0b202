"""What explain.json shows of a run beside its images: what it has learned, and how that came about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from vlmprompt.explain.learned import learned_figures, learned_tables
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.training.runs import Run


def extra_figures(run: Run, folder: Path) -> list[dict[str, Any]]:
    """Figures that are written into the folder: `file`, `title` and `caption` of each."""
    return learned_figures(run, folder)


def extra_tables(run: Run, method: PromptMethod) -> list[dict[str, Any]]:
    """Tables: `title`, `columns`, `rows`, `caption` and `by` of each, those that the method itself shows first."""
    return [*own_tables(run, method), *(table | {"by": None} for table in learned_tables(run, method))]


def own_tables(run: Run, method: PromptMethod) -> list[dict[str, Any]]:
    """What the method shows of its parameters: `by` is its name.

    Raises:
        PluginError: it failed.
    """
    with method.blamed(), torch.no_grad():
        return [
            {
                "title": own.title,
                "columns": list(own.columns),
                "rows": [list(row) for row in own.rows],
                "caption": own.caption,
                "by": run.config.method,
            }
            for own in method.learned_tables()
        ]
