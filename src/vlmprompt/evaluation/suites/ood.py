"""Telling images of known classes from all others."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from statistics import fmean
from typing import Any

from vlmprompt.data.contents import files_digest
from vlmprompt.data.names import shared_names
from vlmprompt.data.ood_sets import Benchmark, OodSet, benchmark, sets_of
from vlmprompt.data.records import Dataset
from vlmprompt.data.splits import shortened
from vlmprompt.errors import InputError, VlmPromptError
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Measurement, MetricValue, Reading, missing
from vlmprompt.evaluation.ood_metrics import OOD_METRICS, ood_metrics
from vlmprompt.evaluation.scored import Scored, Scorers, score_split
from vlmprompt.results.details import Details
from vlmprompt.results.store import EVERYTHING

METRICS = tuple(OOD_METRICS)
MEAN = "mean"
ID = ""  # no set has this name


class OodSuite:
    """The test split, as in-distribution (ID) images, against each set of other images, by each score.

    Sets: those given by --ood, else those that the run's data set names; or those of a published benchmark,
    `ood:imagenet-mos` (Huang & Li, CVPR 2021; the tables of MCM, LoCoOp and GalLoP) and `ood:openood-v1.5`
    (Zhang et al., 2023). Cells are `<set>/<score>`; `mean/<score>` is the plain mean over the sets, `mean-near/`
    and `mean-far/` over those of a kind where there are both. Scores have temperature 1 on raw cosines (see
    `vlmprompt.api.ood_scores`); those of local features read all patches. A method without local features of
    its own is given `value_block` ones (GL-MCM's code). A score that a method cannot give does not apply to it. Scores
    of plugins are measured beside the core's, those that need an option where `--score-set` gives it.
    """

    version = 1
    reads_scores = True
    companions: tuple[str, ...] = ("ood",)

    def __init__(self) -> None:
        self.name = "ood"
        self._benchmark: Benchmark | None = None

    @classmethod
    def of(cls, argument: str) -> OodSuite:
        """The suite over a published benchmark.

        Raises:
            UsageError: there is none of that name.
        """
        suite = cls()
        suite.name, suite._benchmark = f"ood:{argument}", benchmark(argument)
        suite.companions = ()
        return suite

    def cells(self, context: Context) -> Sequence[Cell]:
        """Each set by each score, then the means; at the end what is wrong with sets that cannot be read."""
        sets, problems = _readable(self._sets(context))
        own = [] if context.subject.reference else _about_sets(context, sets, problems)
        scorers = Scorers(context)
        work = _Comparison(context, scorers, self._benchmark)
        columns = {s.name: [s] for s in sets} if problems else _columns(sets)
        return [
            Cell(
                f"{name}/{score}",
                METRICS,
                partial(work.measure, members, score),
                {**work.parts(members), **scorers.parts(score)},
                enters=_enters(members[0]) if len(members) == 1 and not problems else (),
                reads=work.readings(members),
            )
            for name, members in columns.items()
            for score in scorers.names
        ] + own

    def _sets(self, context: Context) -> Sequence[OodSet]:
        if self._benchmark is not None:
            published = self._benchmark.ood_sets(root=context.root)
            return [replace(one, load=lambda one=one: context.renamed(one.load())) for one in published]  # type: ignore[misc]
        return sets_of({"": context.companions("ood")}, partial(context.companion, kind="ood"))


class _Comparison:
    """One subject's scores of the ID images and of each set, computed when they are first needed, once."""

    def __init__(self, context: Context, scorers: Scorers, published: Benchmark | None) -> None:
        self._context = context
        self._scorers = scorers
        self._published = published
        self._kept: dict[str, Scored | VlmPromptError] = {}

    def measure(self, members: Sequence[OodSet], score: str) -> Measurement:
        """The metrics of one score on a set, with the score of each image; or their means over several.

        Raises:
            CapabilityError: the method cannot give the score.
            InputError: a set cannot be read, or a score is not finite.
            PluginError: the score's own code failed.
        """
        inside = self._scores(ID, lambda: self._id_part)
        outside = [self._scores(ood_set.name, partial(getattr, ood_set, "dataset")) for ood_set in members]
        found = [ood_metrics(inside.of(score), scored.of(score)) for scored in outside]
        n = len(inside) + sum(map(len, outside))
        note = "; ".join(filter(None, (inside.basis[score], self._id_note)))
        of = tuple(s.name for s in members) if len(members) > 1 else ()
        values = [
            MetricValue(name, fmean(one[name] for one in found), n, higher, note, of)
            for name, higher in OOD_METRICS.items()
        ]
        return Measurement(values, self._details(members[0], score) if len(members) == 1 else None)

    def _details(self, ood_set: OodSet, score: str) -> Details:
        inside, outside = self._id_part, ood_set.dataset
        return Details(
            "scores",
            inside.spec,
            inside.class_names,
            inside={score: self._scores(ID, lambda: inside).of(score).numpy()},
            outside={score: self._scores(ood_set.name, lambda: outside).of(score).numpy()},
            in_ids=tuple(record.id for record in inside.split("test")),
            out_ids=tuple(record.id for record in outside.split("test")),
            companion=outside.spec,
        )

    def parts(self, members: Sequence[OodSet]) -> Mapping[str, Any]:
        """What the numbers depend on: the images of both sides."""
        digest = partial(files_digest, contents=self._context.dataset.by_contents)
        outside = {ood_set.name: digest(ood_set.dataset.split("test")) for ood_set in members}
        return {"id": digest(self._id_part.split("test")), "ood": outside}

    def readings(self, members: Sequence[OodSet]) -> tuple[Reading, ...]:
        """The images of both sides, with local features for the scores that read some."""
        return tuple(Reading(dataset, local=True) for dataset in (self._id_part, *(s.dataset for s in members)))

    @cached_property
    def _id_part(self) -> Dataset:
        dataset = self._context.trained
        return dataset if self._published is None else self._published.id_part(dataset, root=self._context.root)

    @property
    def _id_note(self) -> str:
        """What sets the ID images apart from those of published numbers."""
        n = len(self._id_part.split("test"))
        if self._published is None or n == self._published.id_images:
            return ""
        return (
            f"ID: {n:,} images of {self._id_part.name}, published numbers have ImageNet's {self._published.id_images:,}"
        )

    def _scores(self, name: str, read: Callable[[], Dataset]) -> Scored:
        """The scores of a set; why there are none is kept as well, not tried again for every cell."""
        if name not in self._kept:
            try:
                self._kept[name] = score_split(self._context, read(), self._scorers)
            except VlmPromptError as error:
                self._kept[name] = error
        outcome = self._kept[name]
        if isinstance(outcome, Scored):
            return outcome
        raise outcome


def _readable(sets: Sequence[OodSet]) -> tuple[list[OodSet], list[VlmPromptError]]:
    """The sets that are there, and what is wrong with the others."""
    there: list[OodSet] = []
    problems: list[VlmPromptError] = []
    for ood_set in sets:
        try:
            ood_set.dataset.split("test")
            there.append(ood_set)
        except VlmPromptError as error:
            problems.append(error)
    return there, problems


def _columns(sets: Sequence[OodSet]) -> dict[str, Sequence[OodSet]]:
    """Each set, the means over those of a kind, the mean over all."""
    columns: dict[str, Sequence[OodSet]] = {ood_set.name: [ood_set] for ood_set in sets}
    groups = list(dict.fromkeys(ood_set.group for ood_set in sets))
    if len(groups) > 1:
        columns |= {f"{MEAN}-{group}": [s for s in sets if s.group == group] for group in groups if group}
    return columns | ({MEAN: sets} if len(sets) > 1 else {})


def _enters(ood_set: OodSet) -> tuple[str, ...]:
    return (MEAN, f"{MEAN}-{ood_set.group}") if ood_set.group else (MEAN,)


def _about_sets(context: Context, sets: Sequence[OodSet], problems: Sequence[VlmPromptError]) -> list[Cell]:
    """A cell that says what is missing, if anything is; and a warning of names that both sides have."""
    for ood_set in sets:
        if shared := shared_names(ood_set.dataset.class_names, context.trained.class_names):
            names = shortened([repr(name) for name in shared])
            context.warn(
                f"OOD set {ood_set.name} has classes that the run was trained on, {names}: "
                "their images count as other things; take them out if they show the same"
            )
    if problems:
        return [Cell(EVERYTHING, (EVERYTHING,), partial(_fail, problems))]
    if sets:
        return []
    reason = f"data set {context.dataset.spec} names no OOD sets; give some: --ood folder:PATH"
    return [missing(EVERYTHING, (EVERYTHING,), reason)]


def _fail(problems: Sequence[VlmPromptError]) -> Sequence[MetricValue]:
    """Several problems as one; each knows its own next step."""
    raise InputError("; ".join(error.told for error in problems))
