"""Which package a run's method came from, in words for when it is gone or another version of it does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from vlmprompt.distributions import UNKNOWN, code_version
from vlmprompt.errors import InputError, UsageError
from vlmprompt.plugins import CORE, DISABLE, host
from vlmprompt.training.provenance import LIBRARIES
from vlmprompt.training.run_info import RunInfo


def package_of(versions: Mapping[str, str]) -> tuple[str, str]:
    """The distribution that a run's method came from, and its version, as run.json and checkpoints keep them."""
    others = [name for name in versions if name not in LIBRARIES]
    package = others[0] if others else CORE
    return package, versions.get(package, UNKNOWN)


def require_package(info: RunInfo) -> None:
    """Refuse a run whose method is not there.

    Raises:
        InputError: says which package and version it was trained with, and how to get it.
        PluginError: the package is there and its plugin failed.
    """
    try:
        host().methods.get(info.config.method)
    except UsageError as error:
        package, version = package_of(info.versions)
        here = code_version(package)
        what = f"run {info.name} was trained by method {info.config.method!r} of {package} {version}"
        if any(source.distribution == package for source in host().disabled):
            raise InputError(f"{what}, which is disabled", hint=f"take it out of {DISABLE}") from error
        if here == UNKNOWN:
            raise InputError(f"{what}, which is not installed", hint=_pip(package, version)) from error
        raise InputError(
            f"{what}; {package} {here} is installed and has no such method", hint=_pip(package, version)
        ) from error


@contextmanager
def fitting(versions: Mapping[str, str]) -> Iterator[None]:
    """Within, a state that does not fit its method is told with the version that wrote it and the one that is here.

    Raises:
        InputError: it does not fit.
    """
    try:
        yield
    except InputError as error:
        package, version = package_of(versions)
        here = code_version(package)
        if here == version:
            raise
        told = f"{error.message}; it was written with {package} {version}, installed is {here}"
        raise InputError(told, hint=f"{_pip(package, version)}, or train again") from error


def _pip(package: str, version: str) -> str:
    """How to install a version; behind its "+" stands the digest of a checkout, which pip has not."""
    released = version.partition("+")[0]
    return f"python -m pip install '{package}=={released}'" if released != UNKNOWN else f"install {package}"
