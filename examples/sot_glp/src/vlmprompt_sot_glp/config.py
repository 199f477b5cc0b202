"""The options of SOT-GLP; no torch is needed to check them."""

from __future__ import annotations

from typing import Literal

from vlmprompt.api import Field, MethodConfig


class SOTGLPConfig(MethodConfig):
    """Options of SOT-GLP. The released code's own defaults do not describe the method; these do."""

    n_global: int = Field(4, ge=1, description="global prompts m, shared by all classes; code: m of GalLoP's setting")
    n_local: int = Field(4, ge=1, description="local prompts n of each class")
    n_ctx: int = Field(4, ge=1, description='context tokens V of each prompt; code: those of "A photo of a"')
    topk: int = Field(
        10, ge=1, description="patches that each image and class is matched on, the same for all prompts; at most all"
    )
    epsilon: float = Field(0.1, gt=0, description="strength of the entropy term of the plan; code: 0.1")
    max_iter: int = Field(100, ge=1, description="most Sinkhorn iterations; code: 100")
    tol: float = Field(1e-2, ge=0, description="mean change of the row factors that ends them; code: 1e-2")
    dropout_rate: float = Field(
        0.75,
        ge=0,
        le=1,
        description="r of prompt dropout: each image keeps max(m - int(r m), 1) global prompts, drawn with replacement",
    )
    local_init: Literal["xavier", "orthonormal"] = Field(
        "xavier", description="local prompts at first: Xavier's uniform, or orthonormal rows times 0.001; code has both"
    )
    scale_by_n: bool = Field(
        True,
        description="local logits are sums over the plan divided by n, as in the code: n times smaller than a cosine, "
        "in the loss and beside the global ones; false: the sums themselves",
    )
