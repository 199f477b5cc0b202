"""The options of the executor `local`; imports no torch."""

from __future__ import annotations

from pydantic import Field

from vlmprompt.evaluation.executors.contract import ExecutorConfig

MOST_JOBS = 256


class LocalConfig(ExecutorConfig):
    """Options of `local`."""

    jobs: int | None = Field(
        None,
        ge=1,
        le=MOST_JOBS,
        description="processes, each with a run at a time; none: one a CUDA device, "
        "or where there is none, as many as without --executor",
    )
