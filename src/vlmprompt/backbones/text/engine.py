"""The text engine: class names under learnable prompts, on any kind of text tower.

The engine knows words, class names and the shapes of prompts; how texts are encoded is the tower's (`TextTower`).

Shapes: B images, P prompts, K classes, V context tokens, D width, d joint width.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

import torch
from torch import Tensor

from vlmprompt.backbones.precision import Autocast
from vlmprompt.backbones.text.tower import Chunking, TextTower, ids_tensor
from vlmprompt.backbones.types import ClassPosition, ClassTokens, TextPrompts
from vlmprompt.errors import CapabilityError, InputError


class TextEngine:
    """Encodes class names under prompts.

    Args:
        tower: the frozen tower.
        autocast: context in which the tower runs (reduced precision), default none.
    """

    def __init__(self, tower: TextTower, autocast: Autocast = nullcontext) -> None:
        self.tower = tower
        self._autocast = autocast
        self.width = tower.width
        self.layers = tower.layers
        self.joint_dim = tower.joint_dim
        self.context_length = tower.context_length
        self.takes_deltas = bool(getattr(tower, "takes_deltas", False))  # a plugin's tower may not say

    def __repr__(self) -> str:
        return f"TextEngine({self.context_length} positions, {self.layers} layers of width {self.width})"

    @property
    def device(self) -> torch.device:
        """Where the tower lives."""
        return self.tower.device

    # -- words and classes --------------------------------------------------------------------------
    def class_tokens(self, names: Sequence[str], *, tail: str = ".", keep_underscores: bool = False) -> ClassTokens:
        """Tokenise class names.

        Args:
            tail: what follows the name; "." is CoOp's assembly, "" GalLoP's.
            keep_underscores: leave "_" in names as they are (GalLoP's code) instead of spaces.
        """
        written = [name if keep_underscores else name.replace("_", " ") for name in names]
        words = self.tower.words
        name_ids = [words.ids(text) for text in written]
        # A name's last token may merge with the tail ("St." + "."), so the tail is what is left of the
        # whole when the name's own tokens are counted off (CoOp's own rule).
        whole = [words.ids(text + tail) for text in written]
        tails = [tuple(ids[len(own) :]) + words.end for ids, own in zip(whole, name_ids, strict=True)]
        heads = [tuple(ids[: len(own)]) for ids, own in zip(whole, name_ids, strict=True)]
        return ClassTokens(tuple(names), tuple(heads), tuple(tails))

    def unknown_names(self, names: Sequence[str]) -> list[str]:
        """The names in which no word is one that the tower was trained on."""
        known = self.tower.words.known
        if known is None:
            return []
        return [name for name in names if not any(known.issuperset(ids) for ids in self._word_ids(name))]

    def _word_ids(self, name: str) -> list[list[int]]:
        return [self.tower.words.ids(word) for word in name.replace("_", " ").split()]

    def embed_words(self, words: str) -> Tensor:
        """Token embeddings (n_tokens, D) of words, without position."""
        return self.tower.embed(ids_tensor(self.tower.words.ids(words), self.device)).detach()

    def vocabulary(self) -> Sequence[int]:
        """The ids that the tower was trained on, or else all that it has an embedding of.

        Raises:
            CapabilityError: its embedding is no table, so nobody knows how many there are.
        """
        known = self.tower.words.known
        if known is not None:
            return sorted(known)
        rows: int | None = getattr(self.tower, "vocabulary", None)
        if rows is None:
            raise CapabilityError(
                f"the text tower ({self.tower.kind}) has no table of token embeddings that could be searched",
                hint="give its TextTower an attribute vocabulary: the number of its token ids",
            )
        return range(rows)

    def token(self, id_: int) -> str:
        """What a token id stands for, see `Words.token`.

        Raises:
            CapabilityError: the tokenizer does not say.
        """
        read = self.tower.words.token
        if read is None:
            raise CapabilityError(
                "the tokenizer does not say which word a token id stands for",
                hint="towers with their own tokenizer are needed, one of open_clip or of transformers",
            )
        return read(id_)

    def embed_ids(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings (n, D) of ids, without position."""
        return self.tower.embed(ids_tensor(ids, self.device)).detach()

    def start_embedding(self) -> Tensor | None:
        """Embedding (D) of the token in front of every text, which tells a tower from others; None: there is none."""
        if not self.tower.words.start:
            return None
        return self.tower.embed(torch.tensor(self.tower.words.start[0], device=self.device)).detach()

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
    def encode(self, prompts: TextPrompts, classes: ClassTokens, *, chunk: Chunking = "auto") -> Tensor:
        """Text features of every class under every prompt, not normalised.

        Args:
            prompts: see `TextPrompts`.
            classes: from `class_tokens`.
            chunk: classes a chunk, with activations recomputed in the backward pass; "auto" chunks only where a
                label space needs it, and recomputes what is beyond a budget (see `budget.kept_bytes`).

        Returns:
            (P,K,d); (B,P,K,d) for image-conditioned contexts.

        Raises:
            InputError: the text of a class does not fit into the tower's context length (inserted tokens do not
                count), deep prompts reach beyond the class-independent prefix, there are not as many positions as
                prompts, or a delta does not fit the tower.
            CapabilityError: deep prompts, inserted tokens or deltas for a tower whose layers are another package's.
        """
        if prompts.deltas and not self.takes_deltas:
            raise CapabilityError(
                f"this text tower ({self.tower.kind}) takes no deltas: its layers are another package's",
                hint="use a method that prompts the input alone, or a text tower of open_clip's own",
            )
        if isinstance(prompts.position, tuple):
            return self._by_position(prompts, prompts.position, classes, chunk)
        with self._autocast():
            if prompts.scope != "image":
                return self.tower.encode(prompts, classes, chunk)
            # All prompts of all images side by side.
            n_images = len(prompts.ctx)
            deep, inserted = (
                {i: t if t.shape[-3] == 1 else torch.cat([t] * n_images, dim=-3) for i, t in layered.items()}
                for layered in (prompts.deep, prompts.inserted)
            )
            flat = replace(prompts, ctx=prompts.ctx.flatten(0, 1), scope="shared", deep=deep, inserted=inserted)
            return self.tower.encode(flat, classes, chunk).unflatten(0, prompts.ctx.shape[:2])

    def encode_inserted(self, prompts: TextPrompts, classes: ClassTokens) -> Tensor:
        """What comes out of the tower at inserted tokens, through its last norm and projection, not normalised.

        Args:
            prompts: with `inserted`; of scope "shared" or "class", with one class position.
            classes: from `class_tokens`.

        Returns:
            (P,K,R,d); (P,1,R,d) where no class changes them: in a causal tower they see what stands before them, and
            that is the start tokens and each other.

        Raises:
            InputError: there are none, or see `encode`.
            CapabilityError: the tower's layers are another package's, or the contexts depend on the image.
        """
        if not prompts.inserted:
            raise InputError("these prompts insert no tokens, so there are no outputs of any")
        if prompts.scope == "image" or isinstance(prompts.position, tuple):
            raise CapabilityError("outputs of inserted tokens are given for one class position, without the image")
        outputs = getattr(self.tower, "inserted", None)
        if outputs is None:
            raise CapabilityError(f"the text tower ({self.tower.kind}) gives no outputs of inserted tokens")
        with self._autocast():
            found_PKRd: Tensor = outputs(prompts, classes)
        return found_PKRd

    def _by_position(
        self,
        prompts: TextPrompts,
        positions: tuple[ClassPosition, ...],
        classes: ClassTokens,
        chunk: Chunking,
    ) -> Tensor:
        """Each position's prompts together, then all in their order."""
        if len(positions) != prompts.ctx.shape[-3]:
            raise InputError(f"{len(positions)} class positions for {prompts.ctx.shape[-3]} prompts")
        order, parts = [], []
        for key, position in enumerate(dict.fromkeys(positions)):
            rows = [p for p, own in enumerate(positions) if own == position]
            deep, inserted = (
                {
                    layer: t if t.shape[-3] == 1 else t.index_select(-3, ids_tensor(rows, self.device))
                    for layer, t in layered.items()
                }
                for layered in (prompts.deep, prompts.inserted)
            )
            ctx = prompts.ctx.index_select(-3, ids_tensor(rows, self.device))
            deltas = None if prompts.deltas is None else prompts.deltas.keyed(key)
            some = replace(prompts, ctx=ctx, deep=deep, inserted=inserted, position=position, deltas=deltas)
            parts.append(self.encode(some, classes, chunk=chunk))
            order += rows
        back = ids_tensor(sorted(range(len(order)), key=order.__getitem__), self.device)
        return torch.cat(parts, dim=-3).index_select(-3, back)
