"""Whether the text tower can read all that a method gives it, known before anything is computed."""

from __future__ import annotations

import copy
from contextlib import suppress

import torch

from vlmprompt.backbones.text.trial import TrialEngine
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.contract import PromptMethod


def require_texts_fit(method: PromptMethod) -> None:
    """Lay out the text of every class, and what training compares it with; no tower runs.

    Raises:
        InputError: one is too long for the tower; the message names the class, its tokens and the limit.
    """
    towers = copy.copy(method.backbone)
    towers.text = TrialEngine(towers.text.tower)
    trial = method.copied()
    trial.backbone = towers
    image_1d = torch.zeros(1, towers.vision.joint_dim, device=towers.device)
    with method.blamed():
        with torch.no_grad(), suppress(CapabilityError):  # of a method that has no text
            trial.encode_text(image_1d)
        if trial.descriptions is not None:
            trial.encode_descriptions()
