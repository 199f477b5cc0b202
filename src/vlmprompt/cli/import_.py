"""`vlmprompt import`: a run around a checkpoint that another code has trained."""

from __future__ import annotations

import os
import shlex
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.names import require_parts
from vlmprompt.cli.options import ForceFlag, JsonFlag
from vlmprompt.cli.output import emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.run_flags import RunFlags, mention_defaults
from vlmprompt.progress import SilentProgress
from vlmprompt.training.dassl import newest_checkpoint


def register(app: typer.Typer) -> None:
    """Add `import`."""
    app.command("import")(import_checkpoint)


@grouped
def import_checkpoint(
    flags: RunFlags,
    *,
    file: Annotated[
        Path,
        typer.Argument(
            help="Checkpoint (model.pth.tar-50, .pt, .pth, .safetensors), or Dassl's folder around it.",
            show_default=False,
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default: a name in --runs-dir.")] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Turn a checkpoint of a method's published code into a run.

    Give the backbone that it was trained with, and the data to evaluate on; the
    method where its tensors do not tell it, and the options that their shapes do
    not. Only tensors and plain values are read from the file: optimisers and
    schedules are skipped, anything else in it is refused.
    """
    progress, extra = CliProgress(), {}
    checkpoint = newest_checkpoint(file, SilentProgress())
    if not _names_method(flags):
        flags = replace(flags, method=_recognised(checkpoint, progress))
        extra = {"method": "checkpoint"}
    resolved, runtime = flags.resolve(), flags.runtime()
    require_parts([resolved.run], runtime)
    mention_defaults(resolved)
    from vlmprompt.training.imported import import_run

    sources = resolved.sources | extra
    run = import_run(resolved.run, file, runtime, out=out, force=force, progress=progress, sources=sources)
    where = [] if flags.root is None else ["--root", str(flags.root)]
    command = shlex.join(["vlmprompt", "evaluate", str(run), "--suite", "accuracy", *where])
    emit("import", {"run": run}, as_json=as_json, table=[f"run   {run}", f"next  {command}"])


def _names_method(flags: RunFlags) -> bool:
    """Whether a flag, an assignment, a file or the environment names the method."""
    from vlmprompt.config.layers import env_layers, file_layer, set_layer

    layers = [set_layer(flags.set_ or ()), *env_layers(os.environ)]
    layers += [file_layer(flags.config)] if flags.config else []
    return flags.method is not None or any("method" in layer.values for layer in layers)


def _recognised(file: Path, progress: CliProgress) -> str:
    from vlmprompt.training.foreign import read_foreign
    from vlmprompt.training.recognised import recognise

    method = recognise(read_foreign(file), file)
    progress.message(f"the tensors of {file} are those of {method}")
    return method
