"""Folders of a model: open_clip's, and Hugging Face's of a `CLIPModel` or `SiglipModel`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlmprompt.backbones.weights.described import ClipModel, ImageSettings, read_as
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.regular import regular

OPEN_CLIP_CONFIG, HF_CONFIG, HF_IMAGES = "open_clip_config.json", "config.json", "preprocessor_config.json"
# In the order in which they are looked for.
OPEN_CLIP_FILES = (
    *("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors", "open_clip_pytorch_model.bin"),
    *("model.safetensors", "pytorch_model.bin"),
)
HF_FILES = ("model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".bin", ".pth", ".pt")
BPE_VOCABULARY = 49408  # of CLIP's tokenizer, which the open_clip package holds


@dataclass(frozen=True)
class ModelFolder:
    """A folder that says what model it holds.

    Attributes:
        path: of the folder.
        weights: the file of weights in it.
        kind: "open_clip", or transformers' name of the kind of model ("clip", "siglip").
        config: what the folder says of the model.
    """

    path: Path
    weights: Path
    kind: str
    config: Mapping[str, Any]


def read_folder(path: Path) -> ModelFolder:
    """What model a folder holds.

    Raises:
        InputError: there is no such folder, it does not say, or it holds no weights.
        CapabilityError: it holds a model of another kind.
    """
    if not path.is_dir():
        what = "is a file, not a folder" if path.exists() else "is not there"
        raise InputError(f"folder {path} {what}", hint="a file goes behind its architecture: --backbone ViT-B-16/FILE")
    if (path / OPEN_CLIP_CONFIG).exists():
        config = read_json(path / OPEN_CLIP_CONFIG)
        if not isinstance(config.get("model_cfg"), dict):
            raise InputError(f"{path / OPEN_CLIP_CONFIG} describes no model: it has no 'model_cfg'")
        return ModelFolder(path, _weights_in(path, OPEN_CLIP_FILES), "open_clip", config)
    if (path / HF_CONFIG).exists():
        config = read_json(path / HF_CONFIG)
        return ModelFolder(path, _weights_in(path, HF_FILES), hf_kind(config, str(path)), config)
    holds = ", ".join(sorted(file.name for file in path.iterdir())[:4]) or "nothing"
    raise InputError(
        f"folder {path} does not say what model it holds: no {OPEN_CLIP_CONFIG}, no {HF_CONFIG} (it holds {holds})",
        hint="name the architecture and the file: --backbone ViT-B-16/FOLDER/FILE",
    )


def hf_kind(config: Mapping[str, Any], place: str) -> str:
    """Transformers' name of the kind of model, of those that are read here.

    Raises:
        CapabilityError: it is of another kind.
    """
    kind = str(config.get("model_type"))
    if kind not in ("clip", "siglip") or not {"text_config", "vision_config"} <= config.keys():
        names = config.get("architectures") or [kind]
        raise CapabilityError(
            f"{place} holds a {', '.join(map(str, names))} of Hugging Face, for which there is no converter",
            hint="read are CLIPModel and SiglipModel, and whatever open_clip has an architecture for",
        )
    return kind


def open_clip_config(config: Mapping[str, Any], place: str) -> dict[str, Any]:
    """The arguments of open_clip's `CLIP` for a `CLIPModel`, by its config.json.

    Raises:
        InputError: it does not describe one.
        CapabilityError: an activation or a vocabulary that open_clip does not have.
    """
    model = read_as(ClipModel, config, f"{place}: {HF_CONFIG}")
    text, vision = model.text_config, model.vision_config
    acts = {text.hidden_act, vision.hidden_act}
    if acts not in ({"quick_gelu"}, {"gelu"}):
        used = " and ".join(sorted(acts))
        raise CapabilityError(f"{place} has the activation {used}; open_clip has quick_gelu or gelu, in both towers")
    if text.vocab_size != BPE_VOCABULARY:
        raise CapabilityError(f"{place} has a vocabulary of its own ({text.vocab_size} tokens), not CLIP's")
    return {
        "embed_dim": model.projection_dim,
        "quick_gelu": acts == {"quick_gelu"},
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.patch_size,
            "layers": vision.num_hidden_layers,
            "width": vision.hidden_size,
            "head_width": vision.hidden_size // vision.num_attention_heads,
            "mlp_ratio": vision.intermediate_size / vision.hidden_size,
        },
        "text_cfg": {
            "context_length": text.max_position_embeddings,
            "vocab_size": text.vocab_size,
            "layers": text.num_hidden_layers,
            "width": text.hidden_size,
            "heads": text.num_attention_heads,
            "mlp_ratio": text.intermediate_size / text.hidden_size,
        },
    }


def image_settings(folder: ModelFolder) -> dict[str, Any]:
    """Mean and standard deviation of the image transform, where a folder says them.

    Raises:
        InputError: they are not three numbers each, or a deviation is not above 0.
    """
    if folder.kind == "open_clip":
        file, said = OPEN_CLIP_CONFIG, folder.config.get("preprocess_cfg") or {}
    else:
        file = HF_IMAGES
        said = read_json(folder.path / file) if (folder.path / file).exists() else {}
    settings = read_as(ImageSettings, said, str(folder.path / file))
    return settings.model_dump(exclude_none=True)


def _weights_in(path: Path, names: tuple[str, ...]) -> Path:
    found = [path / name for name in names if (path / name).exists()]
    index = next(iter(sorted(path.glob("*.index.json"))), None)
    if not found and index is not None:
        raise InputError(
            f"folder {path} holds its weights in several files, as {index.name} says: they are not joined here",
            hint="join them where transformers is there: model.save_pretrained(FOLDER, max_shard_size='100GB')",
        )
    found = found or sorted(file for file in path.iterdir() if file.suffix in _SUFFIXES)
    if not found:
        raise InputError(f"folder {path} holds no file of weights that is read here: there is no {names[0]}")
    if len(found) > 1 and found[0].name not in names:
        files = ", ".join(file.name for file in found[:4])
        raise InputError(f"folder {path} holds several files of weights: {files}", hint=f"call one of them {names[0]}")
    return found[0]


def read_json(path: Path) -> dict[str, Any]:
    """A description in JSON.

    Raises:
        InputError: it cannot be read.
    """
    try:
        content = json.loads(regular(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} describes no model")
    return content
