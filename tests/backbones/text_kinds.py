"""Small text towers of every kind, tokenizers made on the spot, and open_clip's own module as the plain way.

Shapes: Q texts, T positions, V context tokens, S slots of a deep prompt, D width.
"""

from __future__ import annotations

import string
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import open_clip
import torch
from torch import Tensor, nn

from vlmprompt.backbones.openclip.text import text_tower
from vlmprompt.backbones.openclip.tokens import words_of
from vlmprompt.backbones.text.engine import TextEngine

TINY_VISION = {"image_size": 32, "layers": 2, "width": 64, "patch_size": 16, "head_width": 32}
VOCABULARY = 1000  # of tokenizers made on the spot
FIRST_WORD = 200  # ids below are special tokens and context slots
SLOTS = 160  # placeholder ids of context tokens in plain texts: SLOTS + v


@dataclass
class SpotTokenizer:
    """One token a word (two for long words), framed as a downloaded tokenizer frames its texts.

    Calls look like those of open_clip's tokenizers: rows of ids, cut to the context length, the end kept.
    """

    context_length: int
    start: tuple[int, ...] = ()
    end: tuple[int, ...] = ()
    pad: int = 0
    final: tuple[int, ...] = ()
    clean: Callable[[str], str] = field(default=lambda text: " ".join(text.split()))

    def bare(self, text: str) -> list[int]:
        """Ids of the words alone."""
        parts = [part for word in self.clean(text).split() for part in (word[:6], word[6:]) if part]
        return [FIRST_WORD + zlib.crc32(part.encode()) % (VOCABULARY - FIRST_WORD) for part in parts]

    def __call__(self, texts: Sequence[str], context_length: int | None = None) -> Tensor:
        return torch.tensor([self.row(self.bare(text), context_length or self.context_length) for text in texts])

    def row(self, ids: Sequence[int], length: int) -> list[int]:
        """A framed row of ids."""
        kept = [*self.start, *ids[: length - len(self.start) - len(self.end) - len(self.final)], *self.end]
        return [*kept, *[self.pad] * (length - len(kept) - len(self.final)), *self.final]


def canonical(text: str) -> str:
    """SigLIP's cleaning: lower case, without punctuation."""
    return text.replace("_", " ").translate(str.maketrans("", "", string.punctuation)).lower()


def spot_tokenizer(text_cfg: Mapping[str, Any]) -> Any:
    """The tokenizer of an architecture: open_clip's BPE, or one like that which would be downloaded."""
    length = text_cfg.get("context_length", 77)
    name = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name") or ""
    if not name:
        return open_clip.SimpleTokenizer(context_length=length)
    if "SigLIP2" in name:
        return SpotTokenizer(length, end=(1,), pad=0, clean=canonical)
    if "SigLIP" in name:
        return SpotTokenizer(length, end=(1,), pad=1, clean=canonical)
    if "bert-base" in name and "xlm" not in name and "roberta" not in name:
        return SpotTokenizer(length, start=(101,), end=(0,), pad=0)  # separator stripped
    if "mt5" in name:
        return SpotTokenizer(length, end=(1,), pad=0, clean=canonical if text_cfg.get("tokenizer_kwargs") else str)
    if "nllb" in name:
        return SpotTokenizer(length, start=(150,), end=(2,), pad=1)
    return SpotTokenizer(length, start=(0,), end=(2,), pad=1)  # RoBERTa, XLM-R, XLM-V


def small_text_cfg(text_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Two narrow layers of the same kind."""
    small = {**text_cfg, "width": 64, "heads": 2, "layers": 2}
    if text_cfg.get("hf_tokenizer_name"):
        small["vocab_size"] = VOCABULARY
    return small


def small_model(config: Mapping[str, Any], **text: Any) -> nn.Module:
    """A model of open_clip's own class with the text tower of an architecture, small and stirred, and a tiny ViT.

    Args:
        text: changes of its text configuration.
    """
    text_cfg = small_text_cfg(config["text_cfg"]) | text
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        arguments = {"embed_dim": 48, "vision_cfg": TINY_VISION, "text_cfg": text_cfg}
        arguments["quick_gelu"] = bool(config.get("quick_gelu"))
        if "multimodal_cfg" in config:
            decoder = {"width": 64, "heads": 2, "layers": 1, "context_length": text_cfg.get("context_length", 77)}
            vision = {**TINY_VISION, "output_tokens": True}
            model = open_clip.coca_model.CoCa(**{**arguments, "vision_cfg": vision}, multimodal_cfg=decoder)
        elif config.get("custom_text"):
            model = open_clip.model.CustomTextCLIP(**arguments)
        else:
            model = open_clip.model.CLIP(**arguments)
        stir(getattr(model, "text", model))
    return model.eval().requires_grad_(False)


def stir(text: nn.Module) -> None:
    """Random weights that make every block and bias count; layer scales, where there are any, become 0.3."""
    for name, parameter in text.named_parameters():
        if name.startswith("visual."):
            continue
        if name.endswith("gamma"):
            parameter.data.fill_(0.3)
        else:
            parameter.data += 0.05 * torch.randn(parameter.shape)


class WithContext(nn.Module):
    """A token embedding that gives context vectors in place of placeholder ids.

    Args:
        ctx_QVD: of each text.
    """

    def __init__(self, table: nn.Module, ctx_QVD: Tensor) -> None:
        super().__init__()
        self.table, self.ctx_QVD = table, ctx_QVD

    def forward(self, ids_QT: Tensor) -> Tensor:
        slots = (ids_QT >= SLOTS) & (ids_QT < SLOTS + self.ctx_QVD.shape[1])
        rows, _ = slots.nonzero(as_tuple=True)
        return self.table(ids_QT).index_put(slots.nonzero(as_tuple=True), self.ctx_QVD[rows, ids_QT[slots] - SLOTS])


def plain(
    model: Any, ids_QT: Tensor, ctx_QVD: Tensor, deep: Mapping[int, Tensor] | None = None, first: int = 1
) -> Tensor:
    """open_clip's own text module on texts whose placeholder ids are context vectors: (Q,d).

    Args:
        deep: layer -> (Q,S,D), put in place of positions first..first+S-1 of that layer's input.
    """
    text = getattr(model, "text", model)
    table = text.token_embedding

    def hook(tokens_QSD: Tensor) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def put(block: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            stop = first + tokens_QSD.shape[1]
            x_QTD, *rest = inputs
            return torch.cat([x_QTD[:, :first], tokens_QSD, x_QTD[:, stop:]], dim=1), *rest

        return put

    handles = [
        text.transformer.resblocks[layer].register_forward_pre_hook(hook(tokens))
        for layer, tokens in (deep or {}).items()
    ]
    text.token_embedding = WithContext(table, ctx_QVD)
    try:
        features = text(ids_QT) if text is not model else model.encode_text(ids_QT)
    finally:
        text.token_embedding = table
        for handle in handles:
            handle.remove()
    return features[0] if isinstance(features, tuple) else features


class SmallText:
    """A small model of an architecture, its tokenizer, and the engine on its text tower.

    Args:
        changes: of its text configuration.
        tokenizer: in place of one like the architecture's.
    """

    def __init__(self, architecture: str, changes: Mapping[str, Any], tokenizer: SpotTokenizer | None = None) -> None:
        config = open_clip.get_model_config(architecture)
        switches = {name: changes[name] for name in ("use_pad_mask", "correct_cls_mask") if name in changes}
        self.model: Any = small_model(config, **{k: v for k, v in changes.items() if k not in switches})
        for switch, value in switches.items():
            setattr(self.model.text, switch, value)
        length = {key: value for key, value in changes.items() if key == "context_length"}
        self.tokenizer = tokenizer or spot_tokenizer(config["text_cfg"] | length)
        self.words = words_of(self.tokenizer)
        self.engine = TextEngine(text_tower(self.model, self.words, architecture))

    def encode_text(self, texts: list[str]) -> Tensor:
        text = getattr(self.model, "text", self.model)
        ids = self.tokenizer(texts)
        features = self.model.encode_text(ids) if text is self.model else text(ids)
        return features[0] if isinstance(features, tuple) else features

    def rows(self, names: list[str], n_ctx: int, position: str, words: str = "") -> Tensor:
        """Ids of texts with placeholders of the context, put together by hand: (K,T)."""
        at = {"end": n_ctx, "middle": n_ctx // 2, "front": 0}[position]
        slots = [SLOTS + v for v in range(n_ctx)]
        fixed = self.bare(words) if words else []
        rows = []
        for name in names:
            whole, n_own = self.bare(name.replace("_", " ") + "."), len(self.bare(name.replace("_", " ")))
            own, rest = whole[:n_own], whole[n_own:]  # a name's last signs may join the full stop
            rows.append(self.framed([*slots[:at], *fixed, *own, *slots[at:], *rest]))
        return torch.tensor(rows)

    def bare(self, text: str) -> list[int]:
        return self.tokenizer.bare(text) if isinstance(self.tokenizer, SpotTokenizer) else self.tokenizer.encode(text)

    def framed(self, ids: list[int]) -> list[int]:
        length = self.tokenizer.context_length
        if isinstance(self.tokenizer, SpotTokenizer):
            return self.tokenizer.row(ids, length)
        return [49406, *ids, 49407, *[0] * (length - len(ids) - 2)]
