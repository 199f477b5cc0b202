"""The executor `ray` with a stand-in for Ray: same rows, lost actors, no Ray. The real one: `nox -s ray`."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.sweep_tiny import SETS, resolver
from tests.ray_cluster.stand_in import StandIn
from tests.training.material import Hooked, Noisy, make_photos, registered, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError
from vlmprompt.evaluation.executors.contract import Executor
from vlmprompt.evaluation.grid import Grid
from vlmprompt.evaluation.runner import RESULTS_FILE
from vlmprompt.evaluation.sweep import sweep
from vlmprompt.results.rows import ResultRow
from vlmprompt_ray.cluster import TELEMETRY
from vlmprompt_ray.config import RayConfig
from vlmprompt_ray.executor import RayExecutor


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 classes, 2 train and 2 test images each."""
    return make_photos(tmp_path_factory.mktemp("ray") / "photos", splits={"train": 2, "test": 2})


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch, tiny_backbone: Backbone) -> Iterator[StandIn]:
    """Stands in for Ray; towers come from memory."""
    found = StandIn()
    monkeypatch.setitem(sys.modules, "ray", found)  # type: ignore[arg-type]
    monkeypatch.setenv(TELEMETRY, "1")
    monkeypatch.setattr("vlmprompt.evaluation.resources.load_backbone", lambda *args, **more: tiny_backbone)
    with registered("noisy", Noisy):
        yield found


def run(
    pictures: Path,
    out: Path,
    executor: Executor | None,
    progress: Hooked | None = None,
    seeds: tuple[int, ...] = (1, 2),
) -> list[ResultRow]:
    return sweep(
        Grid(["noisy"], [f"folder:{pictures}"], [1], list(seeds)),
        resolver(*SETS),
        ["accuracy"],
        runtime(out.parent / "unused"),
        out=out,
        reference=False,
        executor=executor,
        progress=progress or Hooked(),
    )


def numbers(rows: list[ResultRow]) -> list[tuple[Any, ...]]:
    return [(row.run, row.metric, row.value, row.key, row.status) for row in rows]


def checkpoints(out: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(out.glob("runs/*/*.safetensors"))]


def test_lost_actors_are_replaced_and_nothing_is_lost(pictures: Path, tmp_path: Path, ray: StandIn) -> None:
    expected = run(pictures, tmp_path / "whole", None)
    ray.lose = lambda number, event: number == 0 and event["kind"] == "advance"
    progress = Hooked()
    with RayExecutor(RayConfig(cpu=1.0)) as executor:
        rows = run(pictures, tmp_path / "sweep", executor, progress)
    assert numbers(rows) == numbers(expected)
    assert checkpoints(tmp_path / "sweep") == checkpoints(tmp_path / "whole") != []
    assert len((tmp_path / "sweep" / RESULTS_FILE).read_bytes().splitlines()) == len(expected)
    said = "an actor was lost (the node is gone); another goes on with noisy-photos-tiny-vit-1shot-"
    assert sum(text.startswith(said) for text in progress.warnings) == 1, progress.warnings
    assert ray.options[0]["num_cpus"] == 1.0
    assert ray.options[0]["num_gpus"] == 0.0
    assert ray.said[0]["address"] == "local"
    assert ray.said[-1] == "shutdown"


def test_a_run_that_loses_every_actor_is_given_up(pictures: Path, tmp_path: Path, ray: StandIn) -> None:
    ray.lose = lambda number, event: True
    with RayExecutor(RayConfig(jobs=1)) as executor:
        rows = run(pictures, tmp_path / "sweep", executor, seeds=(1,))
    assert [row.status for row in rows] == ["failed"]
    assert rows[0].note.startswith("3 actors were lost while they were at it; the last: the node is gone")
    assert len(ray.options) == 3


def test_statistics_are_off_here_and_there(ray: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    from vlmprompt_ray.cluster import environment

    monkeypatch.setenv("VLMPROMPT_ROOT", "/data")
    RayExecutor(RayConfig()).close()
    assert os.environ[TELEMETRY] == "0"
    passed = environment(RayConfig(cpu=2.5))
    assert (passed[TELEMETRY], passed["OMP_NUM_THREADS"], passed["VLMPROMPT_ROOT"]) == ("0", "2", "/data")


def test_no_ray_at_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", StandIn(unreachable="could not find any"))  # type: ignore[arg-type]
    monkeypatch.setenv(TELEMETRY, "0")
    with pytest.raises(InputError, match="no Ray can be reached at address auto: could not find any") as caught:
        RayExecutor(RayConfig(address="auto"))
    assert "ray start --head" in str(caught.value.hint)


def test_nobody_listens_at_an_address(ray: StandIn) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{listening.getsockname()[1]}"  # bound, and deaf
        with pytest.raises(InputError, match=f"no Ray can be reached at address {address}"):
            RayExecutor(RayConfig(address=address))
    assert ray.said == []


def test_ray_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # type: ignore[arg-type]
    monkeypatch.setenv(TELEMETRY, "0")
    with pytest.raises(InputError, match="executor ray needs Ray, which cannot be imported") as caught:
        RayExecutor(RayConfig())
    assert caught.value.hint == "python -m pip install 'vlmprompt[ray]'"


def test_no_room(ray: StandIn, pictures: Path, tmp_path: Path) -> None:
    with (
        RayExecutor(RayConfig(gpu=1)) as executor,
        pytest.raises(InputError, match="no node of the cluster has 1 CPUs and 1 GPUs"),
    ):
        run(pictures, tmp_path / "sweep", executor)
