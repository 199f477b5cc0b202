"""The text engine: class names under learnable prompts, exactly, at a fraction of the plain cost.

Plain prompt learning runs all positions of every (prompt, class) text. Three exact reductions are made
here (same numbers to rounding, gradients included): nothing behind the end-of-text token is computed; the
class-independent prefix `[SOT, ctx, words]`, deep prompts included, runs once a prompt and every class
attends to its keys and values; in the last layer only the end-of-text position is computed. Over many
classes the work is cut into chunks whose activations are recomputed in the backward pass, so memory does
not grow with the number of classes.

Shapes: P prompts (times B images where the text depends on the image), K classes, T suffix tokens of a
chunk, M prefix tokens, V context tokens, S slots of a deep prompt, D width, H heads, h = D/H, d joint width.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from vlmprompt.backbones.blocks import causal_bias, finish, project_kv, project_q, project_qkv, run_block
from vlmprompt.backbones.chunked import run_parts
from vlmprompt.backbones.layout import Chunk, Group, Layout, build_layout
from vlmprompt.backbones.types import ClassPosition, ClassTokens, TextPrompts
from vlmprompt.errors import InputError

# Suffix tokens (times prompts) whose activations are held at once; ViT-B text: about 0.3 MB a token.
CHUNK_TOKENS = {"cpu": 2048}
CHUNK_TOKENS_ACCELERATOR = 16384


@dataclass(frozen=True)
class TextTower:
    """The parts of a causal text transformer, read at the end-of-text token."""

    token_embedding: Any
    positional_embedding: Tensor
    blocks: Sequence[Any]
    ln_final: Any
    project: Callable[[Tensor], Tensor]
    sot_id: int
    eot_id: int
    tokenize: Callable[[str], list[int]]  # bare ids, without start and end tokens
    known_ids: frozenset[int] | None = None  # what the tower was trained on; None: as good as everything


class TextEngine:
    """Encodes class names under prompts; see the module's text for what it saves.

    Args:
        tower: the frozen tower.
        joint_dim: d.
        autocast: context in which the tower runs (reduced precision), default none.
    """

    def __init__(
        self,
        tower: TextTower,
        joint_dim: int,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self._tower = tower
        self._autocast = autocast
        self._computes = True
        self.joint_dim = joint_dim
        self.context_length, self.width = tower.positional_embedding.shape
        self.layers = len(tower.blocks)

    def __repr__(self) -> str:
        return f"TextEngine({self.context_length} positions, {self.layers} layers of width {self.width})"

    @property
    def device(self) -> torch.device:
        """Where the tower lives."""
        return self._tower.positional_embedding.device

    def without_computing(self) -> TextEngine:
        """The same engine for trial: it lays every text out, and so finds one that is too long, but gives zeros."""
        other = copy.copy(self)
        other._computes = False
        return other

    # -- words and classes --------------------------------------------------------------------------
    def class_tokens(self, names: Sequence[str], *, tail: str = ".", keep_underscores: bool = False) -> ClassTokens:
        """Tokenise class names.

        Args:
            tail: what follows the name; "." is CoOp's assembly, "" GalLoP's.
            keep_underscores: leave "_" in names as they are (GalLoP's code) instead of spaces.
        """
        written = [name if keep_underscores else name.replace("_", " ") for name in names]
        name_ids = [self._tower.tokenize(text) for text in written]
        # A name's last token may merge with the tail ("St." + "."), so the tail is what is left of the
        # whole when the name's own tokens are counted off (CoOp's own rule).
        whole = [self._tower.tokenize(text + tail) for text in written]
        tails = [tuple(ids[len(own) :]) + (self._tower.eot_id,) for ids, own in zip(whole, name_ids, strict=True)]
        heads = [tuple(ids[: len(own)]) for ids, own in zip(whole, name_ids, strict=True)]
        return ClassTokens(tuple(names), tuple(heads), tuple(tails))

    def unknown_names(self, names: Sequence[str]) -> list[str]:
        """The names in which no word is one that the tower was trained on."""
        known = self._tower.known_ids
        if known is None:
            return []
        return [name for name in names if not any(known.issuperset(ids) for ids in self._word_ids(name))]

    def _word_ids(self, name: str) -> list[list[int]]:
        return [self._tower.tokenize(word) for word in name.replace("_", " ").split()]

    def embed_words(self, words: str) -> Tensor:
        """Token embeddings (n_tokens, D) of words, without position."""
        ids = torch.tensor(self._tower.tokenize(words), dtype=torch.long, device=self.device)
        return self._tower.token_embedding(ids).detach()

    def encode_sentences(self, sentences: Sequence[str], *, of: Sequence[str] | None = None) -> Tensor:
        """Whole texts as they are: (n, d), not normalised, no graph.

        Args:
            of: the class that each is about, to be named where a text is too long.
        """
        tokens = self.class_tokens(sentences, tail="", keep_underscores=True)
        with torch.no_grad():
            return self.encode(self.no_context(), tokens if of is None else replace(tokens, names=tuple(of)))[0]

    def encode_template(self, template: str, names: Sequence[str], *, keep_underscores: bool = False) -> Tensor:
        """Class names in a template such as "a photo of a {}.": (K, d), not normalised, no graph.

        Args:
            keep_underscores: see `class_tokens`.

        Raises:
            InputError: the template does not hold exactly one "{}".
        """
        parts = re.split(r"\{\}", template)
        if len(parts) != 2:
            raise InputError(f"template {template!r} must hold exactly one {{}}", hint='such as "a photo of a {}."')
        written = [name if keep_underscores else name.replace("_", " ") for name in names]
        return self.encode_sentences([template.replace("{}", name) for name in written], of=names)

    def no_context(self) -> TextPrompts:
        """Prompts without any learnable token."""
        return TextPrompts(torch.empty(1, 0, self.width, device=self.device))

    # -- encoding -----------------------------------------------------------------------------------
    def encode(self, prompts: TextPrompts, classes: ClassTokens, *, chunk: int | Literal["auto"] = "auto") -> Tensor:
        """Text features of every class under every prompt, not normalised.

        Args:
            prompts: see `TextPrompts`.
            classes: from `class_tokens`.
            chunk: classes a chunk, with activations recomputed in the backward pass; "auto" chunks (and
                recomputes) only where a label space needs it.

        Returns:
            (P,K,d); (B,P,K,d) for image-conditioned contexts.

        Raises:
            InputError: the text of a class does not fit into the tower's context length, deep prompts reach
                beyond the class-independent prefix, or there are not as many positions as prompts.
        """
        if isinstance(prompts.position, tuple):
            return self._by_position(prompts, prompts.position, classes, chunk)
        with self._autocast():
            if prompts.scope != "image":
                return self._encode(prompts.ctx, prompts, classes, chunk)
            features = self._encode(prompts.ctx.flatten(0, 1), prompts, classes, chunk)
            return features.unflatten(0, prompts.ctx.shape[:2])

    def _by_position(
        self,
        prompts: TextPrompts,
        positions: tuple[ClassPosition, ...],
        classes: ClassTokens,
        chunk: int | Literal["auto"],
    ) -> Tensor:
        """Each position's prompts together, then all in their order."""
        if len(positions) != prompts.ctx.shape[-3]:
            raise InputError(f"{len(positions)} class positions for {prompts.ctx.shape[-3]} prompts")
        order, parts = [], []
        for position in dict.fromkeys(positions):
            rows = [p for p, own in enumerate(positions) if own == position]
            deep = {layer: tokens_PSD[rows] for layer, tokens_PSD in prompts.deep.items()}
            some = replace(prompts, ctx=prompts.ctx[..., rows, :, :], deep=deep, position=position)
            parts.append(self.encode(some, classes, chunk=chunk))
            order += rows
        back = torch.tensor(order, device=self.device).argsort()
        return torch.cat(parts, dim=-3).index_select(-3, back)

    def _encode(self, ctx: Tensor, prompts: TextPrompts, classes: ClassTokens, chunk: int | Literal["auto"]) -> Tensor:
        assert isinstance(prompts.position, str)
        per_class = prompts.scope == "class"
        # The context table: row v for a shared context, row k*V + v where every class has its own.
        table_PJD = ctx.transpose(0, 1).flatten(1, 2) if per_class else ctx
        words_WD = self.embed_words(prompts.words) if prompts.words else ctx.new_empty(0, self.width)
        if prompts.words and prompts.position != "end":
            raise InputError("fixed words go with class position 'end' only")
        layout = build_layout(
            classes,
            n_ctx=ctx.shape[-2],
            n_words=len(words_WD),
            position=prompts.position,
            per_class=per_class,
            chunk_tokens=self._chunk_tokens(len(table_PJD)) if chunk == "auto" else None,
            chunk_classes=None if chunk == "auto" else chunk,
            limit=self.context_length,
            device=self.device,
        )
        if not self._computes:
            return ctx.new_zeros(len(table_PJD), len(classes), self.joint_dim)
        in_prefix = layout.prefix_context
        prefix = self._prefix(table_PJD[:, :in_prefix], words_WD, prompts.deep)
        recompute = torch.is_grad_enabled() and (chunk != "auto" or len(layout.chunks) > 1)
        return self._over_chunks(layout, table_PJD, prefix, recompute)

    def _over_chunks(self, layout: Layout, table_PJD: Tensor, prefix: list[Tensor], recompute: bool) -> Tensor:
        if recompute:
            runs = [partial(self._suffixes, part) for part in layout.chunks]
            features = run_parts(runs, [len(part.labels) for part in layout.chunks], [table_PJD, *prefix])
        else:
            features = torch.cat([self._suffixes(part, table_PJD, *prefix) for part in layout.chunks], dim=1)
        return features.index_select(1, layout.restore_K)

    def _chunk_tokens(self, n_prompts: int) -> int:
        return max(CHUNK_TOKENS.get(self.device.type, CHUNK_TOKENS_ACCELERATOR) // n_prompts, 1)

    def _prefix(self, ctx_PVD: Tensor, words_WD: Tensor, deep: Mapping[int, Tensor]) -> list[Tensor]:
        """Keys and values (2,P,H,M,h) of every layer for `[SOT, ctx, words]`."""
        tower, n_prompts = self._tower, len(ctx_PVD)
        sot_D = tower.token_embedding.weight[tower.sot_id]
        x_PMD = torch.cat([sot_D.expand(n_prompts, 1, -1), ctx_PVD, words_WD.expand(n_prompts, -1, -1)], dim=1)
        x_PMD = x_PMD + tower.positional_embedding[: x_PMD.shape[1]]
        self._check_deep(deep, x_PMD.shape[1])
        kept = []
        for i, block in enumerate(tower.blocks):
            if i in deep:
                deep_PSD = deep[i].repeat(n_prompts // len(deep[i]), 1, 1)
                x_PMD = torch.cat([x_PMD[:, :1], deep_PSD, x_PMD[:, 1 + deep_PSD.shape[1] :]], dim=1)
            if i == self.layers - 1:  # nobody reads the prefix's own output
                kept.append(project_kv(block, block.ln_1(x_PMD)))
            else:
                x_PMD, k, v = run_block(block, x_PMD, causal=True)
                kept.append(torch.stack([k, v]))
        return kept

    def _check_deep(self, deep: Mapping[int, Tensor], n_prefix: int) -> None:
        for layer, tokens in deep.items():
            if not 1 <= layer < self.layers:
                raise InputError(f"deep text prompts name layer {layer}; the tower has layers 1 to {self.layers - 1}")
            if tokens.shape[-2] > n_prefix - 1:
                raise InputError(
                    f"deep text prompts of {tokens.shape[-2]} tokens reach beyond the {n_prefix - 1} class-independent "
                    "ones, they would overwrite class names"
                )

    def _suffixes(self, part: Chunk, table_PJD: Tensor, *prefix: Tensor) -> Tensor:
        """The classes of one chunk: (P, K of the chunk, d)."""
        tower = self._tower
        x = tower.token_embedding(part.ids_T) * part.fixed_T[:, None] + tower.positional_embedding[part.positions_T]
        # Without context tokens in the suffix, all prompts share the input of layer 0: (1,T,D).
        x_PTD = x[None]
        if len(part.slots_S):
            slots_PSD = table_PJD.index_select(1, part.sources_S)
            x_PTD = x_PTD.expand(len(table_PJD), -1, -1).index_add(1, part.slots_S, slots_PSD.to(x.dtype))
        for block, kv in zip(tower.blocks[:-1], prefix[:-1], strict=True):
            q, k, v = project_qkv(block, block.ln_1(x_PTD))
            x_PTD = finish(block, x_PTD, _attend(q, k, v, kv, part.groups))
        x_PKD = self._last_block(part, x_PTD, prefix[-1])
        return tower.project(tower.ln_final(x_PKD))

    def _last_block(self, part: Chunk, x_PTD: Tensor, prefix_kv: Tensor) -> Tensor:
        """The last layer at the end-of-text positions only: (P,K,D)."""
        block = self._tower.blocks[-1]
        normed = block.ln_1(x_PTD)
        k, v = project_kv(block, normed)
        q = project_q(block, normed.index_select(1, part.ends_K))
        ends = []
        first = 0
        for g in part.groups:
            ends.append(Group(first, g.count, 1))
            first += g.count
        heads = _attend(q, k, v, prefix_kv, part.groups, queries=tuple(ends))
        return finish(block, x_PTD.index_select(1, part.ends_K), heads)


def _attend(
    q: Tensor, k: Tensor, v: Tensor, prefix_kv: Tensor, groups: Sequence[Group], queries: Sequence[Group] | None = None
) -> Tensor:
    """Attention of suffix tokens to `[prefix | own text]`, one softmax, prefix keys never copied per class.

    Args:
        q: (P or 1, H, T, h), or one query a class where `queries` is given; k, v: (P or 1, H, T, h).
        prefix_kv: (2, P, H, M, h).
        groups: suffixes of equal length.
        queries: where each group's queries lie; default: where its keys lie, under a causal mask.

    Returns:
        (P, H, number of queries, h).
    """
    k_pre, v_pre = prefix_kv
    q = q * q.shape[-1] ** -0.5
    to_prefix = q @ k_pre.transpose(-1, -2)  # (P,H,T,M)
    out = []
    for own, ask in zip(groups, queries or groups, strict=True):
        q_g = _runs(q, ask)
        scores = q_g @ _runs(k, own).transpose(-1, -2)  # (P,H,count,query length,length)
        if ask.length > 1:
            scores = scores + causal_bias(own.length, scores)
        pre_g = _runs(to_prefix, ask)
        joint = torch.cat([pre_g, scores.expand(*pre_g.shape[:-1], -1)], dim=-1).softmax(dim=-1)
        w_pre, w_own = joint.split([pre_g.shape[-1], own.length], dim=-1)
        attended = (w_own @ _runs(v, own)).flatten(2, 3) + w_pre.flatten(2, 3) @ v_pre
        out.append(attended)
    return torch.cat(out, dim=2)


def _runs(x_PHTh: Tensor, g: Group) -> Tensor:
    """The tokens of a group, one row a class: (P,H,count,length,h)."""
    return x_PHTh[:, :, g.start : g.stop].unflatten(2, (g.count, g.length))
