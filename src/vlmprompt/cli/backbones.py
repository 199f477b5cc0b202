"""`vlmprompt backbones show` and what each architecture serves."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from vlmprompt.cli.output import Table

if TYPE_CHECKING:
    from torch import nn

    from vlmprompt.backbones.backbone import Backbone

_WITHOUT_DESCRIPTION = ("hf-hub:", "local-dir:")


def architectures() -> list[dict[str, Any]]:
    """What open_clip's architectures serve, as it was found by building each; nothing is known of newer ones."""
    from vlmprompt.backbones.listed import architectures as listed

    found = json.loads(files("vlmprompt.backbones.openclip").joinpath("architectures.json").read_text(encoding="utf-8"))
    return [{"name": name, **(found.get(name) or {"text": None, "image": None})} for name in listed()]


def architecture_table(rows: list[dict[str, Any]]) -> Table:
    """For people."""
    return Table(
        ("architecture", "text tower", "image tower", "local", "prompts"),
        [
            (
                row["name"],
                row["text"] or row.get("refused", "not tried"),
                row["image"] or "",
                "x".join(map(str, row["grid"])) if row.get("grid") else "no",
                "yes" if row.get("visual_prompts") else "no",
            )
            for row in rows
        ],
    )


def image_sides(text: str) -> tuple[int, int]:
    """Height and width of what `--image-size` takes.

    Raises:
        UsageError: it is no size.
    """
    from pydantic import TypeAdapter, ValidationError

    from vlmprompt.config.keys import RUN_FIELDS, about
    from vlmprompt.config.models import ImageSize
    from vlmprompt.errors import UsageError

    try:
        size = TypeAdapter[int | tuple[int, int]](ImageSize).validate_python(text)
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"image_size = {text} (--image-size) is not allowed: it {reason}",
            hint=about("image_size", RUN_FIELDS["image_size"]),
        ) from None
    return (size, size) if isinstance(size, int) else size


def towers(spec: str, image_size: tuple[int, int] | None = None) -> dict[str, Any]:
    """What a backbone's towers are and which methods they serve; weights are not loaded where a description will do.

    Args:
        image_size: see `load_backbone`.

    Raises:
        VlmPromptError: see `load_backbone` and `architecture_of`.
    """
    from vlmprompt.backbones.capabilities import capabilities
    from vlmprompt.methods.served import refusals

    backbone, sizes = _asked(spec, image_size)
    return {
        "spec": spec,
        **asdict(capabilities(backbone)),
        "transform": asdict(backbone.preprocess),
        "parameters": sizes,
        "methods": refusals(backbone),
    }


def _asked(spec: str, image_size: tuple[int, int] | None) -> tuple[Backbone, dict[str, int]]:
    """The backbone, by shapes alone where it describes itself, and the numbers of its parameters."""
    from vlmprompt.backbones.load import architecture_of, load_backbone, require_sizes
    from vlmprompt.backbones.openclip.miniature import miniature, outline
    from vlmprompt.errors import CapabilityError

    if image_size is not None:
        require_sizes(spec)
    if not spec.startswith(_WITHOUT_DESCRIPTION):
        try:
            description = architecture_of(spec)
        except CapabilityError:  # a plugin's
            pass
        else:
            with warnings.catch_warnings():  # that a tokenizer is not at hand: nothing is read here
                warnings.simplefilter("ignore", UserWarning)
                whole = outline(description, image_size, name=spec)
                return miniature(description, spec, image_size), _sizes(whole)
    backbone = load_backbone(spec, image_size=image_size)
    return backbone, _sizes(backbone.model)


def _sizes(model: nn.Module) -> dict[str, int]:
    image = getattr(model, "visual", None)
    all_ = sum(p.numel() for p in model.parameters())
    of_image = 0 if image is None else sum(p.numel() for p in image.parameters())
    return {"all": all_, **({} if image is None else {"image": of_image, "text": all_ - of_image})}


def tower_page(data: dict[str, Any]) -> list[Table | str]:
    """The page for people."""
    transform, sizes = data["transform"], data["parameters"]
    grid = "none" if data["grid"] is None else f"{_by(data['grid'])}, {data['local']}"
    prompts = f"in any of {data['image_layers']} layers" if data["visual_prompts"] else "no"
    deep = f"in any of {data['text_layers']} layers" if data["text_layers"] else "no"
    deltas = [tower for tower in ("text", "image") if data[f"{tower}_deltas"]]
    statistics = "; ".join(f"{name} {', '.join(f'{v:g}' for v in transform[name])}" for name in ("mean", "std"))
    towers = Table(
        ("", data["spec"]),
        [
            ("text tower", data["text"]),
            ("context length", f"{data['context_length']} tokens"),
            ("shared prefix", "yes" if data["shared_prefix"] else "no"),
            ("deep text prompts", deep),
            ("image tower", data["image"]),
            ("images", f"{_by(data['image_size'])} pixels"),
            ("transform", f"{transform['resize_mode']}, {transform['interpolation']}; {statistics}"),
            ("local features", grid),
            ("visual prompts", prompts),
            ("weight deltas", f"in the {' and the '.join(deltas)} tower" if deltas else "no"),
            ("joint space", f"{data['joint_dim']} wide"),
            ("parameters", ", ".join(f"{name} {value / 1e6:.1f} M" for name, value in sizes.items())),
        ],
    )
    methods = [(name, "yes" if why is None else f"no: {why}") for name, why in data["methods"].items()]
    return [towers, "", Table(("method", "served"), methods)]


def _by(sides: tuple[int, int]) -> str:
    return " x ".join(map(str, sides))
