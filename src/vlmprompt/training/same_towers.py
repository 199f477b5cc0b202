"""Whether towers are those of a run's training, wherever they lie: weights, and what weights do not tell."""

from __future__ import annotations

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import InputError
from vlmprompt.training.run_info import BackboneInfo


def require_same(backbone: Backbone, then: BackboneInfo, run: str) -> None:
    """Refuse towers that are not those of a run's training.

    Args:
        then: what the run recorded of its own.
        run: its name, for errors.

    Raises:
        InputError: they have other weights, compute otherwise with the same, or read images of another size or
            texts otherwise.
    """
    if backbone.digest != then.digest:
        raise InputError(
            f"the weights of backbone {backbone.spec!r} are not those that run {run} was trained on",
            hint="restore them, say where they are (--backbone SPEC, or load_backbone(spec=...)), or train again",
        )
    sides = backbone.preprocess.sides
    if then.sides not in (None, sides):  # which the weights of a convolutional tower do not tell
        raise InputError(
            f"run {run} was trained on images of {_by(then.sides)} pixels, "
            f"and backbone {backbone.spec!r} reads {_by(sides)}",
            hint="load the run's own towers (load_backbone() of the run), or train again",
        )
    if then.is_quick not in (None, backbone.is_quick):
        raise InputError(
            f"run {run} was trained {_with(then.is_quick)} QuickGELU, "
            f"and backbone {backbone.spec!r} computes {_with(backbone.is_quick)} it",
            hint="load the run's own towers (load_backbone() of the run), or train again",
        )
    stand_in = backbone.identity.stand_in
    if stand_in != then.stand_in:
        raise InputError(
            f"run {run} was trained with {_reader(then.stand_in)}, and texts are read by {_reader(stand_in)} now",
            hint="train it again",
        )


def _by(sides: tuple[int, int]) -> str:
    return " x ".join(map(str, sides))


def _with(is_quick: bool) -> str:
    return "with" if is_quick else "without"


def _reader(stand_in: str | None) -> str:
    return "the towers' own tokenizer" if stand_in is None else f"numbers in place of tokenizer {stand_in!r}"
