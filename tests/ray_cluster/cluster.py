"""A sweep on a Ray of two nodes, one of which is killed in the middle: `python -m nox -s ray`. Needs Ray; minutes.

Both nodes are on this machine. The rows, the checkpoints and the results file must be those of the same sweep in one
process.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vlmprompt.claims.place import FOLDER
from vlmprompt.config.models import Runtime
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.errors import InputError
from vlmprompt.evaluation.executors.contract import Executor
from vlmprompt.evaluation.executors.options import make_executor
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.progress import Progress, SilentProgress, Task
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore

SEEDS = [*range(1, 13)]
SETS = ["max_steps=12", "checkpoint_every=2", "batch_size=8"]


class Killing(SilentProgress):
    """Kills a node once both are at a training."""

    def __init__(self, kill: Any) -> None:
        super().__init__()
        self.begun, self.kill = 0, kill

    @contextmanager
    def task(self, description: str, total: int | None, *, unit: str = "it") -> Iterator[Task]:
        self._training = description.endswith(": training")
        self.begun += self._training
        if self.begun == 2 and self.kill is not None:
            kill, self.kill = self.kill, None
            kill()
        with super().task(description, total, unit=unit) as task:
            yield task

    def message(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def flagged(**flags: Any) -> Resolved:
    return resolve(flags, sets=SETS, env={})


def run(out: Path, executor: Executor | None, progress: Progress, seeds: list[int] = SEEDS) -> list[ResultRow]:
    grid = Grid(["coop"], ["doodles-animals"], [1], seeds)
    runtime = Runtime(device="cpu", workers=0, feature_cache=out.parent / "features")
    return sweep(grid, flagged, ["accuracy"], runtime, out=out, reference=False, executor=executor, progress=progress)


def numbers(rows: list[ResultRow]) -> list[tuple[Any, ...]]:
    return [(row.run, row.suite, row.cell, row.metric, row.value, row.n, row.status, row.key) for row in rows]


def checkpoints(out: Path) -> dict[str, bytes]:
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("runs/*/*.safetensors")}


def require_refused(address: str) -> None:
    try:
        make_executor("ray", {"address": address})
    except InputError as error:
        print(f"refused as it must be: {error.told}")
    else:
        raise AssertionError(f"{address} was not refused")


def main() -> int:
    """The whole check; an assertion says what is wrong."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}  # of a busy machine
    require_refused("127.0.0.1:9")  # the port of `discard`, where no Ray is
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        with tempfile.TemporaryDirectory() as place:
            check(Path(place), cluster, second)
    finally:
        cluster.shutdown()
    return 0


def check(place: Path, cluster: Any, second: Any) -> None:
    """Run it on both nodes, and in this process; compare."""

    def kill() -> None:
        print("killing a node", flush=True)
        cluster.remove_node(second, allow_graceful=False)  # SIGKILL to all its processes

    out, whole = place / "sweep", place / "whole"
    progress = Killing(kill)
    with make_executor("ray", {"address": cluster.address, "gpu": 0}) as executor:
        rows = run(out, executor, progress)
        again = run(out, executor, SilentProgress())
    print(*progress.warnings, sep="\n")
    expected = run(whole, None, SilentProgress())
    lines = (out / RESULTS_FILE).read_bytes().splitlines()
    assert progress.kill is None, "no node was killed: the runs are too short"
    assert any("an actor was lost" in text for text in progress.warnings), "the loss was not noticed"
    assert numbers(rows) == numbers(expected), "other numbers"
    assert numbers(again) == numbers(rows), "a second sweep finds something else"
    assert len(lines) == len(set(lines)) == len(ResultStore(out / RESULTS_FILE).read().rows) == len(rows)
    assert checkpoints(out) == checkpoints(whole) != {}, "other checkpoints"
    assert not list(out.rglob(FOLDER)), "a claim was left"
    print(f"{len(SEEDS)} runs, {len(rows)} rows, {len(checkpoints(out))} checkpoints: as in one process")


if __name__ == "__main__":
    sys.exit(main())
