"""The options of the executor `ray`; imports no Ray."""

from __future__ import annotations

from vlmprompt.api import ExecutorConfig, Field


class RayConfig(ExecutorConfig):
    """Options of `ray`: `--executor-set address=auto --executor-set gpu=0.5`."""

    address: str | None = Field(
        None,
        min_length=1,
        description="of the cluster: auto for the one that this machine belongs to, host:port, or ray://host:port; "
        "none: a Ray of this machine, for as long as the command runs",
    )
    jobs: int | None = Field(
        None, ge=1, description="runs at once; none: as many as the cluster has room for when the sweep begins"
    )
    cpu: float = Field(1.0, gt=0, description="CPU cores of a run, by which Ray places it; it has as many threads")
    gpu: float | None = Field(
        None, ge=0, description="GPUs of a run, such as 0.5 for two on one; none: 1 where the cluster has any"
    )
