"""What was run: settings and where they came from, data, seeds, versions, costs, digests, and the commands for it."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from vlmprompt.config.keys import show_value
from vlmprompt.config.layers import is_implied
from vlmprompt.report.run import ReportRun
from vlmprompt.report.section import Commands, Part, Section, Table
from vlmprompt.training.run_info import RunInfo

MISSING = "–"
MOST_OPEN = 12  # runs
# Settings with a column of their own in the table of runs.
_TOLD = frozenset({"method", "data", "backbone", "shots", "seed"})
_FLAGS = ("method", "data", "backbone", "shots", "seed")
Known = Sequence[tuple[ReportRun, RunInfo]]


def section(runs: Sequence[ReportRun]) -> Section | None:
    """Tables of all runs whose run.json is there, settings that they share once, and commands that repeat them."""
    known = [(run, run.info) for run in runs if run.info is not None]
    if not known:
        return None
    parts = [_runs(known), *_settings(known), _data(known), _costs(known), _digests(known), _versions(known)]
    parts.append(_commands(known))
    intro = "What the runs were made from and what they cost, as their run.json says."
    return Section("record", "What was run", intro, tuple(parts))


def command(info: RunInfo) -> str | None:
    """The command that trains a run again; None of one that was imported.

    Settings that nobody gave (defaults, a method's shipped settings, a preset's) are left to where they came from.
    """
    if info.imported:
        return None
    config = info.config
    words = ["vlmprompt", "train"]
    for key in _FLAGS:
        words += [f"--{key}", show_value(key, getattr(config, key))]
    given = {key for key, source in info.sources.items() if not is_implied(source)} - set(_FLAGS)
    words += [
        word
        for key, value in _flat(info).items()
        if key in given
        for word in ("--set", f"{key}={show_value(key, value)}")
    ]
    return shlex.join(words)


def _runs(known: Known) -> Part:
    columns = ("run", "method", "data", "backbone", "state", "started", "shots", "seed", "images", "steps")
    rows = tuple(
        (
            run.name,
            info.config.method,
            info.config.data,
            info.config.backbone,
            info.status,
            info.started.isoformat(" ", "minutes"),
            show_value("shots", info.config.shots),
            str(info.config.seed),
            f"{len(info.data.train_ids):,}",
            f"{info.steps:,}",
        )
        for run, info in known
    )
    return Table("Runs", columns, rows, "images that were trained on", labels=6)


def _settings(known: Known) -> list[Part]:
    """Side by side what differs between runs, then, folded, what is the same in all."""
    flat = [{key: show_value(key, value) for key, value in _flat(info).items()} for _, info in known]
    keys = [key for key in dict.fromkeys(key for one in flat for key in one) if key not in _TOLD]
    differing = [key for key in keys if len({one.get(key, MISSING) for one in flat}) > 1]
    parts: list[Part] = []
    if differing:
        rows = tuple(
            (run.name, *(one.get(k, MISSING) for k in differing)) for (run, _), one in zip(known, flat, strict=True)
        )
        gaps = any(MISSING in row for row in rows)
        caption = f"{MISSING} the method has no such setting" if gaps else ""
        parts.append(
            Table("Settings in which the runs differ", ("run", *differing), rows, caption, labels=1 + len(differing))
        )
    same = [key for key in keys if key not in differing]
    rows = tuple((key, flat[0][key], _source(known, key)) for key in same)
    title = "All settings" if len(known) == 1 else "Settings that all runs share"
    parts.append(Table(title, ("setting", "value", "from"), rows, folded=True, labels=3))
    return parts


def _source(known: Known, key: str) -> str:
    """Where a value came from; of several runs, all places."""
    return ", ".join(dict.fromkeys(info.sources.get(key, MISSING) for _, info in known))


def _flat(info: RunInfo) -> dict[str, object]:
    """Dotted key -> value, as JSON types."""
    content: Mapping[str, object] = info.config.model_dump(mode="json")
    flat: dict[str, object] = {}
    for key, value in content.items():
        if key in ("train", "options") and isinstance(value, Mapping):
            flat |= {f"{key}.{name}": inner for name, inner in value.items()}
        else:
            flat[key] = value
    return flat


def _data(known: Known) -> Part:
    columns = ("run", "data", "validation from", "classes", "trained on", "training images", "validation images")
    rows = tuple(
        (
            run.name,
            info.data.spec,
            info.data.val_source or MISSING,
            f"{info.data.classes:,}",
            f"{len(info.data.labels):,}",
            f"{len(info.data.train_ids):,}",
            f"{len(info.data.val_ids):,}",
        )
        for run, info in known
    )
    return Table(
        "Data", columns, rows, "classes of the data set, and those that were trained on", _many(known), labels=3
    )


def _costs(known: Known) -> Part:
    columns = ("run", "device", "precision", "parameters", "seconds of training", "memory", "device memory")
    rows = tuple(
        (
            run.name,
            info.device or MISSING,
            info.config.train.precision,
            f"{info.trainable_parameters:,}",
            f"{info.seconds:,.1f}",
            _megabytes(info.peak_memory.get("rss")),
            _megabytes(info.peak_memory.get("cuda")),
        )
        for run, info in known
    )
    caption = "parameters that were trained; memory at its highest, of the whole process"
    return Table("Costs", columns, rows, caption, _many(known), labels=3)


def _many(known: Known) -> bool:
    """Whether a line a run is more than one wants to see unasked."""
    return len(known) > MOST_OPEN


def _megabytes(size: int | None) -> str:
    return MISSING if size is None else f"{size / 2**20:,.0f} MiB"


def _digests(known: Known) -> Part:
    columns = ("run", "checkpoint", "data set", "few-shot sample", "backbone")
    rows = tuple(
        (
            run.name,
            *(
                digest or MISSING
                for digest in (info.checkpoint, info.data.digest, info.data.fewshot_digest, info.backbone.digest)
            ),
        )
        for run, info in known
    )
    return Table("Digests (SHA-256)", columns, rows, folded=True, labels=len(columns))


def _versions(known: Known) -> Part:
    names = list(dict.fromkeys(name for _, info in known for name in info.versions))
    sets = {tuple(info.versions.get(name, MISSING) for name in names): None for _, info in known}
    if len(sets) == 1:
        rows = tuple(zip(names, next(iter(sets)), strict=True))
        return Table("Versions", ("package", "version"), rows, folded=True, labels=2)
    by_run = tuple((run.name, *(info.versions.get(name, MISSING) for name in names)) for run, info in known)
    return Table("Versions", ("run", *names), by_run, folded=True, labels=1 + len(names))


def _commands(known: Known) -> Part:
    """How each run is trained and measured again."""
    lines: list[str] = []
    for run, info in known:
        trained = command(info)
        lines.append(trained or f"# {run.name} was imported from {info.imported.get('file', 'a file')}")
        suites = dict.fromkeys(row.suite for row in run.rows)
        options = [word for suite in suites for word in ("--suite", suite)]
        lines += [shlex.join(["vlmprompt", "evaluate", str(run.path), *options])] if suites else []
    caption = "To train each run again, and to measure it. Flags that gave suites other data are not recorded."
    return Commands("Commands", tuple(lines), caption)
