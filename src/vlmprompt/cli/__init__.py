"""The command line: thin commands that parse, call one function and print.

Conventions, the same for every command module here:

* A module exposes `register(app: typer.Typer) -> None`, which adds its commands. `app.py` lists them by
  name, and the module is imported when one of them is asked for.
* Options that several commands share are the `Annotated` types of `options.py`.
* A command ends in one `output.emit(command, data, as_json=..., table=...)`, and reports work through one
  `progress.CliProgress()`; both keep stdout for results and stderr for everything else.
* Expected failures are raised as `vlmprompt.errors` classes; `main.py` prints them and picks the exit code.
* Nothing heavy (torch, pydantic, numpy, pandas, rich.progress, ...) is imported at the top of a module:
  functions import what they call.
"""
