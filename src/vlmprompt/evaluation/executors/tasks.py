"""Runs of a grid as plain data, and back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.config.resolve import Resolved, Said
from vlmprompt.evaluation.executors.contract import SweepTask
from vlmprompt.evaluation.grid import Job


@dataclass(frozen=True)
class Plan:
    """What the tasks of one sweep have in common.

    Attributes:
        cwd: where the command was given; paths are relative to it.
        out: the sweep's folder.
        suites: names of those that are measured.
        references: methods that are measured beside each run.
        worker: whoever does the work ends where others hold all that is left.
        measured_on: further arguments of `runner.evaluate`.
    """

    cwd: Path
    out: Path
    runtime: Runtime
    suites: Sequence[str]
    references: Sequence[str]
    worker: bool
    measured_on: Mapping[str, Any]

    def dump(self) -> dict[str, Any]:
        """As JSON has it."""
        found: dict[str, Any] = to_jsonable_python(vars(self))
        return found

    @classmethod
    def parse(cls, found: Mapping[str, Any]) -> Plan:
        """What `dump` gave."""
        places = {"cwd": Path(found["cwd"]), "out": Path(found["out"]), "runtime": Runtime(**found["runtime"])}
        return cls(**{**found, **places})


def tasks_of(plan: Plan, groups: Sequence[Sequence[Job]], *, together: bool) -> Iterator[tuple[SweepTask, list[Job]]]:
    """The tasks of a sweep, each with its runs.

    Args:
        together: runs of a group are one task, as a suite reads one beside the others; otherwise each run is one.
    """
    shared = plan.dump()
    for runs in groups if together else [[job] for group in groups for job in group]:
        name = runs[0].folder.name + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")
        yield SweepTask(name, {"plan": shared, "runs": [_dump(job) for job in runs]}), list(runs)


def plan_of(task: SweepTask) -> Plan:
    """What a task has in common with the others."""
    return Plan.parse(task.spec["plan"])


def runs_of(task: SweepTask) -> list[Job]:
    """The runs of a task; of their configurations it is known what each value is, and who said it last."""
    return [_parse(run) for run in task.spec["runs"]]


def _dump(job: Job) -> dict[str, Any]:
    return {
        "config": job.config.model_dump(mode="json"),
        "sources": job.resolved.sources,
        "folder": str(job.folder),
        "dataset": job.dataset,
    }


def _parse(run: Mapping[str, Any]) -> Job:
    said = {key: (Said(source, None),) for key, source in run["sources"].items()}
    return Job(Resolved(RunConfig.model_validate(run["config"]), said), Path(run["folder"]), run["dataset"], {})
