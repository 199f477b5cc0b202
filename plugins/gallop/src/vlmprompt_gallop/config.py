"""The options of GalLoP: the released code's values, the paper's as a preset, and the ablations."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from vlmprompt.api import MethodConfig

Dropout = Literal["official", "bernoulli", "none"]
Rule = Literal["official", "paper"]
Scale = Annotated[int, Field(ge=1)]
N_LOCAL = 4
# k1 and dk of each rule: for a ViT, and for the fewer patches of a ResNet.
STEPS: Mapping[Rule, tuple[int, int]] = {"official": (5, 5), "paper": (10, 5)}


class GalLoPConfig(MethodConfig):
    """Options of GalLoP."""

    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "official": {},
        "paper": {"topk": "paper", "prompt_dropout": "bernoulli", "global_loss": "sum", "local_loss": "sum"},
    }

    template: str = Field(
        "A photo of a {}",
        description="words that every prompt starts as, before {}, which also set its length; paper and code: this",
    )
    n_global: int = Field(4, ge=1, description="global prompts m; paper and code: 4")
    n_local: int | None = Field(
        None, ge=1, description="local prompts n; null: as many as topk lists, else 4 (paper and code)"
    )
    topk: tuple[Scale, ...] | Scale | Rule | None = Field(
        "official",
        description="patches averaged by each local prompt, capped at all: a list, one number for all prompts, null "
        "(all patches, no sparsity), or a rule k1, k1 + dk, ...: official (code: 5, 10, 15, 20) or paper "
        "(10, 20, 30, 40; on a ResNet 5, 10, 15, 20)",
    )
    k1: int | None = Field(None, ge=1, description="patches of the first local prompt, where topk is a rule")
    dk: int | None = Field(None, ge=0, description="further patches of each next local prompt, where topk is a rule")
    allow_equal_scales: bool = Field(
        False, description="accept scales that differ but become equal as the tower has fewer patches; code: accepts"
    )
    prompt_dropout: Dropout = Field(
        "official",
        description="official: each image keeps max(m - int(r m), 1) prompts, drawn with replacement, and their mean "
        "cosine (code); bernoulli: each prompt is kept with 1 - r, sum of losses (paper, eq. 4); none: all prompts",
    )
    dropout_rate: float = Field(0.75, ge=0, le=1, description="r of prompt dropout; paper and code: 0.75")
    global_loss: Literal["mean", "sum"] = Field(
        "mean",
        description="without prompt dropout: of the mean cosine of the global prompts (code), or the sum of the "
        "prompts' own losses (paper, eq. 4)",
    )
    local_loss: Literal["mean", "sum"] = Field(
        "mean", description="over the local prompts' losses: mean (code) or sum (paper, eq. 5)"
    )
    learn_local_proj: bool = Field(True, description="linear map of local features, from the identity; paper: on")
    learn_global_prompts: bool = Field(True, description="off: the template's words stay")
    learn_local_prompts: bool = Field(True, description="off: the template's words stay")
    use_global: bool = Field(True, description="the global branch; off: local prompts alone")
    use_local: bool = Field(True, description="the local branch; off: global prompts alone")
    local_features: Literal["value_block", "tokens", "value_only"] = Field(
        "value_block", description="which local features of the image tower; code: value_block"
    )
    keep_underscores: bool = Field(
        False, description="leave underscores in class names (code, protocol gallop-code) instead of spaces (CoOp)"
    )

    @property
    def words(self) -> str:
        """The template's words, in front of the class name."""
        return self.template.removesuffix("{}").strip()

    @property
    def prompts(self) -> int:
        """n, settled."""
        if self.n_local is None:
            return len(self.topk) if isinstance(self.topk, tuple) and len(self.topk) > 1 else N_LOCAL
        return self.n_local

    def scales(self, n_patches: int, *, vit: bool) -> tuple[int, ...]:
        """k of each local prompt, as asked for, so possibly beyond the patches that there are.

        Args:
            n_patches: N, of the tower.
            vit: whether it is a ViT.
        """
        if self.topk is None:
            return (n_patches,) * self.prompts
        if isinstance(self.topk, int):
            return (self.topk,) * self.prompts
        if isinstance(self.topk, tuple):
            return self.topk if len(self.topk) > 1 else self.topk * self.prompts
        step = STEPS[self.topk][0 if vit else 1]
        first, further = self.k1 or step, step if self.dk is None else self.dk
        return tuple(first + j * further for j in range(self.prompts))

    @model_validator(mode="after")
    def _consistent(self) -> GalLoPConfig:
        if not self.template.endswith("{}") or self.template.count("{}") != 1 or not self.words:
            raise ValueError(f"template {self.template!r} must be words followed by {{}}, the class name's place")
        if not (self.use_global or self.use_local):
            raise ValueError("use_global and use_local are both off, so nothing is left")
        if isinstance(self.topk, tuple) and len(self.topk) not in (1, self.prompts):
            raise ValueError(f"topk lists {len(self.topk)} scales for {self.prompts} local prompts")
        return self

    def warn_of_idle_options(self) -> None:
        """Warn of options that do nothing with the others as they are."""
        named = isinstance(self.topk, str)
        of_local = ("n_local", "topk", "local_loss", "learn_local_proj", "learn_local_prompts", "local_features")
        of_global = ("n_global", "prompt_dropout", "learn_global_prompts")
        idle = {
            "k1": self.k1 is not None and not (named and self.use_local),
            "dk": self.dk is not None and not (named and self.use_local),
            "dropout_rate": self._changed("dropout_rate") and (self.prompt_dropout == "none" or not self.use_global),
            "global_loss": self.global_loss == "sum" and (self.prompt_dropout == "official" or not self.use_global),
            **{name: not self.use_local and self._changed(name) for name in of_local},
            **{name: not self.use_global and self._changed(name) for name in of_global},
        }
        for name in (name for name, is_idle in idle.items() if is_idle):
            warnings.warn(f"option {name} of gallop has no effect with the other options as they are", stacklevel=3)

    def _changed(self, name: str) -> bool:
        return bool(getattr(self, name) != type(self).model_fields[name].default)
