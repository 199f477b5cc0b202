"""Models that are built to be filled: no random numbers, and the same model once the weights are in it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.openclip.build import random_clip
from vlmprompt.backbones.openclip.clip import filled
from vlmprompt.backbones.openclip.tokens import bpe_tokenizer
from vlmprompt.backbones.openclip.unfilled import unfilled
from vlmprompt.doodles.clip.parts import architecture, stored

TEXT = {"context_length": 8, "vocab_size": 50, "width": 16, "heads": 2, "layers": 1}
VIT = {"image_size": 16, "patch_size": 8, "width": 16, "head_width": 8, "layers": 1}
RESNET = {"image_size": 32, "width": 8, "head_width": 8, "layers": [1, 1, 1, 1]}
TIMM = {"image_size": 32, "timm_model_name": "vit_tiny_patch16_224", "timm_pool": "avg", "timm_proj": "linear"}


def _clip(vision: dict[str, Any]) -> Callable[[], nn.Module]:
    return lambda: open_clip.model.CLIP(embed_dim=16, vision_cfg=dict(vision), text_cfg=dict(TEXT))


def _everything(model: nn.Module) -> dict[str, Tensor]:
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


@pytest.mark.parametrize("vision", [VIT, RESNET, TIMM], ids=["vit", "resnet", "timm"])
def test_a_filled_model_is_the_model(vision: dict[str, Any]) -> None:
    build = _clip(vision)
    torch.manual_seed(0)
    model = build()
    before = torch.get_rng_state()
    with unfilled():
        other = build()
    assert torch.equal(torch.get_rng_state(), before)  # nothing was drawn
    other.load_state_dict(model.state_dict())
    expected, found = _everything(model), _everything(other)
    assert list(expected) == list(found)
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor), name


def test_what_open_clip_loads_by_itself_fills_all(tiny_architecture: str, tmp_path: Path) -> None:
    """A published tag goes this way; weights that leave a parameter out are refused."""
    model = open_clip.create_model(tiny_architecture)
    file, short = tmp_path / "weights.safetensors", tmp_path / "short.safetensors"
    state = model.state_dict()
    save_file(state, file)
    save_file({name: tensor for name, tensor in state.items() if name != "text_projection"}, short)
    with unfilled():
        found = _everything(open_clip.create_model(tiny_architecture, pretrained=str(file)))
        with pytest.raises(RuntimeError, match="text_projection"):
            open_clip.create_model(tiny_architecture, pretrained=str(short))
    assert all(torch.equal(found[name], tensor) for name, tensor in _everything(model).items())


def test_outside_numbers_are_drawn_as_ever() -> None:
    with unfilled():
        kept = torch.ones(3).normal_()
    assert kept.tolist() == [1, 1, 1]
    torch.manual_seed(0)
    assert not torch.equal(torch.ones(3).normal_(), kept)


def test_the_built_in_model_is_open_clips() -> None:
    """Same names in the same order, same features, same tokens, as open_clip's own modules give."""
    state, _ = stored("vit")
    theirs: Any = random_clip(architecture("vit"), seed=0)
    theirs.load_state_dict(state)
    theirs.eval()
    ours = filled(architecture("vit"), state).eval()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    texts = ["a photo of a cat", "Two dogs' lives & a 7-legged spider", ""]
    ids, expected_ids = bpe_tokenizer()(texts), open_clip.get_tokenizer("ViT-B-32")(texts)
    assert torch.equal(ids, expected_ids)
    with torch.no_grad():
        for unit in (False, True):
            for way, given in (("encode_image", images), ("encode_text", ids)):
                found, expected = (getattr(model, way)(given, normalize=unit) for model in (ours, theirs))
                torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["doodle-clip", "doodle-clip-rn"])
def test_built_in_weights_come_from_their_files_and_draw_nothing(name: str) -> None:
    before = torch.get_rng_state()
    backbone = load_backbone(name)
    assert torch.equal(torch.get_rng_state(), before)
    state, _ = stored("vit" if name == "doodle-clip" else "resnet")
    model: Any = backbone.model
    assert model.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[key]) for key, tensor in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.parameters()) and not model.training
