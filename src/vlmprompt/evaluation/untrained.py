"""Methods that learn nothing, measured in one step: there is no run, only the numbers and what they are made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from typing import Any

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.claims.work import shared
from vlmprompt.config.models import RunConfig, Runtime
from vlmprompt.config.resolve import Resolved, resolve
from vlmprompt.data.aliases import Aliases
from vlmprompt.errors import UsageError
from vlmprompt.evaluation.companions import listed
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.load import load_suites
from vlmprompt.evaluation.measured import load_like
from vlmprompt.evaluation.measuring import Runner
from vlmprompt.evaluation.resources import Resources
from vlmprompt.evaluation.runner import RESULTS_FILE, require_outliers
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.subjects import is_seeded, is_training_free, shots_and_seed
from vlmprompt.evaluation.variants import train_command
from vlmprompt.methods.build import written_for
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.score_config import ScoreOptions, require_options
from vlmprompt.parallel.meeting import current, together
from vlmprompt.progress import Progress
from vlmprompt.results.ledger import Ledger
from vlmprompt.results.rows import ResultRow
from vlmprompt.results.store import ResultStore
from vlmprompt.training.doubtful import warn
from vlmprompt.training.entry import PythonWarnings, arguments_of, require_towers
from vlmprompt.training.folder import untrained_name
from vlmprompt.training.setup import complete, settle_device, untrained
from vlmprompt.training.trainset import TrainSet, load_trainset


def evaluate_method(
    method: str,
    data: str | None = None,
    backbone: str | Backbone | None = None,
    suites: str | Sequence[str] = "accuracy",
    *,
    options: Mapping[str, Any] | None = None,
    companions: Mapping[str, str | Sequence[str]] | None = None,
    score_options: ScoreOptions | None = None,
    force: bool = False,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> list[ResultRow]:
    """Measure a method that needs no training, as `vlmprompt evaluate --method` does.

    Args:
        method, data, backbone, options, settings: see `train`.
        suites, companions, score_options, force: see `evaluate`.

    Returns:
        The rows; they are kept in a folder of `runtime.runs_dir`, where `vlmprompt report` finds them.

    Raises:
        UsageError: the method has to be trained; or a setting, suite or kind of companions is unknown or wrong.
        InputError: the data or towers cannot be loaded, or the text of a class is too long.
        Interrupted: by Ctrl-C; finished cells are kept.
    """
    resolved = resolve(arguments_of(method, data, backbone, options, settings), arguments=True)
    progress = progress or PythonWarnings()
    towers = backbone if isinstance(backbone, Backbone) else None
    require_towers(resolved, towers)
    resources = Resources(runtime or Runtime.model_validate({}), progress, towers)
    given: dict[str, Any] = {"companions": companions, "score_options": score_options, "force": force}
    return measure_untrained(resolved, suites, resources, **given)


@together()
def measure_untrained(
    resolved: Resolved,
    suites: str | Sequence[str],
    resources: Resources,
    *,
    companions: Mapping[str, str | Sequence[str]] | None = None,
    score_options: ScoreOptions | None = None,
    contents: bool = False,
    force: bool = False,
) -> list[ResultRow]:
    """Measure a configuration of a method that learns nothing; see `evaluate_method` and, of the others, `evaluate`."""
    require_training_free(resolved)
    config = _settled(resolved.run)
    runtime, progress = resources.runtime, resources.progress
    chosen = load_suites([suites] if isinstance(suites, str) else suites)
    companions = listed(companions)
    require_options(score_options or {})
    require_outliers(companions, config, runtime)
    settle_device(config, runtime)
    data = load_trainset(config, runtime)
    dataset = replace(data.dataset, by_contents=True) if contents else data.dataset
    folder = runtime.runs_dir / untrained_name(config, dataset.name)
    subject = _subject(folder.name, config, data, resources, resolved.sources)
    context = Context(
        subject,
        dataset,
        resources.bank(config),
        load=cache(partial(load_like, config, resources=resources, contents=contents)),
        companions=companions,
        aliases=Aliases.of(config.aliases),
        score_options=score_options,
    )
    context.method()  # what is wrong or doubtful is said once, and not for every cell
    with shared(folder, progress, alone=force) if current().first else nullcontext():
        ledger = Ledger(ResultStore(folder / RESULTS_FILE), fresh=force)
        runner = Runner(ledger, resources.backbone(config).digest, progress=progress)
        return runner.carry_out([context], chosen, Aliases())


def require_training_free(resolved: Resolved) -> None:
    """Refuse a method that has to be trained.

    Raises:
        UsageError: it has; the hint is the command that does it.
    """
    config = resolved.run
    if not is_training_free(config.method):
        raise UsageError(
            f"method {config.method!r} has to be trained before it can be measured",
            hint=f"{train_command(config, resolved.sources)}; then 'vlmprompt evaluate'",
        )


def _settled(config: RunConfig) -> RunConfig:
    """One configuration for all shots and, unless the order of test streams hangs on them, all seeds."""
    seed = config.seed if is_seeded(config.method) else 0
    return complete(config).model_copy(update={"shots": None, "seed": seed, "allow_fewer": False})


def _subject(name: str, config: RunConfig, data: TrainSet, resources: Resources, sources: Mapping[str, str]) -> Subject:
    file = data.description_file
    shots, seed = shots_and_seed(config)

    def build() -> PromptMethod:
        towers = resources.backbone(config)
        setup = untrained(config, resources.runtime, data, towers.device, towers)
        warn(setup, resources.progress, sources)
        return written_for(setup.method, data.dataset.template)

    return Subject(
        run=name,
        config=config,
        shots=shots,
        seed=seed,
        digest="" if file is None else file.digest,
        build=build,
        sources=sources,
        descriptions=file,
    )
