"""`vlmprompt cache`: the answers of language models that were paid for, and image features that were computed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vlmprompt.cli.options import FeatureCacheOption, ForceFlag, JsonFlag
from vlmprompt.cli.output import Table, emit
from vlmprompt.errors import InputError, UsageError
from vlmprompt.shown import several, size

if TYPE_CHECKING:
    from vlmprompt.backbones.store.place import Store
    from vlmprompt.describe.cache import DescriptionCache

_DatasetOption = Annotated[str | None, typer.Option("--dataset", help="Only of this data set.")]
_ProviderOption = Annotated[str | None, typer.Option("--provider", help="Only of this provider.")]
_ModelOption = Annotated[str | None, typer.Option("--model", help="Only of this model.")]
_TemplateOption = Annotated[str | None, typer.Option("--template", help="Only to this question.")]


def register(app: typer.Typer) -> None:
    """Add `cache`."""
    group = typer.Typer(no_args_is_help=True, help="Answers that describe-classes has paid for, and image features.")
    group.command("list")(list_answers)
    group.command("export")(export)
    group.command("verify")(verify)
    group.command("prune")(prune)
    features = typer.Typer(no_args_is_help=True, help="Image features that were stored.")
    features.command("list")(list_features)
    features.command("prune")(prune_features)
    group.add_typer(features, name="features")
    app.add_typer(group, name="cache")


def list_answers(as_json: JsonFlag = False) -> None:
    """Show what is in the cache, by data set, provider, model and template."""
    from vlmprompt.describe.upkeep import groups

    with _cache() as cache:
        rows, folder = groups(cache), cache.folder
    columns = ("dataset", "provider", "model", "template", "answers", "texts", "tokens", "newest")
    table = Table(columns, [[row[column] for column in columns] for row in rows])
    data = {"folder": folder, "groups": rows}
    emit("cache list", data, as_json=as_json, table=[table, "", f"in {folder}"] if rows else f"{folder} is empty")


def export(
    out: Annotated[Path, typer.Option("--out", help="Folder for the files.")] = Path("prompts_cache"),
    dataset: _DatasetOption = None,
    provider: _ProviderOption = None,
    model: _ModelOption = None,
    template: _TemplateOption = None,
    force: ForceFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Write answers as description files, as describe-classes would.

    Files that are there are left alone, as they may have been reviewed; --force
    replaces them.
    """
    from vlmprompt.describe import upkeep

    with _cache() as cache:
        which = upkeep.Which(dataset, provider, model, template)
        written, left = upkeep.export(cache, out, which, force=force)
    lines = [f"wrote {path}" for path in written]
    lines += [f"left {path} as it is (--force replaces it)" for path in left]
    emit("cache export", {"written": written, "left": left}, as_json=as_json, table=lines or "there are no answers")


def verify(as_json: JsonFlag = False) -> None:
    """Check the cache: the database, and every row in it.

    Exit codes: 0 sound, 3 something is wrong.
    """
    from vlmprompt.describe.upkeep import answers, problems

    with _cache() as cache:
        found, folder, damage = problems(cache), cache.folder, cache.damage()
        sound = 0 if damage else sum(1 for _ in answers(cache))
    error = None
    if found:
        hint = (
            "put a copy back, or move the folder away"
            if damage
            else "'vlmprompt cache prune' removes what is no answer"
        )
        error = InputError(f"{folder}: {found[0]}", hint=hint)
    data = {"folder": folder, "answers": sound, "problems": found}
    emit("cache verify", data, as_json=as_json, table=[f"{sound} sound answers in {folder}", *found], error=error)


def prune(
    dataset: _DatasetOption = None,
    provider: _ProviderOption = None,
    model: _ModelOption = None,
    template: _TemplateOption = None,
    older_than: Annotated[
        float | None,
        typer.Option("--older-than", metavar="DAYS", min=0, max=1e6, help="Only answers of so long ago."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="All answers.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete what verify finds wrong and, where they are named, answers.

    Answers go only if one of the options says which. They cost money: what is
    deleted here has to be asked for again, unless a file has it.
    """
    from vlmprompt.describe import upkeep

    named = any(value is not None for value in (dataset, provider, model, template, older_than))
    if named and everything:
        raise UsageError("--all and an option that names some answers contradict each other", hint="leave one out")
    which = upkeep.Which(dataset, provider, model, template, older_than) if named or everything else None
    with _cache() as cache:
        counts = upkeep.prune(cache, which)
    lines = f"deleted {counts['answers']} answers, {counts['damaged']} damaged ones and {counts['foreign']} other rows"
    emit("cache prune", counts, as_json=as_json, table=lines)


def list_features(feature_cache: FeatureCacheOption = None, as_json: JsonFlag = False) -> None:
    """Show what is stored, by tower, what was read of it, view and type."""
    from vlmprompt.backbones.store.upkeep import COLUMNS, groups

    store = _store(feature_cache)
    rows = groups(store)
    columns = (*COLUMNS, "images", "files", "MB", "used")
    cells = [[f"{row['bytes'] / 1e6:.1f}" if name == "MB" else row[name] for name in columns] for row in rows]
    total = sum(row["bytes"] for row in rows)
    lines: list[Table | str] = [Table(columns, cells), "", f"{size(total)} in {store.folder}"]
    data = {"folder": store.folder, "groups": rows, "bytes": total}
    emit("cache features list", data, as_json=as_json, table=lines if rows else f"no features in {store.folder}")


def prune_features(
    max_size: Annotated[str, typer.Option("--max-size", metavar="SIZE", help="What may stay, such as 5GB.")],
    feature_cache: FeatureCacheOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Delete stored features, those that were not used for longest first.

    Files that a process is using stay. What is deleted is computed anew when it
    is needed again.
    """
    from vlmprompt.backbones.store.upkeep import prune as prune_store
    from vlmprompt.backbones.store.upkeep import size_in_bytes

    most, store = size_in_bytes(max_size), _store(feature_cache)
    counts = prune_store(store, most)
    line = f"deleted {several(counts['deleted'], 'file', 'files')}, {size(counts['freed'])}"
    kept = f"; {several(counts['in_use'], 'file is', 'files are')} in use" if counts["in_use"] else ""
    left = f"; {size(counts['left'])} left in {store.folder}"
    emit("cache features prune", {"folder": store.folder, **counts}, as_json=as_json, table=line + left + kept)


def _store(feature_cache: str | None) -> Store:
    from vlmprompt.backbones.store.place import OFF, Store
    from vlmprompt.config.models import Runtime

    if feature_cache == OFF:
        raise UsageError("--feature-cache off names no folder", hint="leave it out, or name the folder")
    store = Store.of(Runtime.model_validate({"feature_cache": feature_cache}))
    assert store is not None
    return store


@contextmanager
def _cache() -> Iterator[DescriptionCache]:
    from contextlib import closing

    from vlmprompt.describe.cache import DescriptionCache, cache_folder

    with closing(DescriptionCache(cache_folder())) as cache:
        yield cache
