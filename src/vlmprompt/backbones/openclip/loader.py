"""open_clip's models by name, with their weights.

A spec is `<architecture>/<pretrained tag>`, `<architecture>/<file of weights>`, `local-dir:<folder>`,
`hf-hub:<owner>/<name>`, or a bare `<architecture>` with random weights.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import open_clip

from vlmprompt.backbones.backbone import Backbone, Identity
from vlmprompt.backbones.names import require_architecture, require_backbone
from vlmprompt.backbones.openclip.build import random_model
from vlmprompt.backbones.openclip.image_size import resize_input, warn_of_size
from vlmprompt.backbones.openclip.pretrained import pretrained
from vlmprompt.backbones.openclip.tokenizers import StandInTokenizer, tokenizer_of, tokenizer_or_stand_in
from vlmprompt.backbones.precision import Precision
from vlmprompt.backbones.weights.hub import fetched


class OpenClipLoader:
    """Any open_clip architecture: `<architecture>/<tag or file>`, `local-dir:<folder>`, `hf-hub:<owner>/<name>`, or
    with random weights the bare architecture. The `openai` weights were trained with QuickGELU: use the `-quickgelu`
    architectures for them (`ViT-B-16-quickgelu/openai`)."""

    def load(
        self,
        spec: str,
        *,
        device: str,
        precision: Precision,
        quick_gelu: bool | None,
        random_weights: int | None,
        image_size: tuple[int, int] | None = None,
    ) -> Backbone:
        """Build, check and freeze."""
        identity = Identity(spec, random_weights, quick_gelu, image_size=image_size)
        if random_weights is None:
            found = pretrained(spec, quick_gelu)
            model, tokenizer = found.model, tokenizer_of(found.tokenizer_of)
            identity = replace(identity, file=found.file)
        else:
            require_backbone(spec, random_weights=random_weights)
            architecture = spec.split("/")[0]
            build = partial(random_model, architecture, seed=random_weights, quick_gelu=bool(quick_gelu))
            model = fetched(f"the description of {architecture}", build)
            tokenizer = tokenizer_or_stand_in(architecture)
            if isinstance(tokenizer, StandInTokenizer):
                identity = replace(identity, stand_in=tokenizer.name)
        if image_size is None:
            warn_of_size(model, spec)
        else:
            resize_input(model, image_size, spec)
        return Backbone.from_model(model.to(device), tokenizer, identity=identity, precision=precision)

    def architecture(self, spec: str) -> dict[str, Any]:
        """See `architecture_of`."""
        architecture = spec.split("/")[0]
        require_architecture(architecture, spec)
        return dict(open_clip.get_model_config(architecture))
