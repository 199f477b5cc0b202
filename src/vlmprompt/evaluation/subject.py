"""Who is measured: a method, and what its rows say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from vlmprompt.config.models import RunConfig
from vlmprompt.describe.library import DescriptionFile
from vlmprompt.methods.contract import PromptMethod

# Kinds of data sets that a suite may measure on beside the run's own; see `Dataset.companions`.
KINDS = ("domains", "targets", "ood")


def _no_siblings() -> Mapping[int | None, Subject]:
    return {}


@dataclass(frozen=True)
class Subject:
    """A method to be measured, and what its rows say of it.

    Attributes:
        run: name of the evaluated run (a reference names the run that it stands beside).
        config: everything that determined it.
        shots: images a class that it learned from; None = all, or nothing was learned (then no seed either); 0 =
            nothing was learned, but numbers depend on the seed (the order of test streams).
        seed: None where nothing depends on it.
        digest: of what was learned; empty where `config` and the data determine it.
        build: the method, ready for inference, over the label space that it was trained on.
        siblings: shots -> the same with these shots, as far as there are any; includes itself.
        sources: where the values of `config` came from, by dotted key.
        reference: stands beside a run, and is measured where the run is.
        descriptions: what it reads of the classes, if it reads any.
        state: which state of its training it is, in words; empty where nothing chose or measured it.
        temperature: that its logits are divided by in `Context.predict`; None: they are taken as they are.
    """

    run: str
    config: RunConfig
    shots: int | None
    seed: int | None
    digest: str
    build: Callable[[], PromptMethod] = field(compare=False)
    siblings: Callable[[], Mapping[int | None, Subject]] = field(default=_no_siblings, compare=False)
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)
    reference: bool = False
    descriptions: DescriptionFile | None = None
    state: str = ""
    temperature: float | None = None

    @property
    def untrained(self) -> bool:
        """Whether the method learned nothing, so that shots mean nothing, and a seed is that of test streams alone."""
        return self.shots == 0 or (self.shots is None and self.seed is None)
