"""Bloom: bilateral adaptive cross-modal fusion.

Shapes: J prompted layers, L prompt tokens a layer, S text slots (L, or 2L where "concat" feeds the text),
d_v and d_l widths of the image and text towers, d_m width of the bottlenecks.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from vlmprompt.api import (
    Backbone,
    Curves,
    ImageNeeds,
    LearnedTable,
    PromptMethod,
    TextPrompts,
    UsageError,
    VisualPrompts,
)
from vlmprompt_bloom.config import STD, TEMPLATE, BloomConfig
from vlmprompt_bloom.curves import gate_curves
from vlmprompt_bloom.fusion import GATED, Bottleneck, fuse, gumbel_noise, project
from vlmprompt_bloom.gates import gate_table

MOST_LAYERS = 12


class Bloom(PromptMethod):
    """Bilateral Adaptive Cross-Modal Fusion Prompt Learning for CLIP (submitted to ACM MM 2024).

    In each prompted layer, P_v (L,d_v) and P_l (L,d_l) are learned and cross over through bottlenecks:
    M_v = F(P_v, Proj_l2v(P_l)), M_l = F(P_l, Proj_v2l(P_v)) (eq. 9), with F a gate softmax(G) . (own, cross)
    (eq. 10) or one of its ablations. M_v replaces the last L image tokens before the layer, M_l the first
    tokens of the text; logits = s * cos(z, w_k), cross-entropy.

    Differs from the paper: eq. 12 appends M_l behind the text, where a causal tower read at its end token
    would never see it; it stands at the front, as in MaPLe. S <= 4 slots take the place of the first S words
    of "a photo of a", the others stay; with more slots there are no words. In layers before an interval the
    slots hold the (repeated) words' frozen embeddings. Further settled points are options.
    """

    capabilities = frozenset({"new_classes", "class_shard", "row_split"})
    requires = frozenset({"visual_prompts", "deep_text_prompts"})
    config: BloomConfig
    gate_v: nn.Parameter | None
    gate_l: nn.Parameter | None
    _frozen_slots: Tensor

    def __init__(
        self,
        backbone: Backbone,
        class_names: Sequence[str],
        config: BloomConfig,
        *,
        descriptions: Sequence[Sequence[str]] | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(backbone, class_names, config, descriptions=descriptions, generator=generator)
        self.layers = prompted_layers(config, backbone)
        _warn_of_idle_options(config, self.layers)
        self.into_text, self.into_image = config.direction != "l2v", config.direction != "v2l"
        d_v, d_l = backbone.vision.width, backbone.text.width
        words_WD = backbone.text.embed_words(TEMPLATE)
        self.add_parameter("visual_prompts", config.visual_std * self._normal(d_v))
        self.add_parameter("text_prompts", self._initial_text(words_WD))
        self.v2l = self._projections(d_v, d_l) if self.into_text else nn.ModuleList()
        self.l2v = self._projections(d_l, d_v) if self.into_image else nn.ModuleList()
        if config.fusion == "routing":  # noise chooses own or cross for each layer, which the other then has nothing of
            self.without_gradient = frozenset({"v2l.*", "l2v.*"})
        gated = config.fusion in GATED
        self.gate_v = self._gates() if gated and self.into_image else None
        self.gate_l = self._gates() if gated and self.into_text else None
        self._first_shares = self._shares()
        self.n_slots = config.n_ctx * (2 if config.fusion == "concat" and self.into_text else 1)
        frozen_SD = words_WD[torch.arange(self.n_slots) % len(words_WD)]
        self.register_buffer("_frozen_slots", frozen_SD, persistent=False)

    def image_needs(self) -> ImageNeeds:
        """Gradients reach the visual prompts through the image tower."""
        return ImageNeeds(grad=True)

    def sample_draws(self) -> Mapping[str, Tensor]:
        """Gumbel noise of a step, for routing: `gumbel_v`, `gumbel_l` (J,2) as far as they are used."""
        if self.config.fusion != "routing":
            return {}
        used = {"gumbel_v": self.into_image, "gumbel_l": self.into_text}
        return {name: gumbel_noise(len(self.layers), self.generator) for name in used if used[name]}

    def visual_prompts(self, *, draws: Mapping[str, Tensor] | None = None) -> VisualPrompts:
        """M_v of each prompted layer: (L, d_v), (2L, d_v) where concatenated."""
        fused_JLd: Tensor = self.parameter("visual_prompts")
        if self.into_image:
            cross_JLd = project(self.l2v, self.parameter("text_prompts"))
            fused_JLd = self._fuse(fused_JLd, cross_JLd, self.gate_v, (draws or {}).get("gumbel_v"))
        return VisualPrompts(
            dict(zip(self.layers, fused_JLd, strict=True)),
            after_ln_pre=self.config.after_ln_pre,
            drop_after=self.config.drop_after,
        )

    def text_prompts(
        self, global_Bd: Tensor | None = None, *, draws: Mapping[str, Tensor] | None = None
    ) -> TextPrompts:
        """M_l of each prompted layer: (1, S, d_l)."""
        fused_JSD: Tensor = self.parameter("text_prompts")
        if self.into_text:
            cross_JLD = project(self.v2l, self.parameter("visual_prompts"))
            fused_JSD = self._fuse(fused_JSD, cross_JLD, self.gate_l, (draws or {}).get("gumbel_l"))
        deep = {layer: fused_SD[None] for layer, fused_SD in zip(self.layers, fused_JSD, strict=True)}
        ctx_1SD = deep.pop(0, self._frozen_slots[None])
        return TextPrompts(ctx_1SD, deep=deep, words=" ".join(TEMPLATE.split()[self.n_slots :]))

    def diagnostics(self) -> Mapping[str, float]:
        """The cross share softmax(G)[1] of every gate by tower and layer (from 1), as in the paper's Fig. 6.

        The own share is the rest of 1. Of each tower also `spread`, the largest share minus the smallest over its
        layers, and `change`, the largest distance of a share from what it was before training.
        """
        found: dict[str, float] = {}
        for gate, shares_J in self._shares().items():
            shares = shares_J.tolist()
            found |= {f"{gate}.{layer + 1}.cross": share for layer, share in zip(self.layers, shares, strict=True)}
            found[f"{gate}.spread"] = max(shares) - min(shares)
            found[f"{gate}.change"] = float((shares_J - self._first_shares[gate]).abs().max())
        return found

    def observe_gradients(self) -> Mapping[str, Tensor]:
        """Norms of the loss's gradients in gates and prompts, and for each tower with gates their ratio.

        `gate_v.ratio` = |dL/dG_v| / |dL/dP_v| over all layers together; nothing where there are no gates.
        """
        found: dict[str, Tensor] = {}
        for gate, (gates_J2, prompts) in self._gated().items():
            found[gate] = _gradient_norm(gates_J2)
            found[prompts] = _gradient_norm(self.parameter(prompts))
            found[f"{gate}.ratio"] = found[gate] / found[prompts]
        return found

    @classmethod
    def curves(cls, names: Collection[str]) -> Sequence[Curves]:
        """The gates of both towers over the epochs, how far they move, and their gradients against the prompts'."""
        return gate_curves(names)

    def learned_tables(self) -> Sequence[LearnedTable]:
        """The gates of both towers, layer by layer; nothing where there are none."""
        shares = {gate: shares_J.tolist() for gate, shares_J in self._shares().items()}
        return [gate_table(self.layers, shares, routed=self.config.fusion == "routing")] if shares else []

    def _gated(self) -> dict[str, tuple[nn.Parameter, str]]:
        """The gates that there are, each with the name of its own tower's prompts."""
        pairs = {"gate_v": (self.gate_v, "visual_prompts"), "gate_l": (self.gate_l, "text_prompts")}
        return {name: (gates_J2, prompts) for name, (gates_J2, prompts) in pairs.items() if gates_J2 is not None}

    def _shares(self) -> dict[str, Tensor]:
        """softmax(G)[1] of each layer (J), for each tower with gates."""
        return {name: g_J2.detach().softmax(dim=-1)[:, 1].double().cpu() for name, (g_J2, _) in self._gated().items()}

    def _fuse(self, own: Tensor, cross: Tensor, gates_J2: Tensor | None, noise_J2: Tensor | None) -> Tensor:
        c = self.config
        return fuse(c.fusion, own, cross, gates_J2=gates_J2, noise_J2=noise_J2, temperature=c.temperature)

    def _normal(self, width: int) -> Tensor:
        return torch.randn(len(self.layers), self.config.n_ctx, width, generator=self.generator)

    def _initial_text(self, words_WD: Tensor) -> Tensor:
        """Gaussian, but as many as there are of the template's words in the first layer of the tower."""
        text_JLD = STD * self._normal(words_WD.shape[-1])
        for prompts_LD, layer in zip(text_JLD, self.layers, strict=True):
            if layer == 0 or self.config.template_all:
                prompts_LD[: len(words_WD)] = words_WD[: self.config.n_ctx]
        return text_JLD

    def _projections(self, d_in: int, d_out: int) -> nn.ModuleList:
        c = self.config
        return nn.ModuleList(Bottleneck(d_in, c.d_m, d_out, bias=c.bias, generator=self.generator) for _ in self.layers)

    def _gates(self) -> nn.Parameter:
        shape = (len(self.layers), 2)
        uniform = self.config.gate_init == "uniform"
        return nn.Parameter(torch.rand(shape, generator=self.generator) if uniform else torch.zeros(shape))


def _gradient_norm(parameter: nn.Parameter) -> Tensor:
    """Euclidean; 0 where no gradient has come."""
    return torch.zeros((), device=parameter.device) if parameter.grad is None else parameter.grad.norm()


def prompted_layers(config: BloomConfig, backbone: Backbone) -> range:
    """The layers with prompts, counted from 0.

    Raises:
        UsageError: a tower has fewer layers than asked for.
    """
    most = min(backbone.text.layers, backbone.vision.layers)
    first, stop = config.interval or (1, 1 + (config.depth or min(MOST_LAYERS, most)))
    if stop - 1 > most:
        raise UsageError(
            f"bloom is to prompt layers {first} to {stop - 1}, but backbone {backbone.spec!r} has "
            f"{backbone.text.layers} text and {backbone.vision.layers} image layers",
            hint=f"use depth <= {most}, or an interval that ends at {most + 1} or before",
        )
    return range(first - 1, stop - 1)


def _warn_of_idle_options(config: BloomConfig, layers: range) -> None:
    idle = {
        "temperature": config.temperature != 1.0 and config.fusion != "routing",
        "gate_init": config.gate_init != "zeros" and config.fusion not in GATED,
        "after_ln_pre": config.after_ln_pre and layers.start > 0,
    }
    for option in (name for name, is_idle in idle.items() if is_idle):
        warnings.warn(f"option {option} of bloom has no effect with the other options as they are", stacklevel=3)
