"""Images of another size than a tower was built for, and the transform of each tower."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import open_clip
import pytest
import torch
from PIL import Image

from tests.backbones.image_towers import JOINT, image_tower
from tests.backbones.test_text import close
from tests.tiny_architectures import TINY_CONFIG
from vlmprompt.backbones.load import load_backbone
from vlmprompt.backbones.openclip.build import published_settings
from vlmprompt.backbones.openclip.image import vision_engine
from vlmprompt.backbones.openclip.image_size import resize_input, warn_of_size
from vlmprompt.backbones.openclip.miniature import outline
from vlmprompt.backbones.openclip.transforms import preprocess_config
from vlmprompt.backbones.types import ImageNeeds, VisualPrompts
from vlmprompt.errors import CapabilityError, InputError

STEPS = {"vit": 8, "clipa": 8, "coca": 8} | dict.fromkeys(
    ("siglip", "pe_core", "eva02", "relpos", "gap", "vitamin"), 16
)
STEPS |= dict.fromkeys(("swin", "convnext", "fastvit"), 32)


@pytest.mark.parametrize("kind", STEPS)
def test_a_rectangle_of_whole_patches_is_read(kind: str) -> None:
    visual, step = image_tower(kind), STEPS[kind]
    sides = (2 * step, 3 * step)
    resize_input(SimpleNamespace(visual=visual), sides, kind)
    engine = vision_engine(visual, JOINT, nullcontext, kind)
    assert engine.grid == (2, 3)
    assert preprocess_config(visual).sides == sides
    images = torch.randn(2, 3, *sides, generator=torch.Generator().manual_seed(0))
    found = engine.encode(images, ImageNeeds(local="value_block"), VisualPrompts())
    own = visual(images)
    close(found.global_Bd, own[0] if isinstance(own, tuple) else own)
    assert found.local_BNc is not None and found.local_BNc.shape == (2, 6, JOINT)


@pytest.mark.parametrize(("architecture", "step", "width"), [("ViT-B-16-SigLIP2", 16, 768), ("convnext_tiny", 32, 0)])
def test_an_outline_of_another_size(architecture: str, step: int, width: int) -> None:
    """A position for each patch, and none in a convolutional tower; the numbers are of the architectures."""
    config = open_clip.get_model_config(architecture)
    small = {**config, "text_cfg": {"context_length": 4, "vocab_size": 8, "width": 64, "heads": 1, "layers": 1}}
    own, other = (outline(small, size).visual for size in (None, (64, 96)))
    counts = [sum(p.numel() for p in tower.parameters()) for tower in (own, other)]
    assert counts[1] - counts[0] == width * ((64 // step) * (96 // step) - (224 // step) ** 2)
    assert vision_engine(other, config["embed_dim"], nullcontext, architecture).grid == (64 // step, 96 // step)


@pytest.mark.parametrize("kind", STEPS)
def test_a_size_that_does_not_divide_names_one_that_does(kind: str) -> None:
    visual, step = image_tower(kind), STEPS[kind]
    with pytest.raises(InputError, match=rf"{3 * step + 2} x {2 * step} .*'{kind}', of {step} x {step}") as error:
        resize_input(SimpleNamespace(visual=visual), (3 * step + 2, 2 * step), kind)
    assert error.value.hint == f"--image-size {3 * step}x{2 * step}"


def test_oblong_patches_divide_each_side_by_their_own() -> None:
    settings = {"image_size": (32, 32), "layers": 1, "width": 48, "patch_size": (16, 8), "head_width": 24}
    visual: Any = open_clip.model._build_vision_tower(JOINT, settings)
    with pytest.raises(InputError, match="of 16 x 8 pixels") as error:
        resize_input(SimpleNamespace(visual=visual), (40, 24), "oblong")
    assert error.value.hint == "--image-size 32x24"
    resize_input(SimpleNamespace(visual=visual), (48, 24), "oblong")
    engine = vision_engine(visual.eval(), JOINT, nullcontext, "oblong")
    assert engine.grid == (3, 3)
    images = torch.randn(2, 3, 48, 24, generator=torch.Generator().manual_seed(0))
    close(engine.encode(images, ImageNeeds(), VisualPrompts()).global_Bd, visual(images))


@pytest.mark.parametrize("new", [(4, 4), (3, 6), (2, 8), (8, 2)])
def test_positions_are_interpolated_over_the_grid_that_they_have(new: tuple[int, int]) -> None:
    """Cosines of row and column, at the places of the new grid; also where it has as many patches as the old one."""
    settings = {"image_size": (16, 64), "layers": 1, "width": 48, "patch_size": 8, "head_width": 24}
    visual: Any = open_clip.model._build_vision_tower(JOINT, settings)
    old = (2, 8)

    def waves(rows: int, columns: int) -> torch.Tensor:
        """Along each side the middles of patches, in parts of the picture."""
        down, right = ((torch.arange(n) + 0.5) / n for n in (rows, columns))
        return torch.stack([down[:, None].expand(-1, columns), right.expand(rows, -1).cos()]).flatten(1).T

    with torch.no_grad():
        visual.positional_embedding[1:, :2] = waves(*old)
    before = visual.positional_embedding.detach().clone()
    resize_input(SimpleNamespace(visual=visual), (8 * new[0], 8 * new[1]), "wide")
    after = visual.positional_embedding
    assert torch.equal(after[0], before[0]) and len(after) == 1 + new[0] * new[1]
    if new == old:
        assert torch.equal(after, before)
        return
    middle = tuple(slice(1, -1) if n > 2 else slice(None) for n in new)  # beyond the border there is nothing to see
    found = after[1:, :2].unflatten(0, new)[middle]
    assert found.numel() >= 8
    torch.testing.assert_close(found, waves(*new).unflatten(0, new)[middle], atol=0.08, rtol=0)


def test_a_side_shorter_than_a_patch_is_refused() -> None:
    with pytest.raises(InputError) as error:
        resize_input(SimpleNamespace(visual=image_tower("vit")), (8, 2), "vit")
    assert error.value.hint == "--image-size 8"


def test_a_tower_that_reads_other_images_than_its_trunk_was_made_for_is_told() -> None:
    visual = image_tower("vitamin")
    side = visual.image_size[0]
    warn_of_size(SimpleNamespace(visual=visual), "one")  # warns of nothing, which would be an error
    visual.image_size = (side - 16, side - 16)
    said = rf"'one' reads images of {side - 16} x {side - 16} .* made for {side} x {side}: --image-size {side} "
    with pytest.warns(UserWarning, match=said):
        warn_of_size(SimpleNamespace(visual=visual), "one")


def test_an_attention_pool_over_a_map_reads_one_size() -> None:
    with pytest.raises(CapabilityError, match="'resnet', a ModifiedResNet, reads images of one size alone: 64 x 64"):
        resize_input(SimpleNamespace(visual=image_tower("resnet")), (96, 96), "resnet")


def test_the_size_is_that_of_the_trunk_as_it_was_built() -> None:
    """open_clip builds timm's trunks at the size of their names, and believes the description."""
    for kind, sides in {"siglip": (64, 64), "eva02": (64, 64), "vitamin": (64, 64), "convnext": (32, 32)}.items():
        visual = image_tower(kind)
        visual.image_size = (32, 32)
        assert preprocess_config(visual).sides == sides, "only ConvNeXt reads any size"
        assert visual(torch.zeros(1, 3, *sides)).isfinite().all()


def test_a_map_of_a_size_that_does_not_divide_has_the_grid_that_comes_out() -> None:
    """In memory there is no such check: ConvNeXt drops the pixels that are left over at every stage."""
    visual = image_tower("convnext")
    visual.image_size = (100, 68)
    engine = vision_engine(visual, JOINT, nullcontext, "convnext")
    assert engine.grid == (3, 2)
    found = engine.encode(torch.zeros(1, 3, 100, 68), ImageNeeds(local="tokens"), VisualPrompts())
    assert found.local_BNc is not None and found.local_BNc.shape[1] == 6


def test_weights_at_another_size_are_open_clips(tiny_architecture: str, tmp_path: Path) -> None:
    """open_clip interpolates while it reads the file, this code in the model that is read."""
    file = tmp_path / "weights.pt"
    with torch.random.fork_rng(devices=[]):
        model = open_clip.model.CLIP(**TINY_CONFIG)
    torch.save(model.state_dict(), file)
    theirs = open_clip.create_model(tiny_architecture, pretrained=str(file), force_image_size=(24, 48)).eval()
    ours = load_backbone(f"{tiny_architecture}/{file}", image_size=(24, 48), quick_gelu=False)
    images = torch.randn(2, 3, 24, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        close(ours.encode_image(images).global_Bd, theirs.encode_image(images))
    assert ours.vision.grid == (3, 6)
    assert ours.identity.image_size == (24, 48)
    assert ours.transform(train=False)(Image.new("RGB", (50, 40))).shape == (3, 24, 48)
    assert ours.transform(train=True)(Image.new("RGB", (50, 40))).shape == (3, 24, 48)


@pytest.mark.parametrize("spec", ["doodle-clip", "tiny-vit"])
def test_a_loader_that_knows_no_sizes_says_so(spec: str, tiny_spec: Any) -> None:
    with pytest.raises(CapabilityError, match=f"backbone '{spec}' reads images of one size alone"):
        load_backbone(spec, image_size=64)


def test_transforms_are_those_of_the_published_weights() -> None:
    """Facts from open_clip's own list; towers of random weights have them, too."""
    half = (0.5, 0.5, 0.5)
    assert published_settings("ViT-B-16-SigLIP2")["resize_mode"] == "squash"
    assert published_settings("PE-Core-T-16-384") == {
        "mean": half,
        "std": half,
        "interpolation": "bilinear",
        "resize_mode": "squash",
    }
    mobile = published_settings("MobileCLIP2-S0")
    assert (mobile["mean"], mobile["std"]) == ((0, 0, 0), (1, 1, 1))
    assert published_settings("coca_base") == {}, "there are none"


def test_settings_where_weights_differ_are_those_of_the_tag() -> None:
    by_tag = {
        tag: published_settings("ViT-H-14-CLIPA-336", tag)
        for tag in open_clip.list_pretrained_tags_by_model("ViT-H-14-CLIPA-336")
    }
    assert len(by_tag) > 1
    for tag, settings in by_tag.items():
        config = open_clip.get_pretrained_cfg("ViT-H-14-CLIPA-336", tag)
        assert settings["mean"] == config["mean"], tag
