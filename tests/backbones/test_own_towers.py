"""Towers that are not open_clip's, through the public protocol: text, images, and methods on them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.backbones import own_towers
from tests.backbones.test_text import close
from vlmprompt.api import Backbone, CapabilityError, ImageNeeds, TextPrompts, build_method, load_backbone
from vlmprompt.backbones.capabilities import capabilities
from vlmprompt.plugins import host
from vlmprompt.registry import Source

NAMES = ["horse", "red_panda", "a rather long name of a tram"]


@pytest.fixture
def backbone() -> Iterator[Backbone]:
    source = Source("own", "own", "1.0")
    host().backbones.register("own-towers", target="tests.backbones.own_towers:OwnLoader", source=source)
    yield load_backbone("own-towers")
    host().backbones.withdraw(source)


def test_its_own_encoders_are_reproduced(backbone: Backbone) -> None:
    own = own_towers.model()
    texts = [f"a photo of a {name.replace('_', ' ')}." for name in NAMES]
    close(backbone.text.encode_template("a photo of a {}.", NAMES), torch.stack([own.text(text) for text in texts]))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    features = backbone.encode_image(images, ImageNeeds(local="value_block"))
    close(features.global_Bd, own.visual(images))
    assert features.local_BNc is not None
    close(features.local_BNc.mean(dim=1), own.visual(images))  # the head is linear


@pytest.mark.parametrize("chunk", ["auto", 1])
def test_a_context_gets_the_gradient_of_the_model_itself(backbone: Backbone, chunk: int) -> None:
    own = own_towers.model()
    ctx_VD = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
    prompts, classes = TextPrompts(ctx_VD[None]), backbone.text.class_tokens(NAMES)
    ours = backbone.text.encode(prompts, classes, chunk=chunk)[0]
    plain = []
    for name in NAMES:
        letters = own.text.letters(torch.tensor(own_towers.ids(name.replace("_", " ") + ".")))
        plain.append(own.text.network(torch.cat([ctx_VD, letters])[None])[0][0, -1])
    close(ours, torch.stack(plain))
    pair = [torch.autograd.grad(out.square().sum(), ctx_VD)[0] for out in (ours, torch.stack(plain))]
    close(*pair)


def test_methods_work_on_them(backbone: Backbone) -> None:
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    for name in ("zeroshot", "coop", "linear_probe"):
        assert build_method(name, backbone, NAMES)(images).logits.shape == (4, 3)
    assert capabilities(backbone).text == "recurrent, read at the last letter"


def test_what_they_cannot_do_is_said(backbone: Backbone) -> None:
    with pytest.raises(
        CapabilityError, match="method 'maple' needs a text tower that takes prompt tokens in its layers"
    ):
        build_method("maple", backbone, NAMES)
    prompts = TextPrompts(torch.zeros(1, 2, 16), deep={1: torch.zeros(1, 1, 16)})
    with pytest.raises(CapabilityError, match="takes no deep prompts"):
        backbone.text.encode(prompts, backbone.text.class_tokens(NAMES))
