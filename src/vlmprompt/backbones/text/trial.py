"""A text engine for trial: it finds the text that is too long, without a tower at work."""

from __future__ import annotations

from torch import Tensor

from vlmprompt.backbones.text.engine import TextEngine
from vlmprompt.backbones.text.limit import require_fitting
from vlmprompt.backbones.text.tower import Chunking
from vlmprompt.backbones.types import ClassTokens, TextPrompts


class TrialEngine(TextEngine):
    """Encodes nothing: refuses what the tower could not read, and gives zeros for all else."""

    def encode(self, prompts: TextPrompts, classes: ClassTokens, *, chunk: Chunking = "auto") -> Tensor:
        """Zeros in the shape of `TextEngine.encode`.

        Raises:
            InputError: see `require_fitting`.
        """
        words, ctx = self.tower.words, prompts.ctx
        fixed = len(words.start) + len(words.final) + (len(words.ids(prompts.words)) if prompts.words else 0)
        own = [len(name) + len(tail) for name, tail in zip(classes.name_ids, classes.tail_ids, strict=True)]
        require_fitting(classes, [fixed + ctx.shape[-2] + length for length in own], self.context_length)
        lead = ctx.shape[:2] if prompts.scope == "image" else ctx.shape[-3:-2]
        return ctx.new_zeros(*lead, len(classes), self.joint_dim)
