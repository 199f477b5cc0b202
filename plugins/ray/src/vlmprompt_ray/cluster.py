"""The connection to Ray, and the room that a cluster has."""

from __future__ import annotations

import os
import socket
from types import ModuleType
from typing import Any

from vlmprompt.api import InputError
from vlmprompt_ray.config import RayConfig

TELEMETRY = "RAY_USAGE_STATS_ENABLED"
# What of the driver's environment holds for its runs, too, wherever they are.
PASSED_ON = ("VLMPROMPT_", "HF_HUB_OFFLINE", "PYTHONPATH")
SECONDS = 30  # for a cluster to answer


def import_ray() -> ModuleType:
    """Ray, with its usage statistics switched off.

    Raises:
        InputError: it is not installed.
    """
    os.environ[TELEMETRY] = "0"
    # Tasks without GPUs see none; later versions of Ray do so anyway, and warn until then.
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "1")
    try:
        import ray
    except ImportError as error:
        raise InputError(
            f"executor ray needs Ray, which cannot be imported ({error})", hint="python -m pip install 'vlmprompt[ray]'"
        ) from error
    module: ModuleType = ray
    return module


def connect(ray: Any, config: RayConfig) -> bool:
    """Connect to the cluster; gives whether it is ours to leave: nobody was connected before.

    Raises:
        InputError: no Ray is there, or it cannot be reached.
    """
    if ray.is_initialized():
        return False
    try:
        _knock(config.address)
        ray.init(address=config.address or "local", log_to_driver=False, logging_level="ERROR", include_dashboard=False)
    except (ConnectionError, OSError, RuntimeError, TimeoutError, ValueError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"no Ray can be reached at address {config.address or 'local'}: {reason}",
            hint="start one with 'ray start --head', give another address, or leave it out for a Ray of this machine",
        ) from error
    return True


def _knock(address: str | None) -> None:
    """Fail at once where nobody listens: Ray itself goes on trying for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host, int(port)), timeout=SECONDS).close()


def environment(config: RayConfig) -> dict[str, str]:
    """What an actor's process has in its environment."""
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    threads = str(max(int(config.cpu), 1))
    return {**passed, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads, TELEMETRY: "0"}


def gpus_each(ray: Any, config: RayConfig) -> float:
    """GPUs of an actor."""
    if config.gpu is not None:
        return config.gpu
    return 1.0 if ray.cluster_resources().get("GPU", 0) else 0.0


def room(ray: Any, config: RayConfig, gpu: float) -> int:
    """Actors that fit on the nodes as they are now.

    Raises:
        InputError: there is none.
    """
    if config.jobs is not None:
        return config.jobs
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    fitting = [
        int(min(node.get("CPU", 0) / config.cpu, node.get("GPU", 0) / gpu if gpu else float("inf"))) for node in nodes
    ]
    if not sum(fitting):
        raise InputError(
            f"no node of the cluster has {config.cpu:g} CPUs and {gpu:g} GPUs, which a run is to have",
            hint="--executor-set cpu=... and gpu=... say what a run needs",
        )
    return sum(fitting)
