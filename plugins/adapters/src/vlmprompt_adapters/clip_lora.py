"""CLIP-LoRA: low-rank updates of the attention of both towers.

Shapes: K classes, r rank, in and out of a linear map.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    ClassTokens,
    ForeignState,
    ImageNeeds,
    InputError,
    LowRank,
    MethodConfig,
    PromptMethod,
    TextFeatures,
    TextPrompts,
    TowerDeltas,
    UsageError,
    VisualPrompts,
    class_text,
)
from vlmprompt_adapters.config.clip_lora import CLIPLoRAConfig, Position
from vlmprompt_adapters.scale import SCALE

CODE = "CLIP-LoRA's code"
_TOWERS = {"both": ("text", "visual"), "text": ("text",), "vision": ("visual",)}
_SAVED = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "proj"}
_TEXT_BLOCKS = 12  # of every CLIP that the code trains
_DEPTHS = (12, 24)  # of the image towers


class CLIPLoRA(PromptMethod):
    """Low-Rank Few-Shot Adaptation of Vision-Language Models (Zanella and Ben Ayed, CVPR Workshops 2024).

    In the chosen blocks of both towers, the chosen maps of attention (queries, keys, values, output) give
    W x + b + gamma B A drop(x) in place of W x + b, with gamma = alpha / sqrt(r). The classes are written in one
    template, logits = 100 cos(z, w_k), cross-entropy. Learned are `<text or visual>.<block>.<q, k, v or o>.A` (r,in),
    which starts as a linear layer's weight does, and `.B` (out,r), which starts at 0.

    Same as the official code with its dropout, but for three points. Without dropout it runs other code, whose
    gradients are wrong before the last updated map; here they are right. A token that several classes share is dropped
    once for all of them. Blocks are shares of a tower's own depth. All stays in fp32.
    """

    capabilities = frozenset({"new_classes", "class_shard", "row_split"})
    config: CLIPLoRAConfig
    plain_text_Kd: Tensor

    @classmethod
    def required(cls, config: MethodConfig) -> frozenset[str]:
        """Only of the towers that are updated."""
        assert isinstance(config, CLIPLoRAConfig)
        needs = {"text": "text_deltas", "visual": "image_deltas"}
        return frozenset(needs[tower] for tower in _TOWERS[config.encoder])

    @property
    def scale(self) -> float:
        """The official code's number, whatever the towers' own scale is."""
        return SCALE

    def create(self) -> None:
        """A pair of matrices for every map, text first."""
        c, towers = self.config, _TOWERS[self.config.encoder]
        text, vision = self.backbone.text, self.backbone.vision
        self.gamma = c.alpha / (c.r**0.5 if c.scaling == "sqrt" else c.r)
        if "text" in towers:
            self.text = self._pairs("text", text.layers, text.width)
        if "visual" in towers:
            self.visual = self._pairs("image", vision.layers, vision.width)
        else:
            self.capabilities = self.capabilities | {"feature_cache"}
        if c.dropout:  # one mask for all images of a batch, and one for all classes
            self.capabilities = self.capabilities - {"row_split", "class_shard"}
        self.renew(None)

    def class_tokens(self, names: Sequence[str]) -> ClassTokens:
        """Class names with what follows them in the template; whole texts where nothing ends before the name."""
        engine, keep = self.backbone.text, self.config.keep_underscores
        before, after = self._template.split("{}")
        if not before or before[-1].isspace():
            return engine.class_tokens(names, tail=after, keep_underscores=keep)
        written = [self._template.replace("{}", name if keep else name.replace("_", " ")) for name in names]
        return replace(engine.class_tokens(written, tail="", keep_underscores=True), names=tuple(names))

    def image_needs(self) -> ImageNeeds:
        """Gradients flow through the image tower where it is updated."""
        return ImageNeeds(grad=hasattr(self, "visual"))

    def encode_text(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextFeatures:
        """The features of the text; where its tower stays as it is, they are computed once."""
        if hasattr(self, "text"):
            return super().encode_text(global_Bd, draws=draws)
        return TextFeatures(self.plain_text_Kd[None])

    def renew(self, template: str | None) -> None:
        """Text features that nothing changes any more are those of these classes."""
        if not hasattr(self, "text"):
            keep = self.config.keep_underscores
            text_Kd = class_text(self.backbone.text, self._template, self.class_names, keep_underscores=keep)
            self.register_buffer("plain_text_Kd", text_Kd, persistent=False)

    def sample_draws(self) -> Mapping[str, Tensor]:
        """A seed for the dropout of each tower."""
        if not self.config.dropout:
            return {}
        seeds = torch.randint(2**62, (2,), generator=self.generator)
        return {"text_dropout": seeds[0], "visual_dropout": seeds[1]}

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """The template's words, no learned token, and the text tower's deltas."""
        before, _ = self._template.split("{}")
        words = before.strip() if before[-1:].isspace() else ""
        return replace(self.backbone.text.no_context(), words=words, deltas=self._deltas("text", draws))

    def visual_prompts(self, *, draws: Mapping[str, Tensor] | None = None) -> VisualPrompts:
        """The image tower's deltas, no token."""
        return VisualPrompts(deltas=self._deltas("visual", draws))

    @classmethod
    def foreign_state(cls, content: Mapping[str, Any]) -> ForeignState:
        """What the official code saves: matrices of one attention after the other, and the options of the run.

        Which blocks they are of follows from its option `position`.
        """
        layers, said = _layers(content)
        n_text = {"both": len(_blocks(said["position"], _TEXT_BLOCKS)), "text": len(layers), "vision": 0}
        parts = [part for part in _SAVED if part in said["params"]]
        state: dict[str, Tensor] = {}
        for tower, own in (("text", layers[: n_text[said["encoder"]]]), ("visual", layers[n_text[said["encoder"]] :])):
            if own:
                state |= _tower_state(tower, own, parts, said["position"])
        options = {name: said[name] for name in ("r", "alpha", "encoder", "position")}
        return ForeignState(CODE, state, options={**options, "params": tuple(parts)})

    @property
    def _template(self) -> str:
        return str(self.config.template or self.template)

    def _pairs(self, tower: str, layers: int, width: int) -> nn.ModuleDict:
        """A and B of each map of the chosen blocks; all maps of attention are square."""
        blocks = _chosen(tower, self.config.position, layers)
        return nn.ModuleDict(
            {str(i): nn.ModuleDict({p: self._pair(width) for p in self.config.params}) for i in blocks}
        )

    def _pair(self, width: int) -> nn.ParameterDict:
        start = 2 * torch.rand(self.config.r, width, generator=self.generator) - 1
        return nn.ParameterDict({"A": start / width**0.5, "B": torch.zeros(width, self.config.r)})

    def _deltas(self, tower: str, draws: Mapping[str, Tensor] | None) -> TowerDeltas | None:
        blocks: Any = getattr(self, tower, None)
        if blocks is None:
            return None
        deltas = {
            int(i): {p: LowRank(pair["A"], pair["B"], self.gamma, self.config.dropout) for p, pair in own.items()}
            for i, own in blocks.items()
        }
        return TowerDeltas(deltas, seed=(draws or {}).get(f"{tower}_dropout"))


def _chosen(tower: str, position: str | Sequence[int], layers: int) -> Sequence[int]:
    """The blocks of a position in a tower.

    Raises:
        UsageError: it has too few.
    """
    blocks = _blocks(position, layers) if isinstance(position, str) else sorted(position)
    if not blocks or not 0 <= min(blocks) <= max(blocks) < layers:
        raise UsageError(
            f"position = {position} names no blocks of the {tower} tower, which has {layers}",
            hint="position = all always fits",
        )
    return blocks


def _blocks(position: str, layers: int) -> Sequence[int]:
    """Blocks by name: of 12, bottom is 0 to 3, mid 4 to 7, up 8 to 11, half-bottom 0 to 5, half-up 6 to 11.

    In a tower of less than five blocks, up is the last two.
    """
    third, thirds, half = round(layers / 3), round(2 * layers / 3), layers // 2
    return {
        "all": range(layers),
        "bottom": range(third),
        "mid": range(third, thirds),
        "up": range(min(thirds, max(layers - 2, 0)), layers),
        "half-bottom": range(half),
        "half-up": range(half, layers),
        "top3": range(layers - 3, layers),
    }[position]


def _layers(content: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[str, Any]]:
    """The matrices of each attention, and what the run was told."""
    weights, said = content.get("weights"), content.get("metadata")
    if not isinstance(weights, Mapping) or not isinstance(said, Mapping):
        raise InputError(
            f"a checkpoint of {CODE} has weights and metadata, this one has {', '.join(map(str, content))}"
        )
    if missing := [name for name in ("r", "alpha", "encoder", "params", "position") if name not in said]:
        raise InputError(f"the checkpoint does not say {', '.join(missing)}, which {CODE} saves")
    if said["encoder"] not in _TOWERS or said["position"] not in get_args(Position):
        raise InputError(f"{CODE} has no encoder {said['encoder']!r} with position {said['position']!r}")
    names = [f"layer_{i}" for i in range(len(weights))]
    if set(names) != set(weights):
        raise InputError(f"{CODE} counts its layers from layer_0; the checkpoint has {', '.join(map(str, weights))}")
    return [weights[name] for name in names], said


def _tower_state(
    tower: str, layers: Sequence[Mapping[str, Any]], parts: Sequence[str], position: str
) -> Mapping[str, Tensor]:
    """A tower's tensors under this method's names."""
    depth = next((n for n in _DEPTHS if len(_blocks(position, n)) == len(layers)), None)
    if depth is None:
        raise InputError(
            f"the checkpoint has {len(layers)} attentions of the {tower} tower, which is not {position} of "
            f"{' or '.join(map(str, _DEPTHS))} blocks"
        )
    state = {}
    for block, layer in zip(_blocks(position, depth), layers, strict=True):
        for part in parts:
            for side in "AB":
                tensor = layer.get(_SAVED[part], {}).get(f"w_lora_{side}")
                if not isinstance(tensor, Tensor):
                    raise InputError(f"the checkpoint lacks {_SAVED[part]}.w_lora_{side} of a layer")
                state[f"{tower}.{block}.{part}.{side}"] = tensor.float()
    return state
