"""Backbones by name: what `--backbone SPEC` means.

A backbone spec is `<architecture>/<pretrained tag>`, `<architecture>/<file of weights>`, `local-dir:<folder>`,
`hf-hub:<owner>/<name>`, a bare `<architecture>` with random weights, or a name that a plugin registered.
"""

from __future__ import annotations

import inspect
from typing import Any

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.outliving import outliving
from vlmprompt.backbones.precision import Precision
from vlmprompt.backbones.text.budget import asked_bytes
from vlmprompt.backbones.unrecorded import is_fast
from vlmprompt.collector import paused
from vlmprompt.errors import CapabilityError, UsageError
from vlmprompt.plugins import host


@paused()
def load_backbone(
    spec: str,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    quick_gelu: bool | None = None,
    random_weights: int | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> Backbone:
    """Load frozen towers by name.

    Args:
        spec: see the module's text; names registered by plugins come first.
        precision: arithmetic of the towers; weights are kept in fp32 and cast on the way ("bf16", "fp16").
        quick_gelu: activation of a local checkpoint whose architecture exists with and without it.
        random_weights: seed; build the architecture with random weights, nothing is downloaded. The
            global RNG state is left as it was.
        image_size: side, or height and width, of input images in pixels; None: what the towers were built for.

    Raises:
        UsageError: no text, unknown architecture or tag, an activation that must be said, or an environment variable
            of the engines that means nothing.
        InputError: weights cannot be had or do not fit; activation and tag contradict each other; the image size is
            not a whole number of patches.
        CapabilityError: the towers are of a kind that the engines cannot run, or read images of one size alone.
    """
    if not isinstance(spec, str):
        raise UsageError(
            f"towers are named by a text, such as 'ViT-B-16-quickgelu/openai', and not by a {type(spec).__name__}",
            hint="of a file, f'ARCHITECTURE/{path}'; an open_clip model in memory: Backbone.from_model",
        )
    _ = is_fast(), asked_bytes()  # a variable that means nothing is refused now, and not once a batch is large enough
    loader, more = _loader(spec), {}
    if image_size is not None:
        require_sizes(spec)
        more["image_size"] = (image_size, image_size) if isinstance(image_size, int) else image_size
    with outliving():
        backbone: Backbone = loader.load(
            spec, device=device, precision=precision, quick_gelu=quick_gelu, random_weights=random_weights, **more
        )
    return backbone


def require_sizes(spec: str) -> None:
    """Refuse a backbone whose loader knows of no image size but one.

    Raises:
        CapabilityError: it does not.
    """
    if "image_size" not in inspect.signature(_loader(spec).load).parameters:
        raise CapabilityError(
            f"backbone {spec!r} reads images of one size alone", hint="leave the image size out (--image-size)"
        )


def architecture_of(spec: str) -> dict[str, Any]:
    """open_clip's description of a backbone's towers (`embed_dim`, `vision_cfg`, `text_cfg`), nothing built.

    Raises:
        UsageError: unknown architecture.
        CapabilityError: a plugin's backbone that does not describe itself.
    """
    describe = getattr(_loader(spec), "architecture", None)
    if describe is None:
        raise CapabilityError(f"backbone {spec!r} does not say of what size its towers are")
    found: dict[str, Any] = describe(spec)
    return found


def _loader(spec: str) -> Any:
    loaders = host().backbones
    return loaders.get(spec if spec in loaders.names() else "open_clip").load()()
