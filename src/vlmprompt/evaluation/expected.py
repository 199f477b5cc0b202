"""What the cells of a call will read of images, told before the first of them is measured.

Then the image tower runs once over images that several subjects or suites read, and gives each what it needs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.errors import Interrupted
from vlmprompt.evaluation.context import Context
from vlmprompt.evaluation.subject import Subject
from vlmprompt.evaluation.units import Unit
from vlmprompt.methods.build import method_type
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.passes import tower_is_frozen, views_of

log = logging.getLogger(__name__)


def expect(units: Iterable[Unit]) -> None:
    """Tell what units will read; what cannot be told now is read when its cell is measured."""
    found: dict[tuple[int, int, bool], ImageNeeds | None] = {}
    for unit in units:
        for reading in unit.cell.reads:
            who = id(unit.context), id(unit.subject), reading.local
            if who not in found:
                found[who] = _needs(unit.context, unit.subject, local=reading.local)
            needs = found[who]
            if needs is not None:
                unit.context.expect(needs, reading.dataset, reading.split)


def _needs(context: Context, subject: Subject, *, local: bool) -> ImageNeeds | None:
    """What a subject reads of a frozen tower; None where it reads images themselves, or more than the tower gives."""
    if subject.reference:  # which is trained when its own cells are measured
        return _usual_needs(method_type(subject.config.method), local=local)
    try:
        method = context.method(subject)
        reader = method.with_local() if local else method
        shared = tower_is_frozen(reader) and views_of(reader, subject.config.seed) is None
        shared = shared and reader.keyed_features and not reader.feature_key()
        return reader.image_needs() if shared else None
    except (KeyboardInterrupt, Interrupted):
        raise
    except BaseException:  # which fails its cells, when they are measured
        log.debug("what %s reads cannot be told", subject.config.method, exc_info=True)
        return None


def _usual_needs(method: type[PromptMethod], *, local: bool) -> ImageNeeds | None:
    """What methods read that do not say otherwise, alone or with the local features of `PromptMethod.with_local`."""
    if method.image_needs is not PromptMethod.image_needs or "feature_cache" not in method.capabilities:
        return None
    return ImageNeeds(local="value_block" if local else None)
