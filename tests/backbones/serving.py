"""A step of every installed method on a small backbone of every kind of tower, and the tables made of it.

`python -m tests.backbones.serving` writes them: the tables of docs/backbones.md, and what `backbones list
--architectures` says of each architecture, as its towers tell it. Run it when open_clip, a method or a kind of tower
comes anew. `nox -s serving` is the same.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import open_clip
import torch
from torch import Tensor

import vlmprompt.backbones.openclip
from tests.backbones import hf_encoders, image_towers, text_kinds
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.capabilities import capabilities
from vlmprompt.backbones.openclip.miniature import miniature
from vlmprompt.errors import CapabilityError, VlmPromptError
from vlmprompt.methods.build import build_method, list_methods

PAGE = Path(__file__).parents[2] / "docs" / "backbones.md"
DATA = Path(vlmprompt.backbones.openclip.__path__[0]) / "architectures.json"
NAMES = ["cat", "red panda"]
OPTIONS: Mapping[str, Mapping[str, Any]] = {"gallop": {"allow_equal_scales": True}}  # small grids make them equal
SMALL_TEXT = {"context_length": 77, "width": 64, "heads": 2, "layers": 2}
TEXT_KINDS = {  # one architecture of each kind
    "causal, end token": "ViT-B-32",
    "bidirectional, last position": "ViT-B-16-SigLIP2",
    "bidirectional, end token": "MobileCLIP2-S0",
    "CoCa, class token": "coca_ViT-B-32",
}
ENCODERS = {  # of Hugging Face: kinds of tests/backbones/hf_encoders.py
    "RoBERTa of Hugging Face": "roberta",
    "XLM-R of Hugging Face": "xlm-roberta",
    "mT5 of Hugging Face": "mt5",
    "NLLB of Hugging Face": "nllb",
    "BERT of Hugging Face": "bert",
}
IMAGE_KINDS = {  # of tests/backbones/image_towers.py -> what they are built of
    "vit": "open_clip ViT, class token",
    "clipa": "open_clip ViT, mean of patches (CLIPA)",
    "coca": "open_clip ViT, attention pool (CoCa)",
    "siglip": "timm ViT, attention pool (SigLIP, SigLIP 2)",
    "pe_core": "timm EVA, attention pool, rotary positions (PE-Core)",
    "eva01": "timm EVA, class token (EVA01)",
    "eva02": "timm EVA, class token, rotary positions (EVA02)",
    "mobileclip_b": "timm ViT, class token (MobileCLIP-B, MobileCLIP2-L)",
    "relpos": "timm ViT, relative positions",
    "gap": "timm ViT, mean of patches",
    "convnext": "ConvNeXt",
    "fastvit": "FastViT (MobileCLIP-S)",
    "vitamin": "ViTamin",
    "swin": "Swin",
    "resnet": "ModifiedResNet",
}


def image_backbone(kind: str) -> Backbone:
    """An image tower of a kind beside a small causal text tower."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.model.CLIP(image_towers.JOINT, text_kinds.TINY_VISION, SMALL_TEXT)
    model.visual = image_towers.image_tower(kind)
    return Backbone.from_model(model, open_clip.SimpleTokenizer(), name=kind)


def text_backbone(architecture: str) -> Backbone:
    """A text tower of an architecture's kind beside a tiny ViT."""
    config = open_clip.get_model_config(architecture)
    model = text_kinds.small_model(config)
    return Backbone.from_model(model, text_kinds.spot_tokenizer(config["text_cfg"]), name=architecture)


def encoder_backbone(kind: str) -> Backbone:
    """A text encoder of Hugging Face beside a tiny ViT; needs transformers."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = open_clip.model.CustomTextCLIP(image_towers.JOINT, text_kinds.TINY_VISION, SMALL_TEXT)
    with TemporaryDirectory() as folder:
        model.text, tokenizer = hf_encoders.encoder(kind, Path(folder))
    return Backbone.from_model(model, tokenizer, name=kind)


def step(name: str, backbone: Backbone) -> dict[str, Tensor]:
    """One step of a method on noise: the gradients of what it learns, or its state where it has no loop.

    Raises:
        CapabilityError: the backbone lacks what the method needs.
    """
    method = build_method(name, backbone, NAMES, OPTIONS.get(name), descriptions=[["a tail"], ["a mask"]])
    images = torch.randn(4, 3, *backbone.preprocess.sides, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 0, 1])
    if "closed_form" in method.capabilities:
        method.fit(method.encode_images(images), labels, None)
        return {key: value for key, value in method.state_dict().items() if value.is_floating_point()}
    method.train()
    output = method(images)
    if "training_free" in method.capabilities:
        return {"logits": output.logits}
    method.loss(output, labels).total.sum().backward()
    return {key: value.grad for key, value in method.named_parameters() if value.grad is not None}


def serves(name: str, backbone: Backbone) -> bool:
    """Whether a step of a method goes through, with values that are numbers."""
    try:
        values = step(name, backbone)
    except CapabilityError:
        return False
    if not values or not all(bool(value.isfinite().all()) for value in values.values()):
        raise AssertionError(f"{name} learns nothing, or no number, on {backbone.name}")
    return True


def table(first: str, backbones: Iterable[tuple[str, Backbone]]) -> str:
    """Kinds of towers x methods, as Markdown; methods that every kind serves share a column."""
    found = [(kind, {name: serves(name, backbone) for name in list_methods()}) for kind, backbone in backbones]
    everywhere = [name for name in list_methods() if all(row[name] for _, row in found)]
    columns = [name for name in list_methods() if name not in everywhere]
    head = f"| {' | '.join([first, ', '.join(everywhere), *columns])} |"
    rows = [
        f"| {' | '.join([kind, 'yes', *('yes' if row[name] else '-' for name in columns)])} |" for kind, row in found
    ]
    return "\n".join([head, "|" + "---|" * (len(columns) + 2), *rows])


def architectures() -> dict[str, dict[str, Any]]:
    """What the towers of each architecture say of themselves; of those that are refused, why."""
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(open_clip.list_models()):
        try:
            found[name] = of_architecture(name)
        except VlmPromptError as error:
            found[name] = {"text": None, "image": None, "refused": error.message}
        print(f"{name:40} {found[name]}", flush=True)
    return found


def of_architecture(name: str) -> dict[str, Any]:
    """See `architectures`. An encoder of Hugging Face is not built: its description is on a hub."""
    config = open_clip.get_model_config(name)
    of_hub = config["text_cfg"].get("hf_model_name")
    if of_hub:
        config = {"embed_dim": config["embed_dim"], "vision_cfg": config["vision_cfg"], "text_cfg": SMALL_TEXT}
    of = capabilities(miniature(config, "" if of_hub else name))
    keys = ("text", "context_length", "image", "image_size", "grid", "visual_prompts")
    row = {key: getattr(of, key) for key in keys}
    return row | ({"text": f"encoder of Hugging Face, {of_hub}", "context_length": None} if of_hub else {})


def main() -> None:
    """Write tables and data."""
    warnings.simplefilter("ignore")
    images = table("image tower", ((about, image_backbone(kind)) for kind, about in IMAGE_KINDS.items()))
    own = ((about, text_backbone(name)) for about, name in TEXT_KINDS.items())
    encoders = ((about, encoder_backbone(kind)) for about, kind in ENCODERS.items())
    texts = table("text tower", (*own, *encoders))
    page = PAGE.read_text(encoding="utf-8")
    for mark, lines in (("image towers", images), ("text towers", texts)):
        page = re.sub(
            f"(<!-- {mark} -->\n).*?(<!-- end -->)", lambda m, t=lines: f"{m[1]}\n{t}\n\n{m[2]}", page, flags=re.S
        )
    PAGE.write_text(page, encoding="utf-8")
    rows = (f"{json.dumps(name)}: {json.dumps(row)}" for name, row in architectures().items())
    DATA.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
