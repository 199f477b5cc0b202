"""`vlmprompt import`: a run around a checkpoint that another code has trained."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from vlmprompt.cli.names import require_parts
from vlmprompt.cli.options import ForceFlag, JsonFlag
from vlmprompt.cli.output import emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.cli.run_flags import RunFlags, command_with, mention_defaults


def register(app: typer.Typer) -> None:
    """Add `import`."""
    app.command("import")(import_checkpoint)


@command_with(RunFlags)
def import_checkpoint(
    flags: RunFlags,
    *,
    file: Annotated[Path, typer.Argument(help="Checkpoint (.pt, .pth or .safetensors).", show_default=False)],
    out: Annotated[Path | None, typer.Option("--out", help="Run folder; default: a name in --runs-dir.")] = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a run of a checkpoint that a method's published code has trained.

    Give method, options and backbone as it was trained with, and the data to
    evaluate on. Only tensors and plain values are read from the file; anything
    else in it is refused.
    """
    resolved, runtime = flags.resolve(), flags.runtime()
    require_parts([resolved.run], runtime)
    mention_defaults(resolved)
    from vlmprompt.training.imported import import_run

    progress, sources = CliProgress(), resolved.sources
    run = import_run(resolved.run, file, runtime, out=out, force=force, progress=progress, sources=sources)
    where = [] if flags.root is None else ["--root", str(flags.root)]
    command = shlex.join(["vlmprompt", "evaluate", str(run), "--suite", "accuracy", *where])
    emit("import", {"run": run}, as_json=as_json, table=[f"run   {run}", f"next  {command}"])
