"""The checks of scores, tried on what tiny methods of the core say of drawn pictures.

Shapes: B images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vlmprompt.conformance import material
from vlmprompt.conformance.check import Check, checks, require, skip
from vlmprompt.conformance.methods.learning import global_states
from vlmprompt.errors import CapabilityError, UsageError
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score import Score
from vlmprompt.methods.score_config import score_config
from vlmprompt.methods.scorer import Scorer, scorer

DRAWS = "draw from a seed of its own"
SCORED = "coop"  # of the core, which gives everything that a score may need


@dataclass
class ScoreCase:
    """A score with its options."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def method(self) -> PromptMethod:
        """Whose outputs it is tried on, with local features."""
        return build_method(SCORED, material.towers(), material.NAMES, {"n_ctx": 2}).eval().with_local()

    @cached_property
    def scorer(self) -> Scorer:
        """The score, prepared for the method."""
        return scorer(self.name, self.options, self.method)

    @cached_property
    def images(self) -> Tensor:
        """One of each class."""
        return material.images(self.method.backbone.preprocess.sides)

    @cached_property
    def output(self) -> MethodOutput:
        """What the method says of the pictures."""
        with torch.no_grad():
            return self.method(self.images)

    def of(self, index_B: Tensor) -> Tensor:
        """The scores of some of the pictures, from an output of these alone."""
        with torch.no_grad():
            return self.scorer(self.method(self.images[index_B]))


def says_what_it_is(case: ScoreCase) -> None:
    """A score has a summary where it is registered, and a docstring that says its formula and source."""
    require(bool(case.scorer.entry.summary), "it is registered without a summary", "register(..., summary=...)")
    about = type(case.scorer.score).__doc__  # its own, not that of its base
    require(bool(about), "it has no docstring", "say the formula and its source in it")


def gives_a_finite_number_for_each_image(case: ScoreCase) -> None:
    """A score is a tensor (B,) of finite floating-point numbers, without a graph."""
    values_B = case.scorer(case.output)
    require(bool(values_B.isfinite().all()), "a score is NaN or infinite", "guard logarithms and divisions")
    require(not values_B.requires_grad, "the scores have a graph", "score makes no gradients")


def images_do_not_depend_on_each_other(case: ScoreCase) -> None:
    """An image has the same score alone, in a batch and in another order."""
    n = len(case.images)
    whole_B = case.of(torch.arange(n))
    alone_B = torch.cat([case.of(torch.tensor([i])) for i in range(n)])
    turned_B = case.of(torch.arange(n - 1, -1, -1)).flip(0)
    for values_B in (alone_B, turned_B):
        close = torch.allclose(whole_B, values_B, rtol=1e-4, atol=1e-5)
        require(close, "an image's score depends on the images beside it", "reduce over classes, never over images")


def same_scores_twice(case: ScoreCase) -> None:
    """The same images have the same scores each time, and global random states are left alone."""
    before = global_states()
    values_B = scorer(case.name, case.options, case.method)(case.output)
    for library, state in global_states().items():
        require(state == before[library], f"the global random state of {library} was used", DRAWS)
    require(torch.equal(values_B, case.scorer(case.output)), "a second score differs", DRAWS)


def leaves_the_output_alone(case: ScoreCase) -> None:
    """A score changes nothing of what the method says."""
    kept = {name: tensor.clone() for name, tensor in _tensors(case.output).items()}
    case.scorer(case.output)
    for name, tensor in _tensors(case.output).items():
        same = torch.equal(kept[name], tensor)
        require(same, f"it changes {name} of the output", "work on a copy: no operations in place")


def says_what_it_needs(case: ScoreCase) -> None:
    """A score needs what it says and no more: without the rest it works, without that it is refused by name."""
    bare = {
        "local": replace(case.output, local=None),
        "image": replace(case.output, aux=_without(case.output.aux, "image_Bd")),
        "text": replace(case.output, aux=_without(case.output.aux, "text_PKd")),
        "cosines": replace(case.output, global_cosines=None, cosine_logits=False),
    }
    for need, output in bare.items():
        try:
            case.scorer(output)
            given = True
        except CapabilityError:
            given = False
        except Exception as error:
            if need in case.scorer.score.needs:
                raise
            require(False, f"without {need} it fails: {error!r}", f"needs = frozenset({{..., {need!r}}})")
        if need in case.scorer.score.needs:
            require(not given, f"it says that it needs {need}, and works without", f"leave {need!r} out of needs")


def parts_are_json(case: ScoreCase) -> None:
    """What values depend on beside options and code is JSON, and the same each time."""
    parts = dict(case.scorer.score.parts())
    json.dumps(parts)
    again = dict(scorer(case.name, case.options).score.parts())
    require(parts == again, "parts() differs from call to call", "let it depend on files and options alone")


def options_are_strict(case: ScoreCase) -> None:
    """An option that there is not is refused, and every option says what it means."""
    try:
        score_config(case.name, {**case.options, "no_such_option": 1})
    except UsageError:
        pass
    else:
        require(False, "an unknown option is accepted", "derive the options from ScoreConfig")
    fields = type(case.scorer.score.config).model_fields
    silent = [name for name, about in fields.items() if not about.description]
    require(not silent, f"option {silent[0] if silent else ''!r} says nothing of itself", "Field(..., description=...)")


def is_prepared_for_its_classes(case: ScoreCase) -> None:
    """What is prepared for a method is made anew for other classes, which leaves the first as it was."""
    if type(case.scorer.score).prepare is Score.prepare:
        skip("it prepares nothing")
    before_B = case.scorer(case.output)
    other = case.method.with_classes(material.OTHER_NAMES)
    with torch.no_grad():
        values_B = scorer(case.name, case.options, other)(other(case.images))
    require(bool(values_B.isfinite().all()), "for other classes a score is NaN or infinite", "see prepare")
    require(
        torch.equal(before_B, case.scorer(case.output)),
        "preparing for other classes changes the first scores",
        "keep what is prepared in what prepare returns",
    )


def _tensors(output: MethodOutput) -> dict[str, Tensor]:
    named = {"logits": output.logits, "global_cosines": output.global_cosines, **output.aux}
    if output.local is not None:
        named |= {"local features": output.local.features_BNd, "local classes": output.local.classes}
    return {name: tensor for name, tensor in named.items() if tensor is not None}


def _without(aux: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: value for key, value in aux.items() if key != name}


SCORE_CHECKS: tuple[Check[ScoreCase], ...] = checks(
    says_what_it_is,
    gives_a_finite_number_for_each_image,
    images_do_not_depend_on_each_other,
    same_scores_twice,
    leaves_the_output_alone,
    says_what_it_needs,
    parts_are_json,
    options_are_strict,
    is_prepared_for_its_classes,
)
