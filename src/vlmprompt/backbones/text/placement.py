"""Learnable prompts made ready for a tower: checked, and said where each of their tokens goes.

Shapes: P prompts, K classes, V context tokens, S slots of a deep prompt, R inserted tokens, D width, J rows of
the context table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from vlmprompt.backbones.deltas import TowerDeltas
from vlmprompt.backbones.text.layout import Assembly, Chunk
from vlmprompt.backbones.text.tower import Words, ids_tensor
from vlmprompt.backbones.types import ClassTokens, TextPrompts
from vlmprompt.errors import CapabilityError, InputError


@dataclass(frozen=True)
class Placement:
    """Prompts of one class position.

    Attributes:
        table_PJD: context tokens: row v where all classes share them, row k * V + v where each has its own.
        assembly: how texts are put together.
        deep: layer -> (P,S,D) in place of tokens of the prefix, where that holds all that classes share;
            otherwise layer -> (P,K,S,D) or (P,1,S,D) in place of tokens of every class.
        deltas: of the tower's blocks.
        inserted: layer -> (P,K,R,D), or (P,1,R,D) where all classes share them, put behind the start tokens.
    """

    table_PJD: Tensor
    assembly: Assembly
    deep: Mapping[int, Tensor]
    inserted: Mapping[int, Tensor]
    deltas: TowerDeltas = field(default_factory=TowerDeltas)

    @property
    def shares_inserted(self) -> bool:
        """Whether the inserted tokens are those of all classes, and so belong to the prefix."""
        return all(tokens.shape[1] == 1 for tokens in self.inserted.values())

    def tensors(self) -> list[Tensor]:
        """All that gradients may flow to."""
        return [self.table_PJD, *self.deep.values(), *self.inserted.values(), *self.deltas.tensors()]

    def holding(self, tensors: Sequence[Tensor]) -> Placement:
        """The same with other tensors in these places."""
        table_PJD, *others = tensors
        n_deep, n_layered = len(self.deep), len(self.deep) + len(self.inserted)
        deep = dict(zip(self.deep, others[:n_deep], strict=True))
        inserted = dict(zip(self.inserted, others[n_deep:n_layered], strict=True))
        return Placement(table_PJD, self.assembly, deep, inserted, self.deltas.holding(others[n_layered:]))

    def context(self, part: Chunk, x_TD: Tensor) -> Tensor:
        """Texts of a chunk with their context tokens added: (P,T,D), or (1,T,D) where they have none."""
        x_PTD = x_TD[None]
        if not len(part.slots_S):
            return x_PTD
        slots_PSD = self.slots(part)
        return x_PTD.expand(len(slots_PSD), -1, -1).index_add(1, part.slots_S, slots_PSD.to(x_TD.dtype))

    def slots(self, part: Chunk) -> Tensor:
        """The context tokens of a chunk, one for each place (P,S,D)."""
        return self.table_PJD.index_select(1, part.sources_S)

    def deep_of(self, part: Chunk) -> dict[int, Tensor]:
        """Layer -> (P,K,S,D) for the classes of a chunk."""
        return _of_classes(self.deep, part)

    def inserted_of(self, part: Chunk) -> dict[int, Tensor]:
        """Layer -> (P,K,R,D) for the classes of a chunk."""
        return _of_classes(self.inserted, part)


def place(prompts: TextPrompts, classes: ClassTokens, words: Words, layers: int) -> Placement:
    """Prompts of scope "shared" or "class", nothing shared yet.

    Args:
        layers: of the tower.

    Raises:
        InputError: prompts that contradict each other, the classes or the tower.
    """
    assert isinstance(prompts.position, str)
    if prompts.words and prompts.position != "end":
        raise InputError("fixed words go with class position 'end' only")
    ctx, per_class = prompts.ctx, prompts.scope == "class"
    if per_class and len(ctx) != len(classes):
        raise InputError(f"contexts of {len(ctx)} classes are given for {len(classes)} classes")
    word_ids = tuple(words.ids(prompts.words)) if prompts.words else ()
    assembly = Assembly(ctx.shape[-2], word_ids, prompts.position, per_class)
    table_PJD = ctx.transpose(0, 1).flatten(1, 2) if per_class else ctx
    for layer, tokens in prompts.deep.items():
        _check_deep(layer, tokens, assembly, layers)
    _check_inserted(prompts.inserted, layers)
    deep, inserted = (
        {layer: _by_class(kind, layer, tokens, len(table_PJD), len(classes)) for layer, tokens in given.items()}
        for kind, given in (("deep", prompts.deep), ("inserted", prompts.inserted))
    )
    return Placement(table_PJD, assembly, deep, inserted, prompts.deltas or TowerDeltas())


def with_prefix(placement: Placement, n_start: int) -> Placement:
    """The same with all that classes share left to the prefix, or the start tokens alone where they share no more."""
    assembly = placement.assembly
    layered = [*placement.deep.values(), *placement.inserted.values()]
    if assembly.per_class or any(tokens.shape[1] > 1 for tokens in layered):
        return replace(placement, assembly=replace(assembly, n_prefix=n_start))
    deep = {layer: tokens.squeeze(1) for layer, tokens in placement.deep.items()}
    return replace(placement, assembly=replace(assembly, n_prefix=n_start + assembly.n_before), deep=deep)


def _of_classes(layered: Mapping[int, Tensor], part: Chunk) -> dict[int, Tensor]:
    """Layer -> (P,K,*,D) for the classes of a chunk."""
    return {
        layer: tokens.expand(-1, len(part.labels), -1, -1)
        if tokens.shape[1] == 1
        else tokens.index_select(1, ids_tensor(part.labels, tokens.device))
        for layer, tokens in layered.items()
    }


def _require_layers(layers: int, kind: str) -> None:
    if not layers:
        raise CapabilityError(
            f"this text tower takes no {kind}: its layers are another package's",
            hint="use a method that prompts the input alone, or a text tower of open_clip's own",
        )


def _check_inserted(inserted: Mapping[int, Tensor], layers: int) -> None:
    for layer, tokens in inserted.items():
        _require_layers(layers, "inserted tokens")
        if not 0 <= layer < layers:
            raise InputError(f"inserted text tokens name layer {layer}; the tower has layers 0 to {layers - 1}")
        if tokens.shape[-2] != next(iter(inserted.values())).shape[-2]:
            numbers = {i: t.shape[-2] for i, t in inserted.items()}
            raise InputError(f"inserted text tokens must be as many in every layer, not {numbers}")


def _check_deep(layer: int, tokens: Tensor, assembly: Assembly, layers: int) -> None:
    _require_layers(layers, "deep prompts")
    if not 1 <= layer < layers:
        raise InputError(f"deep text prompts name layer {layer}; the tower has layers 1 to {layers - 1}")
    if tokens.shape[-2] > assembly.n_before:
        raise InputError(
            f"deep text prompts of {tokens.shape[-2]} tokens reach beyond the {assembly.n_before} before the class, "
            "they would overwrite class names"
        )


def _by_class(kind: str, layer: int, tokens: Tensor, n_prompts: int, n_classes: int) -> Tensor:
    """(P,S,D) as (P,1,S,D), and (K,P,S,D) as (P,K,S,D)."""
    by_prompt = tokens[None] if tokens.dim() == 3 else tokens
    if by_prompt.dim() != 4 or by_prompt.shape[0] not in (1, n_classes) or by_prompt.shape[1] not in (1, n_prompts):
        raise InputError(
            f"the {kind} text prompt of layer {layer} has shape {tuple(tokens.shape)}, for {n_prompts} prompts and "
            f"{n_classes} classes",
            hint="(prompts, tokens, width), or (classes, prompts, tokens, width)",
        )
    return by_prompt.expand(-1, n_prompts, -1, -1).transpose(0, 1)
