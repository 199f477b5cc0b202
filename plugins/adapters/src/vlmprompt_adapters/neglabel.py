"""NegLabel: an image is of a known class if it is more like the classes than like words that are none of them.

Shapes: B images, K classes, M negative labels, C candidates, d joint width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from vlmprompt.api import (
    Backbone,
    InputError,
    MethodOutput,
    PromptMethod,
    Score,
    TextEngine,
    at_least_float,
    class_text,
)
from vlmprompt_adapters.config.neglabel import NegLabelConfig
from vlmprompt_adapters.scale import SCALE
from vlmprompt_adapters.words import Words, read_words

NOUN, ADJECTIVE = "the nice {}", "This is a {} photo"
QUANTILE = 0.95
SEED = 0  # of the permutation before negatives are grouped
AT_ONCE = 2**22  # cosines of candidates that a quantile is taken of at a time


class NegLabel(Score):
    """The softmax mass of the classes among classes and negative labels (NegLabel, Jiang et al., ICLR 2024).

    sum_k e^(100 c_k) / (sum_k e^(100 c_k) + sum_m e^(100 c_m)), c the cosines of the image with the text of classes,
    "the nice {}", and of negative labels. These are chosen among many words: of the nouns ("the nice {}") and of the
    adjectives ("This is a {} photo") each the share `top` that is least like the classes, by the .95 quantile over
    classes of its cosines. With `groups` the score is the mean over groups of negative labels.

    As the official code (XueJiang16/NegLabel), but: groups = 1 is the formula above, where that code returns the sum of
    the classes' cosines; groups are drawn by a generator on the CPU, not on the GPU; the words are the user's own.
    The text of classes and words is hand-written whatever the method has learned: of a method, the score reads the
    image features alone. The scale 100 is the code's literal.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"image"})
    config: NegLabelConfig

    def words(self) -> Words:
        """The candidates."""
        return read_words(self.config.negatives)

    def parts(self) -> Mapping[str, Any]:
        """The words as they are now."""
        words = self.words()
        text = "\n".join((*words.nouns, "", *words.adjectives))
        return {"words": hashlib.sha256(text.encode()).hexdigest()}

    def prepare(self, method: PromptMethod) -> Labels:
        """Text features of the classes, and of the words least like them.

        Raises:
            InputError: the words cannot be read, or too few are left.
        """
        words = self.words()
        key = (words, method.class_names, self.config.top)
        kept = _prepared.setdefault(method.backbone, {})
        if key not in kept:
            kept.clear()
            kept[key] = chosen_labels(method.backbone.text, method.class_names, words, self.config.top)
        left = len(kept[key].negative_Md)
        if left < self.config.groups:
            raise InputError(
                f"{left} negative labels are left of {self.config.negatives}, too few for {self.config.groups} groups",
                hint="give more words, a larger share (top), or fewer groups",
            )
        return kept[key]

    def score(self, output: MethodOutput, prepared: Labels) -> Tensor:
        """See `neglabel_score`; negative labels are grouped in one order for all batches."""
        groups, m = self.config.groups, len(prepared.negative_Md)
        kept = m - m % groups
        order = torch.randperm(kept, generator=torch.Generator().manual_seed(SEED)) if groups > 1 else None
        image_Bd = output.aux["image_Bd"]
        return neglabel_score(
            image_Bd, prepared.positive_Kd, prepared.negative_Md, scale=SCALE, groups=groups, permutation=order
        )


@dataclass(frozen=True)
class Labels:
    """Unit text features of the classes and of negative labels."""

    positive_Kd: Tensor
    negative_Md: Tensor


# Those of each backbone's newest classes: a run and what stands beside it have the same, and words are many.
_prepared: WeakKeyDictionary[Backbone, dict[tuple[object, ...], Labels]] = WeakKeyDictionary()


def chosen_labels(engine: TextEngine, class_names: Sequence[str], words: Words, top: float) -> Labels:
    """The classes, and of nouns and adjectives the share least like them."""
    positive_Kd = class_text(engine, NOUN, class_names)
    kept = [
        least_alike(class_text(engine, template, part), positive_Kd, top)
        for template, part in zip((NOUN, ADJECTIVE), words, strict=True)
        if part
    ]
    return Labels(positive_Kd, torch.cat(kept))


def neglabel_score(
    image_Bd: Tensor,
    positive_Kd: Tensor,
    negative_Md: Tensor,
    *,
    scale: float = SCALE,
    groups: int = 1,
    permutation: Tensor | Sequence[int] | None = None,
) -> Tensor:
    """The score of each image, (B,) in [0, 1]; higher = more in-distribution.

    Args:
        image_Bd, positive_Kd, negative_Md: unit features of images, classes and negative labels.
        scale: of cosines in the softmax.
        groups: into which negative labels are cut, after those beyond a multiple of their number are left out at the
            end; the score is the mean over groups. 1: no cut.
        permutation: order of the negative labels that are left before they are cut; default: as they are.

    Raises:
        InputError: there are fewer negative labels than groups, or the permutation is none of those that are left.
    """
    m = len(negative_Md)
    if not 1 <= groups <= m:
        raise InputError(f"{m} negative labels cannot be cut into {groups} groups", hint="1 to as many as there are")
    kept_Md = negative_Md[: m - m % groups]
    if permutation is not None:
        order = torch.as_tensor(permutation, device=kept_Md.device)
        if sorted(order.tolist()) != list(range(len(kept_Md))):
            raise InputError(f"permutation is no order of the {len(kept_Md)} negative labels that are left")
        kept_Md = kept_Md[order]
    with torch.autocast(image_Bd.device.type, enabled=False):
        positive_B1K = scale * (at_least_float(image_Bd) @ at_least_float(positive_Kd).T)[:, None]
        negative_BGj = scale * (at_least_float(image_Bd) @ at_least_float(kept_Md).T).unflatten(1, (groups, -1))
    # The share of the classes is the sigmoid of the logarithm of the odds.
    odds_BG = positive_B1K.logsumexp(dim=-1) - negative_BGj.logsumexp(dim=-1)
    return odds_BG.sigmoid().mean(dim=1)


def similarity(candidate_Cd: Tensor, positive_Kd: Tensor, quantile: float = QUANTILE) -> Tensor:
    """How like the classes each candidate is, (C,): a quantile over classes of its cosines, linearly interpolated."""
    part = max(1, AT_ONCE // len(positive_Kd))
    found = [(chunk @ positive_Kd.T).float().quantile(quantile, dim=1) for chunk in candidate_Cd.split(part)]
    return torch.cat(found)


def least_alike(candidate_Cd: Tensor, positive_Kd: Tensor, top: float) -> Tensor:
    """The candidates least like the classes, int(C top) of them, the least alike first."""
    order_C = similarity(candidate_Cd, positive_Kd).argsort(stable=True)
    return candidate_Cd[order_C[: int(len(candidate_Cd) * top)]]
