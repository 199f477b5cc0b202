"""The only file that knows open_clip: finds, builds and checks models, and hands their parts to the engines.

A backbone spec is `<architecture>/<pretrained tag>`, `<architecture>/<path of a checkpoint>`,
`hf-hub:<repository>`, a bare `<architecture>` with random weights, or a name that a plugin registered.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from pathlib import Path
from typing import Any, cast

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from open_clip.transformer import VisionTransformer
from torch import nn

from vlmprompt.backbones.backbone import DTYPES, Backbone, Identity, Precision
from vlmprompt.backbones.blocks import unfit
from vlmprompt.backbones.file_kind import WEIGHTS, file_kind
from vlmprompt.backbones.names import TWIN, require_architecture, require_weights
from vlmprompt.backbones.text import TextEngine, TextTower
from vlmprompt.backbones.vision import ResNetEngine, VisionEngine, VisionTower, ViTEngine
from vlmprompt.data.preprocess import PreprocessConfig
from vlmprompt.errors import CapabilityError, InputError, UsageError, VlmPromptError
from vlmprompt.plugins import host
from vlmprompt.regular import regular


def load_backbone(
    spec: str,
    *,
    device: str = "cpu",
    precision: Precision = "fp32",
    quick_gelu: bool | None = None,
    random_weights: int | None = None,
) -> Backbone:
    """Load frozen towers by name.

    Args:
        spec: see the module's text; names registered by plugins come first.
        precision: arithmetic of the towers; weights are kept in fp32 and cast on the way ("bf16", "fp16").
        quick_gelu: activation of a local checkpoint whose architecture exists with and without it.
        random_weights: seed; build the architecture with random weights, nothing is downloaded. The
            global RNG state is left as it was.

    Raises:
        UsageError: unknown architecture or tag, or an activation that must be said.
        InputError: weights cannot be had or do not fit; activation and tag contradict each other.
        CapabilityError: the towers are of a kind that the engines cannot run.
    """
    loaders = host().backbones
    name = spec if spec in loaders.names() else "open_clip"
    loader = loaders.get(name).load()()
    backbone: Backbone = loader.load(
        spec, device=device, precision=precision, quick_gelu=quick_gelu, random_weights=random_weights
    )
    return backbone


class OpenClipLoader:
    """Any open_clip architecture: `<architecture>/<tag or checkpoint path>`, `hf-hub:<repository>`, or with
    random weights the bare architecture. The `openai` weights were trained with QuickGELU: use the
    `-quickgelu` architectures for them (`ViT-B-16-quickgelu/openai`)."""

    def load(
        self, spec: str, *, device: str, precision: Precision, quick_gelu: bool | None, random_weights: int | None
    ) -> Backbone:
        """Build, check and freeze."""
        identity = Identity(spec, random_weights, quick_gelu)
        if random_weights is not None:
            architecture = spec.split("/")[0]
            require_architecture(architecture)
            with _seeded(random_weights), _quiet():
                model = open_clip.create_model(architecture, pretrained=None, force_quick_gelu=bool(quick_gelu))
        elif spec.startswith("hf-hub:"):
            architecture = spec
            model = _fetch(spec, partial(open_clip.create_model, spec))
        else:
            architecture, model = _pretrained(spec, quick_gelu)
        tokenizer = _fetch(spec, partial(open_clip.get_tokenizer, architecture))
        return wrap(model.to(device), tokenizer, identity=identity, precision=precision)


def architecture_of(spec: str) -> dict[str, Any]:
    """open_clip's description of a backbone's towers (`embed_dim`, `vision_cfg`, `text_cfg`), nothing built.

    Raises:
        UsageError: unknown architecture.
        CapabilityError: a plugin's backbone that does not describe itself.
    """
    loaders = host().backbones
    if spec not in loaders.names():
        architecture = spec.split("/")[0]
        require_architecture(architecture)
        return dict(open_clip.get_model_config(architecture))
    describe = getattr(loaders.get(spec).load()(), "architecture", None)
    if describe is None:
        raise CapabilityError(f"backbone {spec!r} does not say of what size its towers are")
    found: dict[str, Any] = describe(spec)
    return found


def miniature(spec: str) -> Backbone:
    """Random towers with a backbone's layers and grid of patches, but a few units wide: to ask a method what it needs.

    Raises:
        UsageError, CapabilityError: see `architecture_of` and `wrap`.
    """
    full = architecture_of(spec)
    width = 16 if isinstance(full["vision_cfg"]["layers"], list) else 64
    vision = {**full["vision_cfg"], "width": width, "head_width": 64}
    narrow = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": {**full["text_cfg"], "width": 64, "heads": 1}}
    return wrap(clip_model(narrow, seed=0), bpe_tokenizer(), identity=Identity(f"narrow {spec}", 0, None))


def clip_model(architecture: Mapping[str, Any], *, seed: int) -> nn.Module:
    """open_clip's `CLIP` with random weights; `architecture` are its arguments."""
    with _seeded(seed):
        return open_clip.model.CLIP(**architecture)


def bpe_tokenizer() -> Any:
    """OpenAI's BPE tokenizer, whose vocabulary is in the open_clip package."""
    return open_clip.SimpleTokenizer()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """open_clip initialises from the global generator: seeded within, left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


@contextmanager
def _quiet() -> Iterator[None]:
    """Without open_clip's warning of random weights, which were asked for."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def _pretrained(spec: str, quick_gelu: bool | None) -> tuple[str, nn.Module]:
    """An architecture with a tag's or a file's weights."""
    architecture, _, weights = spec.partition("/")
    require_architecture(architecture)
    known = tuple(open_clip.list_pretrained_tags_by_model(architecture))
    require_weights(spec, known)
    if weights in known or weights in open_clip.list_pretrained_tags_by_model(architecture.removesuffix(TWIN)):
        force = _check_tag(architecture, weights, quick_gelu)
    else:
        _fetch(spec, partial(regular, Path(weights)))
        force = _check_file(architecture, quick_gelu)
    build = partial(open_clip.create_model, architecture, pretrained=weights, force_quick_gelu=force)
    return architecture, _fetch(spec, build, Path(weights) if Path(weights).is_file() else None)


def _check_tag(architecture: str, tag: str, quick_gelu: bool | None) -> bool:
    """Whether to force QuickGELU; raises where open_clip would only warn of an activation mismatch."""
    wanted = bool(open_clip.get_pretrained_cfg(architecture.removesuffix(TWIN), tag).get("quick_gelu", False))
    built = bool(open_clip.get_model_config(architecture).get("quick_gelu", False)) or quick_gelu is True
    if wanted != built:
        twin = architecture + TWIN if wanted else architecture.removesuffix(TWIN)
        raise InputError(
            f"weights {tag!r} were trained {'with' if wanted else 'without'} QuickGELU, "
            f"{architecture!r} is built {'with' if built else 'without'} it: every number would be wrong",
            hint=f"use --backbone {twin}/{tag}",
        )
    return quick_gelu is True


def _check_file(architecture: str, quick_gelu: bool | None) -> bool:
    """Whether to force QuickGELU for a checkpoint file, which does not say what it was trained with."""
    has_twin = architecture + TWIN in open_clip.list_models()
    if has_twin and quick_gelu is None:
        raise UsageError(
            f"a checkpoint file of {architecture!r} can be with or without QuickGELU, and does not say which",
            hint="say --quick-gelu (OpenAI's weights and those fine-tuned from them) or --no-quick-gelu",
        )
    if architecture.endswith(TWIN) and quick_gelu is False:
        raise UsageError(f"{architecture!r} is built with QuickGELU", hint=f"use {architecture.removesuffix(TWIN)!r}")
    return quick_gelu is True


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


def wrap(
    model: nn.Module,
    tokenizer: Any,
    *,
    identity: Identity,
    preprocess: PreprocessConfig | None = None,
    precision: Precision = "fp32",
    known_ids: frozenset[int] | None = None,
) -> Backbone:
    """Freeze a model and put the engines on its parts.

    Args:
        known_ids: tokens that the text tower was trained on; None: as good as all.

    Raises:
        CapabilityError: a tower is of a kind that the engines cannot run; says which and why.
    """
    model.requires_grad_(False).eval()
    autocast = _autocast(model, precision)
    tower, joint_dim = _text_tower(model, tokenizer, identity.spec, known_ids)
    return Backbone(
        model,
        TextEngine(tower, joint_dim, autocast),
        _vision_engine(model, joint_dim, autocast, identity.spec),
        identity=identity,
        preprocess=preprocess or _preprocess(model),
        scale=float(torch.exp(cast(torch.Tensor, model.logit_scale).detach())),
    )


def _autocast(model: nn.Module, precision: Precision) -> Callable[[], AbstractContextManager[Any]]:
    if precision == "fp32":
        return nullcontext
    device = next(model.parameters()).device.type
    return partial(torch.autocast, device, dtype=DTYPES[precision])


def _text_tower(model: Any, tokenizer: Any, name: str, known_ids: frozenset[int] | None) -> tuple[TextTower, int]:
    """The text side of a `CLIP` (its own attributes) or of a `CustomTextCLIP` (`model.text`)."""
    text = getattr(model, "text", model)
    missing = [
        part
        for part in ("token_embedding", "positional_embedding", "transformer", "ln_final", "text_projection")
        if not hasattr(text, part)
    ]
    pool = getattr(text, "text_pool_type", getattr(text, "pool_type", None))
    reason = None
    if missing:
        reason = f"it has no {missing[0]}"
    elif text.attn_mask is None or getattr(text, "cls_emb", None) is not None:
        reason = "it is not causal with an end-of-text token"
    elif pool not in ("argmax", "eos"):
        reason = f"it pools by {pool!r}, not at the end-of-text token"
    else:
        reason = _unfit_blocks(text.transformer.resblocks)
    if reason:
        raise CapabilityError(
            f"the text tower of backbone {name!r} cannot take learned prompts: {reason}",
            hint="use a CLIP-type backbone such as ViT-B-16-quickgelu/openai",
        )
    projection = text.text_projection
    width = text.positional_embedding.shape[-1]
    tower = TextTower(
        token_embedding=text.token_embedding,
        positional_embedding=text.positional_embedding,
        blocks=list(text.transformer.resblocks),
        ln_final=text.ln_final,
        project=_projection(projection),
        sot_id=_special(tokenizer, "sot"),
        eot_id=_special(tokenizer, "eot"),
        tokenize=partial(_bare_ids, tokenizer),
        known_ids=known_ids,
    )
    if projection is None:
        return tower, width
    return tower, projection.out_features if isinstance(projection, nn.Linear) else projection.shape[-1]


def _unfit_blocks(blocks: Iterable[nn.Module]) -> str | None:
    return next((reason for block in blocks if (reason := unfit(block)) is not None), None)


def _projection(projection: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    if projection is None:
        return lambda x: x
    return projection if isinstance(projection, nn.Linear) else lambda x: x @ projection


def _special(tokenizer: Any, kind: str) -> int:
    """Id of the start or end token: an attribute, or what the tokenizer puts around an empty text."""
    known = getattr(tokenizer, f"{kind}_token_id", None)
    if known is not None:
        return int(known)
    ids = tokenizer([""])[0]
    return int(ids[0] if kind == "sot" else ids[1])


def count_tokens(text: str) -> int:
    """Tokens of a text for CLIP's text towers, start and end included."""
    return len(_clip_tokenizer().encode(text)) + 2


@cache
def _clip_tokenizer() -> Any:
    return open_clip.SimpleTokenizer()


def _bare_ids(tokenizer: Any, text: str) -> list[int]:
    """Token ids without start, end and padding."""
    if hasattr(tokenizer, "encode") and hasattr(tokenizer, "sot_token_id"):
        return list(tokenizer.encode(text))
    ids = tokenizer([text])[0].tolist()
    return list(ids[1 : ids.index(_special(tokenizer, "eot"))])


def _vision_engine(
    model: Any, joint_dim: int, autocast: Callable[[], AbstractContextManager[Any]], name: str
) -> VisionEngine:
    visual = model.visual
    if isinstance(visual, ModifiedResNet):
        return ResNetEngine(visual, joint_dim, autocast)
    reason = None
    if not isinstance(visual, VisionTransformer):
        reason = f"it is a {type(visual).__name__}, neither open_clip's ViT nor its ModifiedResNet"
    elif visual.attn_pool is not None or visual.pool_type != "tok":
        reason = "it is pooled without a class token"
    elif visual.final_ln_after_pool:
        reason = "its last norm stands behind the pool"
    else:
        reason = _unfit_blocks(visual.transformer.resblocks)
    if reason:
        raise CapabilityError(
            f"the image tower of backbone {name!r} cannot serve here: {reason}",
            hint="use a CLIP-type backbone such as ViT-B-16-quickgelu/openai or RN50-quickgelu/openai",
        )
    tower = VisionTower(
        conv1=visual.conv1,
        class_embedding=visual.class_embedding,
        positional_embedding=visual.positional_embedding,
        ln_pre=visual.ln_pre,
        blocks=list(visual.transformer.resblocks),
        ln_post=visual.ln_post,
        proj=visual.proj,
    )
    return ViTEngine(tower, joint_dim, autocast)


def _preprocess(model: Any) -> PreprocessConfig:
    """The model's own transform settings, OpenAI's statistics where it has none."""
    cfg = dict(getattr(model.visual, "preprocess_cfg", None) or {})
    size = cfg.get("size", model.visual.image_size)
    return PreprocessConfig(
        size=int(size[0] if isinstance(size, (tuple, list)) else size),
        mean=tuple(cfg.get("mean", open_clip.OPENAI_DATASET_MEAN)),
        std=tuple(cfg.get("std", open_clip.OPENAI_DATASET_STD)),
        interpolation=cfg.get("interpolation", "bicubic"),
        resize_mode=cfg.get("resize_mode", "shortest"),
    )
