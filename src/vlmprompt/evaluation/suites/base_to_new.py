"""Generalisation from base to new classes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

from vlmprompt.data.classes import base_new_labels
from vlmprompt.data.records import Dataset
from vlmprompt.evaluation import metrics
from vlmprompt.evaluation.classified import TOP1, top1_measurement
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Measurement, MetricValue, Reading, impossible
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.variants import train_command
from vlmprompt.results.harmonic import BASE, H_OF_MEANS, MEAN_OF_H, NEW

SETTING = "base-to-new"
CELLS = {BASE: TOP1, NEW: TOP1, "h": (H_OF_MEANS, MEAN_OF_H)}


class BaseToNewSuite:
    """Trained on the base half of the classes, tested on both halves, each in its own label space.

    Base is the first ceil(K/2) labels, new the rest, relabelled from 0 (CoCoOp, Zhou et al., CVPR 2022). H is
    the harmonic mean of the two accuracies. Over several runs it has two conventions, which tables tell
    apart: `h_of_means`, H of the averaged accuracies (CoCoOp, MaPLe, PromptSRC), and `mean_of_h`, the average
    of each run's H (DUAL-PT); of a single run both are its H.
    """

    name = "base-to-new"
    version = 1

    def cells(self, context: Context) -> Sequence[Cell]:
        """base, new, and h; none of them applies to a run that has seen all classes."""
        if context.subject.config.setting != SETTING:
            return [] if context.subject.reference else _not_trained_for_it(context.subject)
        halves = {BASE: context.trained, NEW: _new_half(context.dataset)}
        on = cache(lambda half: _measure(context, half, halves[half]))
        reads = {half: (Reading(dataset),) for half, dataset in halves.items()}
        computes: dict[str, Callable[[], Sequence[MetricValue] | Measurement]] = {
            BASE: lambda: on(BASE),
            NEW: lambda: on(NEW),
            "h": lambda: _harmonic(on(BASE).values[0], on(NEW).values[0]),
        }
        return [Cell(cell, names, computes[cell], reads=reads.get(cell, ())) for cell, names in CELLS.items()]


def _not_trained_for_it(subject: Subject) -> list[Cell]:
    if subject.untrained:
        reason = f"all classes are told apart at once; for the two halves add --setting {SETTING}"
    else:
        command = train_command(subject.config, subject.sources, setting=SETTING)
        reason = f"the run was trained on all classes, not on the base half; to do so: {command}"
    return [impossible(cell, names, reason) for cell, names in CELLS.items()]


def _measure(context: Context, half: str, dataset: Dataset) -> Measurement:
    method = context.method() if half == BASE else context.method_over(dataset)
    return top1_measurement(context.predict(method, dataset), dataset)


def _new_half(dataset: Dataset) -> Dataset:
    _, new = base_new_labels(len(dataset.class_names))
    return dataset.restrict(new, suffix="-new")


def _harmonic(base: MetricValue, new: MetricValue) -> list[MetricValue]:
    value, n = metrics.h(base.value, new.value), base.n + new.n
    return [MetricValue(name, value, n) for name in CELLS["h"]]
