"""The text tower of every architecture that open_clip lists, built small, against open_clip's own module.

Prints one line for each: what kind it is, how far values and gradients are from the plain way, or why it is refused.
Ends with the counts; exit code 1 where one is off. Architectures with an encoder of Hugging Face have their
configuration on a hub: their kinds are tried with small encoders made on the spot, in test_text_hf.py.
"""

from __future__ import annotations

import sys

import open_clip
import torch
from torch import Tensor

from tests.backbones.text_kinds import SmallText, plain
from vlmprompt.backbones.types import TextPrompts
from vlmprompt.errors import VlmPromptError

NAMES = ["horse", "red_panda", "2007 Chevrolet Silverado"]
TEXTS = ["a photo of a Cat.", "two dogs"]
TOLERANCE = 1e-5


def main() -> int:
    """Try all."""
    served, refused, off = [], [], []
    for architecture in sorted(open_clip.list_models()):
        if open_clip.get_model_config(architecture)["text_cfg"].get("hf_model_name"):
            refused.append(architecture)
            print(f"{architecture:40} not built: its text encoder's configuration is on a hub")
            continue
        try:
            text = SmallText(architecture, {})
        except VlmPromptError as error:
            refused.append(architecture)
            print(f"{architecture:40} refused: {error}")
            continue
        values, gradients = distances(text)
        (served if values <= TOLERANCE and gradients <= TOLERANCE else off).append(architecture)  # NaN is off
        print(f"{architecture:40} {text.engine.tower.kind}: values {values:.1e}, gradients {gradients:.1e}", flush=True)
    print(f"{len(served)} served, {len(refused)} refused or not built, {len(off)} off by more than {TOLERANCE}: {off}")
    return 1 if off else 0


def distances(text: SmallText) -> tuple[float, float]:
    """Largest relative errors of sentences and contexts, and of the contexts' gradients."""
    engine, width = text.engine, text.engine.width
    ctx_PVD = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(0)).requires_grad_()
    ours = engine.encode(TextPrompts(ctx_PVD), engine.class_tokens(NAMES))
    ids = text.rows(NAMES, 3, "end").repeat(2, 1)
    reference = plain(text.model, ids, ctx_PVD.repeat_interleave(len(NAMES), dim=0)).reshape(ours.shape)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1))
    gradients = [torch.autograd.grad((out * weights).sum(), ctx_PVD)[0] for out in (ours, reference)]
    with torch.no_grad():
        sentences = apart(engine.encode_sentences(TEXTS), text.encode_text(TEXTS))
    return max(sentences, apart(ours, reference)), apart(*gradients)


def apart(ours: Tensor, reference: Tensor) -> float:
    """Largest error relative to the largest reference value."""
    return float(((ours - reference).abs().max() / reference.abs().max()).detach())


if __name__ == "__main__":
    sys.exit(main())
