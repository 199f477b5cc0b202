"""The options of DUAL-PT, with the points that the paper leaves open."""

from __future__ import annotations

import warnings
from typing import Literal

from pydantic import Field, model_validator

from vlmprompt.api import MethodConfig

Align = Literal["graph", "node", "edge", "attn"]
Distill = Literal["pair_mean", "match", "centroid", "index", "wd", "ce"]
EDGE_WEIGHTS = {"graph": 0.2, "node": 0.0, "edge": 1.0}
CLASS, PHRASE = "{class}", "{phrase}"


class DualPTConfig(MethodConfig):
    """Options of DUAL-PT and CoDUAL-PT."""

    n_prompts: int = Field(4, ge=1, description="prompts, shared by all classes; paper: 4")
    n_ctx: int = Field(16, ge=1, description="tokens of each; paper: 16 (it compares with CoOp at 64)")
    align: Align = Field(
        "graph",
        description="how positions are matched with prompts: by nodes and edges, by either alone, or by softmax "
        "attention over positions; paper: graph",
    )
    alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="weight of edges (0: nodes only, 1: edges only); null: 0.2 (paper) with graph, 0 with node, 1 with "
        "edge",
    )
    sinkhorn_lambda: float = Field(0.1, gt=0, description="entropy of the plans; paper: not stated, PLOT's 0.1")
    stop: Literal["marginal", "plot"] = Field(
        "marginal",
        description="Sinkhorn ends when each plan's own marginals are right, or by PLOT's mean over the batch; paper: "
        "not stated",
    )
    max_outer: int | None = Field(
        None, ge=1, description="most steps of Algorithm 1; null: 20, 100 for alpha > 0.5; paper: not stated"
    )
    max_inner: int | None = Field(
        None,
        ge=1,
        description="most Sinkhorn iterations a step; null: 200 (fp64: 2000), plot 100; paper: not stated",
    )
    tol_outer: float | None = Field(
        None, ge=0, description="change of a plan over its largest entry at which it rests; null: 5e-6 (fp64: 1e-12)"
    )
    tol_inner: float | None = Field(
        None, ge=0, description="error of a plan's row sums; null: 1e-6 (fp64: 1e-12), for plot 1e-2 of the scaling"
    )
    attn_temperature: float = Field(0.01, gt=0, description="of attn's softmax; paper: not stated")
    differentiable: bool = Field(
        False, description="gradients run through the plans; off: plans are constants (PLOT code; paper: not stated)"
    )
    context: Literal["none", "cam", "sim", "gpt"] = Field(
        "gpt",
        description="where context comes from: class descriptions, a class activation map as weights of positions, "
        "the positions most similar to the global feature, or nowhere; paper: gpt",
    )
    sim_keep: float = Field(0.5, gt=0, le=1, description="share of positions that context sim keeps; paper: 0.5")
    beta: float = Field(
        0.2,
        ge=0,
        le=1,
        description="weight of the distillation from descriptions, 1 - beta that of the images; paper: 0.2",
    )
    distill: Distill = Field(
        "pair_mean",
        description="distillation loss: mean over all pairs of prompts and phrases (the paper's cosine), over pairs "
        "matched anew each epoch, of the means, of equal ranks, Wasserstein distance (wd), or cross-entropy against "
        "the descriptions' own predictions (ce)",
    )
    description_template: str | None = Field(
        None,
        description=f"text around a phrase, such as '{CLASS}, which has {PHRASE}.'; null: the phrase as it is (paper)",
    )
    conditional: bool = Field(
        False,
        description="CoDUAL-PT: a small net adds a token made from the image to all prompt tokens; paper: base-to-new",
    )
    local_features: Literal["auto", "value_block", "tokens", "value_only"] = Field(
        "auto",
        description="local image features; auto: tokens for a ResNet (paper, PLOT code), value_block for a ViT (paper: "
        "not stated)",
    )
    add_global: bool = Field(
        False,
        description="add the cosine of the global feature to the mean prompt; PLOT code: for ImageNet; paper: silent",
    )

    @property
    def edge_weight(self) -> float:
        """alpha, given or implied; 0 for attn, which has no edges."""
        return EDGE_WEIGHTS.get(self.align, 0.0) if self.alpha is None else self.alpha

    @property
    def distils(self) -> bool:
        """Whether descriptions are read."""
        return self.context == "gpt" and self.beta > 0

    @model_validator(mode="after")
    def _alpha_goes_with_align(self) -> DualPTConfig:
        if self.align in ("node", "edge") and self.alpha not in (None, EDGE_WEIGHTS[self.align]):
            raise ValueError(
                f"align = {self.align} means alpha = {EDGE_WEIGHTS[self.align]:g}, not {self.alpha:g}; leave one out"
            )
        return self

    @model_validator(mode="after")
    def _template_holds_a_phrase(self) -> DualPTConfig:
        if self.description_template is not None and self.description_template.count(PHRASE) != 1:
            raise ValueError(f"description_template must hold exactly one {PHRASE}")
        return self

    def warn_of_idle_options(self) -> None:
        """Say which options that differ from their defaults do nothing beside the others."""
        changed = {
            name for name in type(self).model_fields if getattr(self, name) != type(self).model_fields[name].default
        }
        plans = {"sinkhorn_lambda", "stop", "max_outer", "max_inner", "tol_outer", "tol_inner", "alpha"}
        idle = {
            "with align = attn": plans if self.align == "attn" else set(),
            "without align = attn": {"attn_temperature"} if self.align != "attn" else set(),
            "without context = sim": {"sim_keep"} if self.context != "sim" else set(),
            f"with context = {self.context}": {"beta"} if self.context != "gpt" and self.beta > 0 else set(),
            "where no descriptions are read": {"distill", "description_template"} if not self.distils else set(),
        }
        for reason, names in idle.items():
            for name in sorted(names & changed):
                warnings.warn(f"option {name} of dual_pt has no effect {reason}", stacklevel=3)
        if self.n_prompts == 1 and self.align != "attn":
            warnings.warn("with n_prompts = 1 every plan is uniform: all positions count alike", stacklevel=3)
        elif self.n_prompts == 2 and self.edge_weight == 1:
            warnings.warn("with 2 prompts edges alone match nothing: every plan is uniform", stacklevel=3)
