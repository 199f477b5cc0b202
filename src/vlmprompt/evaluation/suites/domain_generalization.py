"""Generalisation to other domains: the same classes, seen otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from vlmprompt.data.names import labels_by_name
from vlmprompt.data.records import Dataset
from vlmprompt.errors import InputError, did_you_mean
from vlmprompt.evaluation.classified import TOP1, top1_measurement
from vlmprompt.evaluation.companions import companion_cells
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.contract import Cell, Measurement, Reading
from vlmprompt.evaluation.images import Predictions


class DomainGeneralizationSuite:
    """Trained on one domain, tested on others without seeing any image of them (CoOp, Zhou et al., IJCV 2022).

    Cells: "source", the run's own test split; one for each domain; and "mean", the plain average over the
    domains without the source. A domain may hold some of the classes only (ImageNet-A and -R hold 200): then
    the classifier is restricted to them, as in CoOp's code. Classes are matched by name, as a tokenizer reads
    it (`--aliases` gives other names). The domains are those that the data set names (`--domain` names others).
    """

    name = "domain-generalization"
    version = 1
    companions = ("domains",)

    def cells(self, context: Context) -> Sequence[Cell]:
        """The source, each domain, and the mean of the domains."""

        def source() -> Measurement:
            return top1_measurement(context.predict(context.method(), context.trained), context.trained)

        def domain(dataset: Dataset) -> Measurement:
            return on_domain(context, dataset)

        return [
            Cell("source", TOP1, source, reads=(Reading(context.trained),)),
            *companion_cells(context, "domains", "--domain", TOP1, domain, reads=partial(seen_part, context)),
        ]


def on_domain(context: Context, domain: Dataset) -> Measurement:
    """Accuracy on a domain, over those of its classes that the method was trained on.

    Raises:
        InputError: none, or (of a run on all classes) not all of its classes were trained on.
    """
    method, seen = context.method(), seen_part(context, domain)
    # The trained classifier numbers classes in its own way: labels in its numbering, columns of the rest left out.
    columns = [place for place in labels_by_name(seen.class_names, method.class_names) if place is not None]
    predictions = context.predict(method, seen)
    note = "" if len(columns) == len(method.class_names) else f"over the domain's {len(columns)} classes"
    return top1_measurement(Predictions(predictions.logits_BK[:, columns], predictions.labels_B), seen, note=note)


def seen_part(context: Context, domain: Dataset) -> Dataset:
    """The domain over those of its classes that the subject was trained on. Raises: InputError, see `on_domain`."""
    labels = shared_labels(context, domain)
    return domain if len(labels) == len(domain.class_names) else domain.restrict(labels, suffix="-seen")


def shared_labels(context: Context, domain: Dataset) -> list[int]:
    """The domain's labels of classes that the subject was trained on, in the domain's order."""
    known = labels_by_name(domain.class_names, context.dataset.class_names)
    for name, place in zip(domain.class_names, known, strict=True):
        if place is None:
            meant = did_you_mean(name, context.dataset.class_names)
            raise InputError(
                f"class {name!r} of domain {domain.spec} is none of {context.dataset.spec}'s",
                hint=f"classes are matched by name; --aliases FILE gives other names; {meant}".removesuffix("; "),
            )
    trained = labels_by_name(domain.class_names, context.trained.class_names)
    labels = [label for label, place in enumerate(trained) if place is not None]
    if not labels:
        raise InputError(f"domain {domain.spec} holds no class that the run was trained on")
    return labels
