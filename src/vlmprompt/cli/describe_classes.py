"""`vlmprompt describe-classes`: what classes look like, asked once and kept as text."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlmprompt.cli.describe_flags import AskedFlags, ClassFlags
from vlmprompt.cli.grouped import grouped
from vlmprompt.cli.options import ForceFlag, JsonFlag
from vlmprompt.cli.output import Table, emit
from vlmprompt.cli.progress import CliProgress
from vlmprompt.errors import IncompleteError

if TYPE_CHECKING:
    from vlmprompt.data.records import Dataset
    from vlmprompt.describe.library import DescriptionFile
    from vlmprompt.describe.order import Order, Summary

COMMAND = "describe-classes"
CONTEXT_TOKENS = 77  # of CLIP's text towers, start and end included
SHOWN = 20  # failed classes in the table; all are in --json


def register(app: typer.Typer) -> None:
    """Add `describe-classes`."""
    app.command(COMMAND)(describe_classes)


@grouped
def describe_classes(
    *,
    named: ClassFlags,
    asked: AskedFlags,
    out: Annotated[Path, typer.Option("--out", help="Folder for the file.")] = Path("prompts_cache"),
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be asked and a few stored answers, without asking.")
    ] = False,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Describe classes in words: ask a language model.

    Or import published descriptions. Writes
    prompts_cache/<data set>/<provider>--<model>--<template>.jsonl for review,
    one description per line. Answers are cached: a second run asks only for what
    is missing. Without options: shows the descriptions of the built-in classes.
    """
    dataset = named.dataset(asked.aliases)
    if asked.of_nobody and (named.built_in or not _has_key()):
        from vlmprompt.describe.library import describe, find

        known = find(dataset)
        if known is not None:
            if idle := asked.idle(force=force):
                CliProgress().warn(f"nobody is asked, so {', '.join(idle)} does nothing; --provider says who is")
            _emit_known(describe(dataset, known), known, as_json)
            return
    order = asked.order(dataset, out=out, force=force)
    _dry_run(order, as_json) if dry_run else _carry_out(order, dataset, as_json)


def _has_key() -> bool:
    from vlmprompt.describe.provider import KEY_VARIABLE

    return bool(os.environ.get(KEY_VARIABLE, "").strip())


def _dry_run(order: Order, as_json: bool) -> None:
    from contextlib import closing

    from vlmprompt.describe.service import Service

    with closing(Service(order)) as service:
        plan = service.plan()
    tokens = plan["estimated_tokens"]
    columns = ("template", "classes", "answers", "in the file", "cached", "to fetch", "tokens to come (estimated)")
    cells = [plan[key] for key in ("template", "classes", "answers", "in_file", "in_cache", "to_fetch")]
    cells.append(f"{tokens['prompt']:,} in questions, {tokens['completion']:,} in answers")
    lines = [f"file  {plan['file']}", f"at most {plan['most_requests']:,} requests; nothing was asked"]
    if plan["question"]:
        lines.append(f"the first question: {plan['question']}")
    if plan["unusable"]:
        lines.append(f"cached answers that are no descriptions, and are asked for again: {plan['unusable']}")
    emit(COMMAND, {"dry_run": plan}, as_json=as_json, table=[Table(columns, [cells]), "", *lines, *_samples(plan)])


def _samples(plan: dict[str, Any]) -> list[Table | str]:
    """A few of the answers that are there, as they are read."""
    if not plan["samples"]:
        return []
    rows = [
        (
            one["class"],
            one["answered"] or "(in the file)",
            one["refused"] or "; ".join(one["descriptions"]),
            ", ".join(one["left_out"]),
        )
        for one in plan["samples"]
    ]
    return ["", Table(("class", "answer", "what is read in it", "left out"), rows)]


def _carry_out(order: Order, dataset: Dataset, as_json: bool) -> None:
    from vlmprompt.describe.service import describe_classes as carry_out
    from vlmprompt.describe.writing import flags

    progress = CliProgress()
    summary = carry_out(order, shorten=_shortened, progress=progress)
    if summary.cut:
        progress.warn(f"descriptions cut to the {CONTEXT_TOKENS} tokens that CLIP reads: {summary.cut}")
    flagged = flags(summary.lines)
    if flagged:
        progress.warn(f'descriptions that name another class: {len(flagged)}, marked "flag" in {summary.path}')
    content = {
        "classes": len(order.classes.described),
        "described": summary.described,
        "failed": [failure.public() for failure in summary.failed],
        "cached": summary.cached,
        "requests": summary.spent.requests,
        "tokens": {"prompt": summary.spent.prompt_tokens, "completion": summary.spent.completion_tokens},
        "flagged": flagged,
        "notes": summary.notes,
        "file": summary.path,
    }
    error = _incomplete(summary, order)
    emit(COMMAND, content, as_json=as_json, table=_page(order, summary, dataset), error=error)


def _page(order: Order, summary: Summary, dataset: Dataset) -> list[Table | str]:
    total, asked = len(order.classes.described), summary.spent
    parts: list[Table | str] = [
        f"classes   {summary.described} of {total} described, {summary.cached} of them without a request",
        f"texts     {len(summary.lines)}, {len(summary.lines) / max(1, summary.described):.1f} a class",
        f"asked     {asked.requests} requests, {asked.tokens:,} tokens",
        f"file      {summary.path}",
    ]
    if summary.failed:
        rows = [(failure.class_index, failure.name, failure.reason) for failure in summary.failed[:SHOWN]]
        parts += ["", Table(("class", "name", "why it has none"), rows)]
    if len(summary.failed) > SHOWN:
        parts.append(f"... and {len(summary.failed) - SHOWN} more")
    if summary.described and dataset.splits:
        parts.append(f"next      review the file; then vlmprompt train --method descriptions --data {dataset.spec}")
    return parts


def _incomplete(summary: Summary, order: Order) -> IncompleteError | None:
    if not summary.failed:
        return None
    total = len(order.classes.described)
    first = summary.failed[0]
    why = f"asking ended early: {summary.stopped}" if summary.stopped else f"the first: {first.name!r}: {first.reason}"
    again = "name them in --aliases" if order.provider == "file" else "the same command asks for what is missing"
    what = summary.next_step or again
    return IncompleteError(
        f"{len(summary.failed)} of {total} classes lack descriptions, or some; {why}",
        hint=f"the others are saved; {what}",
    )


def _emit_known(dataset: Dataset, file: DescriptionFile, as_json: bool) -> None:
    """What is there without asking anybody."""
    assert dataset.descriptions is not None
    counts = [len(texts) for texts in dataset.descriptions]
    described = sum(count > 0 for count in counts)
    content = {
        "classes": len(counts),
        "described": described,
        "failed": [],
        "cached": described,
        "requests": 0,
        "file": file.path,
    }
    by = f" by {', '.join(file.providers)}" if file.providers else ""
    lines = [
        f"classes   {described} of the {len(counts)} of {dataset.name} are described{by}; nobody was asked",
        f"texts     {sum(counts)}, {sum(counts) / max(1, described):.1f} a class",
        f"file      {file.path}",
        f"to ask a model: vlmprompt {COMMAND} --data {dataset.spec} --provider openai --model NAME",
    ]
    emit(COMMAND, content, as_json=as_json, table=lines)


def _shortened(text: str, class_name: str, sentence: bool) -> str:
    """As much of a description as fits into a text tower, behind its class's name if it is a phrase."""
    from vlmprompt.describe.lines import WHICH_HAS

    def written(part: str) -> str:
        return part if sentence else WHICH_HAS.replace("{class}", class_name).replace("{phrase}", part)

    if len(written(text).encode()) + 2 <= CONTEXT_TOKENS:  # a token is a byte at least: no need to count
        return text
    from vlmprompt.backbones.openclip.tokens import count_tokens
    from vlmprompt.describe.fitting import shortened

    # Behind a name that fills the tower by itself nothing fits: then the description is cut as if it stood alone.
    behind = count_tokens(written("a")) <= CONTEXT_TOKENS
    return shortened(text, lambda part: count_tokens(written(part) if behind else part) <= CONTEXT_TOKENS)
