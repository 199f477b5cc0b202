"""The options of the baselines, with the points in which papers and codes differ; nothing heavy is imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from vlmprompt.api import ContextConfig, CoOpConfig, Field, MethodConfig, TextTemplate

PHOTO = "a photo of a {}."
CTX_INIT = (
    "words at the start of the text: their first n_ctx tokens are the initial prompts of the first layer, the "
    "others stay fixed; none, or fewer tokens than n_ctx: N(0, 0.02^2) and no words; code: a photo of a"
)


class CoCoOpConfig(ContextConfig):
    """Options of CoCoOp."""

    n_ctx: int = Field(4, ge=1, description="context tokens; paper: 4. With ctx_init, its words count")
    ctx_init: str | None = Field(
        "a photo of a",
        description="words whose embeddings are the initial context (paper); none: N(0, 0.02^2)",
    )


class KgCoOpConfig(ContextConfig):
    """Options of KgCoOp."""

    n_ctx: int = Field(4, ge=1, description="context tokens; code: 4. With ctx_init, its words count")
    ctx_init: str | None = Field(
        "a photo of a",
        description="words whose embeddings are the initial context (code); none: N(0, 0.02^2)",
    )
    weight: float = Field(8.0, ge=0, description="of the distance to the hand-written text; code: 8")
    template_option: ClassVar[str | None] = "teacher_template"
    teacher_template: TextTemplate = Field(
        PHOTO,
        description="hand-written text with one {} for the class name, or a list of them, averaged as CLIP does; "
        "code: each data set's own, which the shipped overrides set. Set by --templates FILE",
    )


class LoCoOpConfig(CoOpConfig):
    """Options of LoCoOp."""

    top_k: int | None = Field(
        None,
        ge=1,
        description="a position whose true class is not among so many most likely ones counts as background; "
        "paper: 200 of ImageNet's 1000 classes; none: a fifth of the classes, at least one",
    )
    loc_weight: float = Field(0.25, ge=0, description="of the entropy term; paper: 0.25")


class PLOTConfig(MethodConfig):
    """Options of PLOT."""

    n_prompts: int = Field(4, ge=1, description="contexts; paper: 4")
    n_ctx: int = Field(16, ge=1, description="context tokens of each; paper: 16")
    sinkhorn_lambda: float = Field(0.1, gt=0, description="strength of the plan's entropy term; paper: 0.1")
    max_iter: int = Field(100, ge=1, description="most Sinkhorn iterations; paper: 100")
    tol: float = Field(
        0.01, ge=0, description="iterations end when the scaling changes by less than this in the mean; code: 0.01"
    )
    add_global: bool = Field(
        False, description="add the logit of the global feature; code: on for ImageNet, which the shipped override sets"
    )
    local_features: Literal["auto", "tokens", "value_block"] = Field(
        "auto",
        description="tokens: outputs of the last layer or attention pool; value_block: without attention; "
        "auto: tokens for a ResNet (code), value_block for a ViT, of which the code knows none",
    )


class ProDAConfig(MethodConfig):
    """Options of ProDA."""

    n_ctx: int = Field(16, ge=1, description="context tokens of a prompt; code: 16")
    n_prompts: int = Field(32, ge=1, description="prompts, 1 or a multiple of 4; code: 32")
    prompt_batch: int = Field(4, ge=1, description="prompts of a training step; code: 4")
    orth_weight: float = Field(0.1, ge=0, description="of the likeness between prompts; code: 0.1")

    @model_validator(mode="after")
    def _divisible(self) -> ProDAConfig:
        if self.n_prompts > 1 and self.n_prompts % 4:
            raise ValueError(f"n_prompts = {self.n_prompts} is neither 1 nor a multiple of 4")
        if self.n_prompts % min(self.prompt_batch, self.n_prompts):
            raise ValueError(f"prompt_batch = {self.prompt_batch} does not divide n_prompts = {self.n_prompts}")
        return self


class VPTConfig(MethodConfig):
    """Options of VPT."""

    n_ctx: int = Field(8, ge=1, description="prompt tokens a layer; code: 8")
    depth: int | None = Field(
        None, ge=1, description="layers with prompts, from the first; none: all (VPT-deep, code); 1: VPT-shallow"
    )
    template_option: ClassVar[str | None] = "template"
    template: TextTemplate = Field(
        PHOTO,
        description="text with one {} for the class name, or a list of them, averaged as CLIP does; code: a photo of a "
        "{}., for every data set. Set by --templates FILE",
    )
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"deep": {}, "shallow": {"depth": 1}}


class IVLPConfig(MethodConfig):
    """Options of IVLP."""

    n_ctx_text: int = Field(2, ge=1, description="prompt tokens a layer of the text tower; code: 2")
    n_ctx_vision: int = Field(2, ge=1, description="prompt tokens a layer of the image tower; code: 2")
    depth_text: int | None = Field(
        None, ge=1, description="text layers with prompts, from the first; none: 12 (code), or all of a shallower tower"
    )
    depth_vision: int | None = Field(
        None,
        ge=0,
        description="image layers with prompts, from the first; none: 12 (code), or all of a shallower tower; "
        "0: none, prompts in the text alone",
    )
    ctx_init: str | None = Field("a photo of a", description=CTX_INIT)


class PromptSRCConfig(IVLPConfig):
    """Options of PromptSRC."""

    n_ctx_text: int = Field(4, ge=1, description="prompt tokens a layer of the text tower; paper: 4")
    n_ctx_vision: int = Field(4, ge=1, description="prompt tokens a layer of the image tower; paper: 4")
    depth_text: int | None = Field(
        None,
        ge=1,
        description="text layers with prompts, from the first; none: 9 (paper), or all of a shallower tower; "
        "paper, cross-dataset: 3",
    )
    depth_vision: int | None = Field(
        None,
        ge=1,
        description="image layers with prompts, from the first; none: 9 (paper), or all of a shallower tower; "
        "paper, cross-dataset: 3",
    )
    template_option: ClassVar[str | None] = "teacher_templates"
    teacher_templates: TextTemplate | None = Field(
        None,
        description="hand-written texts with one {} each that the prompts are held near; none: the 60 of the code. Set "
        "by --templates FILE",
    )
    text_weight: float = Field(25.0, ge=0, description="of the distance to CLIP's text features; paper: 25")
    image_weight: float = Field(10.0, ge=0, description="of the distance to CLIP's image features; paper: 10")
    gpa_mean: float = Field(15.0, description="epoch (from 1) that counts most in the average; code: 15 of 20")
    gpa_std: float = Field(1.0, gt=0, description="epochs that the average spans, as a deviation; code: 1")


class MaPLeConfig(MethodConfig):
    """Options of MaPLe."""

    n_ctx: int = Field(2, ge=1, description="prompt tokens a layer and tower; paper: 2")
    ctx_init: str | None = Field("a photo of a", description=CTX_INIT)
    depth: int | None = Field(
        None,
        ge=1,
        description="layers with prompts, from the first; none: 9 (paper), or all of a shallower tower; "
        "paper, cross-dataset: 3",
    )
