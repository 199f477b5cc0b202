"""open_clip's models by name, with their weights.

A spec is `<architecture>/<pretrained tag>`, `<architecture>/<path of a checkpoint>`, `hf-hub:<repository>`, or a bare
`<architecture>` with random weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import open_clip
from torch import nn

from vlmprompt.backbones.backbone import Backbone, Identity
from vlmprompt.backbones.file_kind import WEIGHTS, file_kind
from vlmprompt.backbones.openclip.build import random_model
from vlmprompt.backbones.openclip.specs import TWIN, force_for_file, force_for_tag, known_architecture
from vlmprompt.backbones.precision import Precision
from vlmprompt.errors import InputError, UsageError, VlmPromptError, did_you_mean
from vlmprompt.regular import regular


class OpenClipLoader:
    """Any open_clip architecture: `<architecture>/<tag or checkpoint path>`, `hf-hub:<repository>`, or with
    random weights the bare architecture. The `openai` weights were trained with QuickGELU: use the
    `-quickgelu` architectures for them (`ViT-B-16-quickgelu/openai`)."""

    def load(
        self, spec: str, *, device: str, precision: Precision, quick_gelu: bool | None, random_weights: int | None
    ) -> Backbone:
        """Build, check and freeze."""
        if random_weights is not None:
            architecture = known_architecture(spec.split("/")[0])
            model = random_model(architecture, seed=random_weights, quick_gelu=bool(quick_gelu))
        elif spec.startswith("hf-hub:"):
            architecture = spec
            model = _fetch(spec, partial(open_clip.create_model, spec))
        else:
            architecture, model = _pretrained(spec, quick_gelu)
        tokenizer = _fetch(spec, partial(open_clip.get_tokenizer, architecture))
        identity = Identity(spec, random_weights, quick_gelu)
        return Backbone.from_model(model.to(device), tokenizer, identity=identity, precision=precision)

    def architecture(self, spec: str) -> dict[str, Any]:
        """See `architecture_of`."""
        return dict(open_clip.get_model_config(known_architecture(spec.split("/")[0])))


def _pretrained(spec: str, quick_gelu: bool | None) -> tuple[str, nn.Module]:
    """An architecture with a tag's or a file's weights."""
    architecture, _, weights = spec.partition("/")
    known_architecture(architecture)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not weights:
        raise UsageError(
            f"backbone {spec!r} names no weights",
            hint=f"{architecture}/{tags[0] if tags else '<checkpoint file>'}, or --random-weights for random ones",
        )
    if weights in open_clip.list_pretrained_tags_by_model(architecture.removesuffix(TWIN)) or weights in tags:
        force = force_for_tag(architecture, weights, quick_gelu)
    elif Path(weights).exists():
        _fetch(spec, partial(regular, Path(weights)))
        force = force_for_file(architecture, quick_gelu)
    else:
        raise UsageError(
            f"{weights!r} is neither a file nor a pretrained tag of {architecture}", hint=did_you_mean(weights, tags)
        )
    build = partial(open_clip.create_model, architecture, pretrained=weights, force_quick_gelu=force)
    return architecture, _fetch(spec, build, Path(weights) if Path(weights).is_file() else None)


def _fetch(spec: str, build: Callable[[], Any], file: Path | None = None) -> Any:
    """Run a step that may download files or read one; its failures become one line."""
    try:
        return build()
    except VlmPromptError:
        raise
    except Exception as error:  # open_clip, the hub client and torch raise many unrelated types here
        raise InputError(
            f"cannot load backbone {spec!r}: {_reason(error, file)}",
            hint="check the network and the spec, give a checkpoint file (<architecture>/<path>), "
            "or --random-weights to try things out",
        ) from error


def _reason(error: Exception, file: Path | None) -> str:
    """The first line of what a library says, but never torch's advice to read a file without its safeguard."""
    kind = None if file is None else file_kind(file)
    if kind is not None and kind not in WEIGHTS:
        return f"{file} is {kind}"
    text = str(error).strip()
    if "weights_only" in text or "Weights only" in text:
        what = "the file of weights" if file is None else f"{file} is {kind}; it"
        return f"{what} is damaged or holds more than tensors: refused, as it could run code of its author's"
    return text.splitlines()[0][:300] if text else type(error).__name__
