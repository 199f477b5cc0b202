"""Sweeps on a Ray cluster."""

from vlmprompt.api import Register, hookimpl

REQUIRES_API = "1.0"


@hookimpl
def register_executors(register: Register) -> None:
    """The executor `ray`."""
    register(
        "ray",
        target="vlmprompt_ray.executor:RayExecutor",
        config="vlmprompt_ray.config:RayConfig",
        summary="actors of a Ray cluster, one run each at a time",
    )
