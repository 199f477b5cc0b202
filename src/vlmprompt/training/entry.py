"""`vlmprompt train` as a function, for use from Python."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.keys import RUN_FIELDS, TRAIN_FIELDS
from vlmprompt.config.layers import file_trackers
from vlmprompt.config.models import Runtime
from vlmprompt.config.resolve import resolve
from vlmprompt.data.load import require_spec
from vlmprompt.errors import UsageError, did_you_mean
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.begun import resolve_begun
from vlmprompt.training.run import train as run_training
from vlmprompt.training.runs import Run, load_run


class PythonWarnings(SilentProgress):
    """Shows nothing but warnings, as Python does."""

    def warn(self, text: str) -> None:
        warnings.warn(text, stacklevel=2)


def train(
    method: str | None = None,
    data: str | None = None,
    backbone: str | Backbone | None = None,
    *,
    shots: int | Literal["all"] | None = None,
    seed: int | None = None,
    options: Mapping[str, Any] | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    config: Path | str | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> Run:
    """Train a method, as `vlmprompt train` does: the same defaults, files, environment and run folder.

    `train(out=FOLDER, resume=True)` goes on with what was begun there. A finished run of the same configuration is
    returned as it is.

    Args:
        method: a registered method, see `list_methods`.
        data: spec of a data set, such as "folder:photos"; default: the built-in drawings.
        backbone: spec such as "ViT-B-16-quickgelu/openai", or towers in memory; default: the built-in model.
        shots: images a class, or "all"; default 16.
        seed: of the sample, of initial values and of the order of images; default 1.
        options: the method's own options, such as {"n_ctx": 4}.
        out: the run's folder; default: a name made of the configuration, in `runtime.runs_dir`.
        resume: go on where this run was stopped, bit for bit on a CPU.
        force: replace what is in the folder.
        config: a file as `--config` takes it.
        runtime: device, image-decoding processes, folders, trackers.
        progress: who is told how it goes; default: nobody, and warnings are Python's.
        settings: any other setting of a run or of its training by name, such as lr=0.01, setting="base-to-new";
            None: not given.

    Returns:
        The run: `run.classifier()` classifies pictures, `evaluate(run, "accuracy")` measures it.

    Raises:
        UsageError: an unknown or wrong setting, method or option.
        InputError, CapabilityError, PluginError, Interrupted: see `training.run.train`.
    """
    given = arguments_of(method, data, backbone, options, {"shots": shots, "seed": seed, **settings})
    towers = backbone if isinstance(backbone, Backbone) else None
    file = None if config is None else Path(config)
    runtime = runtime or Runtime()
    if named := () if runtime.tracker else file_trackers(file):
        runtime = runtime.model_copy(update={"tracker": named})
    ask = partial(resolve, given, config_file=file, arguments=True)
    place = None if out is None else Path(out)
    resolved = resolve_begun(place, ask) if place is not None and resume and not force else ask()
    result = run_training(
        resolved.run,
        runtime,
        out=place,
        resume=resume,
        force=force,
        progress=progress or PythonWarnings(),
        sources=resolved.sources,
        backbone=towers,
    )
    return load_run(result.run)


def arguments_of(
    method: str | None,
    data: str | None,
    backbone: str | Backbone | None,
    options: Mapping[str, Any] | None,
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Arguments of a call as `config.resolve` takes them; see `train`.

    Raises:
        UsageError: there is no such setting, or data are given that are no spec.
    """
    if data is not None:
        require_spec(data)
    named: dict[str, Any] = {"method": method, "data": data}
    named |= _identity(backbone) if isinstance(backbone, Backbone) else {"backbone": backbone}
    named |= {_key(name): str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    return named | {f"options.{name}": value for name, value in (options or {}).items()}


def _key(name: str) -> str:
    """The dotted key of a setting.

    Raises:
        UsageError: there is none of this name.
    """
    if name in RUN_FIELDS:
        return name
    if f"train.{name}" in TRAIN_FIELDS:
        return f"train.{name}"
    if name in Runtime.model_fields:
        raise UsageError(f"{name!r} is where a run is made, and no setting of it", hint=f"runtime=Runtime({name}=...)")
    known = [key.removeprefix("train.") for key in (*RUN_FIELDS, *TRAIN_FIELDS)]
    raise UsageError(
        f"there is no setting {name!r}",
        hint=f"{did_you_mean(name, known)} Options of the method: options={{{name!r}: ...}}",
    )


def _identity(towers: Backbone) -> dict[str, Any]:
    """What tells towers in memory apart, for the record of the run."""
    return {"backbone": towers.spec, "random_weights": towers.random_weights, "quick_gelu": towers.quick_gelu}
