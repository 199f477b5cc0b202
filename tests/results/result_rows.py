"""Rows for tests: a plausible one, with what matters changed."""

from __future__ import annotations

from typing import Any

from vlmprompt.results.rows import ResultRow


def row(**changes: Any) -> ResultRow:
    """A top-1 row of a CoOp run."""
    fields: dict[str, Any] = {
        "run": "run",
        "method": "coop",
        "dataset": "photos",
        "backbone": "ViT-B-32-quickgelu",
        "shots": 16,
        "seed": 1,
        "suite": "accuracy",
        "suite_version": 1,
        "cell": "test",
        "metric": "top1",
        "value": 0.5,
        "n": 100,
    }
    return ResultRow(**fields | changes)
