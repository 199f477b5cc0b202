"""What a table of tensors is, told by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import Tensor

# What other code keeps a model's tensors under, beside the optimiser and the epoch.
_KEPT_UNDER = ("state_dict", "model_state_dict", "model_state", "model", "module", "net")
# What wraps a model in other code, each with all tensors below it.
_WRAPPERS = ("module.", "_orig_mod.", "clip_model.", "base_model.model.", "model.", "clip.", "net.")


class Layout(Enum):
    """Whose names the tensors of a whole CLIP-like model bear."""

    OPEN_CLIP = "open_clip's CLIP"
    HF_CLIP = "a Hugging Face CLIPModel"
    HF_SIGLIP = "a Hugging Face SiglipModel"
    APPLE = "Apple's MobileCLIP"


@dataclass(frozen=True)
class _Sign:
    """What tensors' names betray.

    Attributes:
        kind: in words.
        names: patterns that a name must match from its beginning, each by one tensor at least.
        hint: what to do, where that can be said.
    """

    kind: str
    names: tuple[str, ...]
    hint: str | None = None


_LAYOUTS: tuple[tuple[Layout, tuple[str, ...]], ...] = (
    (Layout.HF_SIGLIP, (r"text_model\.", r"vision_model\.head\.")),
    (Layout.HF_CLIP, (r"text_model\.", r"vision_model\.", r"visual_projection\.")),
    (Layout.APPLE, (r"image_encoder\.model\.", r"text_encoder\.")),
    (Layout.OPEN_CLIP, (r"visual\.", r"(text\.|token_embedding\.)")),
)
# Parts that may bear a whole model's names beside their own, so they are looked for first.
_PARTS = (
    _Sign(
        "an adapter (LoRA, as PEFT writes it), not a whole model",
        (r".*(lora_[AB]|lora_down|lora_up|lora_embedding_[AB]|lora_magnitude|hada_w1|ia3_l)",),
        "merge it into its model first (merge_and_unload of PEFT, then save_pretrained), and name that file",
    ),
    _Sign(
        "the state of a prompt-learning method (CoOp's code or one like it), not of a backbone",
        (r"(.*\.)?prompt_learner\.",),
        "'vlmprompt import' reads such checkpoints",
    ),
    _Sign("the state of an optimiser", (r"optimizer/",), "that is a checkpoint of a run; name the backbone's own file"),
)
_OTHERS = (
    _Sign("a generator of images (Stable Diffusion or its kind)", (r"(model\.diffusion_model|down_blocks|unet)\.",)),
    _Sign("BLIP or one of its kind, which open_clip has no architecture for", (r"visual_encoder\.", r"text_encoder\.")),
    _Sign("BLIP-2 or one of its kind, which open_clip has no architecture for", (r".*qformer\.",)),
    _Sign("OWL-ViT, a detector", (r"owlvit\.",)),
    _Sign("the text encoder of a CLIP without its image tower", (r"text_model\.",)),
    _Sign("the image tower of a CLIP without its text encoder", (r"vision_model\.",)),
    _Sign("the image tower of a CLIP without its text tower", (r"visual\.",)),
    _Sign("the text tower of a CLIP without its image tower", (r"(text\.)?token_embedding\.", r".*resblocks\.")),
    _Sign("a language model (BERT or its kind)", (r"(\w+\.)?embeddings\.word_embeddings\.",)),
    _Sign("a language model (T5 or its kind)", (r"(encoder\.|decoder\.)block\.0\.layer\.",)),
    _Sign("a large language model", (r"(model\.)?(language_model\.)?(model\.)?layers\.0\.self_attn\.",)),
    _Sign("a ConvNeXt for images alone", (r"stages\.0\.",)),
    _Sign("a ViT for images alone", (r"(trunk\.|vit\.|backbone\.)?(patch_embed\.|embeddings\.patch_embeddings\.)",)),
    _Sign("a ResNet for images alone", (r"layer1\.0\.conv1\.",)),
)


class NotAModelError(Exception):
    """Tensors are not those of a whole CLIP-like model.

    Args:
        kind: what they are, in words.
        hint: what to do.
    """

    def __init__(self, kind: str, hint: str | None = None) -> None:
        super().__init__(kind)
        self.kind = kind
        self.hint = hint


def model_tensors(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of a model out of what training code saves: without optimiser, epoch and wrappers' prefixes.

    Raises:
        NotAModelError: there are none, or those of more than one model.
    """
    table: Mapping[str, Any] = content
    while len(kept := [key for key in _KEPT_UNDER if isinstance(table.get(key), Mapping)]) == 1:
        table = table[kept[0]]
    tensors = {str(name): value for name, value in table.items() if isinstance(value, Tensor)}
    if not tensors:
        raise NotAModelError(f"a table without tensors of a model (it holds {_some(map(str, table))})")
    while wrapper := next((w for w in _WRAPPERS if all(name.startswith(w) for name in tensors)), None):
        tensors = {name.removeprefix(wrapper): tensor for name, tensor in tensors.items()}
    return tensors


def layout_of(names: Iterable[str]) -> Layout:
    """Whose names the tensors of a CLIP-like model bear.

    Raises:
        NotAModelError: they are of something else; says of what.
    """
    known = list(names)
    _refuse(_PARTS, known)
    for layout, patterns in _LAYOUTS:
        if _shows(patterns, known):
            return layout
    _refuse(_OTHERS, known)
    raise NotAModelError(f"a model of a kind unknown here (its tensors are called {_some(known)})")


def _refuse(signs: Iterable[_Sign], names: Sequence[str]) -> None:
    for sign in signs:
        if _shows(sign.names, names):
            raise NotAModelError(sign.kind, sign.hint)


def _shows(patterns: Sequence[str], names: Sequence[str]) -> bool:
    return all(any(re.match(pattern, name) for name in names) for pattern in patterns)


def _some(names: Iterable[str]) -> str:
    known = list(names)
    return ", ".join(name[:60] for name in known[:3]) + (", ..." if len(known) > 3 else "") if known else "nothing"
