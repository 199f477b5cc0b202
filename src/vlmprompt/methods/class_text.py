"""Frozen text features of classes: hand-written templates, and classes of several names, averaged.

Shapes: K classes, n names of all classes together, d joint width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.types import unit
from vlmprompt.config.templates import as_tuple, fault
from vlmprompt.data.names import spellings
from vlmprompt.errors import CapabilityError, InputError, UsageError

# Of methods whose text may have several names a class; the others learn prompts around one.
SEVERAL_NAMES = "several_names"


def class_text(
    engine: TextEngine, templates: str | Sequence[str], names: Sequence[str], *, keep_underscores: bool = False
) -> Tensor:
    """Unit text features (K,d) of classes: the mean of the unit features of every template and name, normalised again.

    The prompt ensembling of CLIP (Radford et al., ICML 2021, section 3.1.4, and its notebook), over the names of a
    class ("car | automobile") as over templates. No graph.

    Args:
        templates: texts with one {} each.
        keep_underscores: see `TextEngine.class_tokens`.

    Raises:
        InputError: a text does not fit into the tower's context length.
    """
    several = [spellings(name) for name in names]
    of_n = [name for name, parts in zip(names, several, strict=True) for _ in parts]
    written_n = [part if keep_underscores else part.replace("_", " ") for parts in several for part in parts]
    sum_nd: Tensor | None = None
    for template in as_tuple(templates):
        # One template at a time: 80 of them over 1,000 classes would be 160 MB.
        units_nd = unit(engine.encode_sentences([template.replace("{}", name) for name in written_n], of=of_n))
        sum_nd = units_nd if sum_nd is None else sum_nd + units_nd
    assert sum_nd is not None
    return unit(torch.stack([part_nd.sum(dim=0) for part_nd in sum_nd.split([len(parts) for parts in several])]))


def require_list(names: Sequence[str]) -> None:
    """Refuse one text in the place of class names, each letter of which would be a class.

    Raises:
        UsageError: it is one.
    """
    if isinstance(names, str):
        raise UsageError(f"class names are a list, and {names!r} is one text", hint=f"give [{names!r}]")


def require_template(template: str) -> None:
    """Refuse a text that class names cannot be written into.

    Raises:
        InputError: it does not hold one {}, or is no line of text.
    """
    if wrong := fault(template):
        raise InputError(f"template {template!r} {wrong}", hint='such as "a photo of a {}."')


def require_one_name(method: str, capabilities: Collection[str], names: Sequence[str]) -> None:
    """Refuse several names a class where a method cannot use them.

    Raises:
        CapabilityError: names the first such class.
    """
    found = [name for name in names if len(spellings(name)) > 1]
    if found and SEVERAL_NAMES not in capabilities:
        raise CapabilityError(
            f"method {method} learns prompts around one name a class, {found[0]!r} has {len(spellings(found[0]))}",
            hint="keep one: in the file of --class-names, or by --aliases with a line such as "
            f"'{spellings(found[0])[-1]} = {spellings(found[0])[0]}'",
        )
