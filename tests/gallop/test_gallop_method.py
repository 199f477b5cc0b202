"""GalLoP's sizes, options, draws and manners."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.backbones.types import ImageNeeds
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.testing import check_method
from vlmprompt_gallop.config import GalLoPConfig
from vlmprompt_gallop.gallop import settled_scales

NAMES = ["cat", "red_panda", "tench, fish"]
SMALL = {"topk": [1, 2, 3, 4]}  # 16 patches


def images(n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def gallop(backbone: Backbone, seed: int = 1, **options: Any) -> PromptMethod:
    return build_method("gallop", backbone, NAMES, SMALL | options, generator=torch.Generator().manual_seed(seed))


def config(**options: Any) -> GalLoPConfig:
    found = method_config("gallop", options)
    assert isinstance(found, GalLoPConfig)
    return found


test_rules = check_method("gallop", **SMALL)


# -- sizes ------------------------------------------------------------------------------------------------
def tower(width: int, patches: int, vit: bool) -> Any:
    """As much of a full-size backbone as initial values need."""
    words = torch.zeros(4, 512)
    text = SimpleNamespace(
        embed_words=lambda w: words, class_tokens=lambda names, **how: None, unknown_names=lambda names: []
    )
    vision = SimpleNamespace(local_width=width, n_local=patches, projection=None, has_prompts=vit, require=id)
    return SimpleNamespace(text=text, vision=vision, is_vit=vit, spec="a tower", device="cpu", dtype=torch.float32)


@pytest.mark.parametrize(
    ("width", "patches", "vit", "expected"), [(768, 196, True, 606_208), (1024, 49, False, 1_064_960)]
)
def test_parameter_counts_of_the_paper(width: int, patches: int, vit: bool, expected: int) -> None:
    method = build_method("gallop", tower(width, patches, vit), NAMES)
    assert sum(p.numel() for p in method.parameters()) == expected


def test_names_shapes_and_initial_values(tiny_backbone: Backbone) -> None:
    method = gallop(tiny_backbone, n_global=3)
    shapes = {name: tuple(t.shape) for name, t in method.trainable_state().items()}
    assert shapes == {
        "global_prompt": (3, 4, 64),
        "local_prompts": (4, 4, 64),
        "local_proj.linear.weight": (96, 96),
    }
    words = tiny_backbone.text.embed_words("a photo of a")
    assert all(torch.equal(prompt, words) for name in list(shapes)[:2] for prompt in method.get_parameter(name))
    assert torch.equal(method.get_parameter("local_proj.linear.weight"), torch.eye(96))
    longer = gallop(tiny_backbone, template="itap of the large {}")
    assert longer.get_parameter("local_prompts").shape == (4, 5, 64)


# -- scales -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "vit", "expected"),
    [
        ({}, True, (5, 10, 15, 20)),
        ({}, False, (5, 10, 15, 20)),
        ({"preset": "paper"}, True, (10, 20, 30, 40)),
        ({"preset": "paper"}, False, (5, 10, 15, 20)),
        ({"preset": "paper", "topk": [1, 2]}, True, (1, 2)),
        ({"n_local": 6}, True, (5, 10, 15, 20, 25, 30)),
        ({"n_local": 2, "k1": 3}, True, (3, 8)),
        ({"k1": 3, "dk": 3}, True, (3, 6, 9, 12)),
        ({"k1": 7, "dk": 0}, True, (7, 7, 7, 7)),
        ({"topk": [1, 4, 9]}, True, (1, 4, 9)),
        ({"topk": [8], "n_local": 3}, True, (8, 8, 8)),
        ({"topk": 8}, True, (8, 8, 8, 8)),
        ({"topk": None, "n_local": 2}, True, (196, 196)),
    ],
)
def test_scales(options: dict[str, Any], vit: bool, expected: tuple[int, ...]) -> None:
    assert settled_scales(config(**options), tower(768, 196, vit)) == expected


def test_scales_beyond_the_patches() -> None:
    few = tower(768, 16, True)
    assert settled_scales(config(topk=[2, 20]), few) == (2, 16)
    assert settled_scales(config(topk=99), few) == (16,) * 4  # the same for all was asked for
    assert settled_scales(config(), few) == (5, 10, 15, 16)  # capped, still different
    with pytest.raises(InputError, match=r"become \[9, 16, 16\]: backbone 'a tower' has 16 patches"):
        settled_scales(config(topk=[9, 17, 20]), few)
    assert settled_scales(config(topk=[9, 17, 20], allow_equal_scales=True), few) == (9, 16, 16)


def test_a_tower_without_patches() -> None:
    with pytest.raises(CapabilityError, match="gallop needs local image features, backbone 'a tower' has none"):
        build_method("gallop", tower(768, 0, True), NAMES)
    assert build_method("gallop", tower(768, 0, True), NAMES, {"use_local": False}).image_needs() == ImageNeeds()


# -- options ----------------------------------------------------------------------------------------------
def test_the_papers_preset() -> None:
    paper = config(preset="paper")
    assert (paper.topk, paper.prompt_dropout, paper.global_loss, paper.local_loss) == (
        "paper",
        "bernoulli",
        "sum",
        "sum",
    )
    assert config(preset="official") == config()
    assert config(preset="paper", local_loss="mean").local_loss == "mean"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"topk": [1, 2], "n_local": 3}, "topk lists 2 scales for 3 local prompts"),
        ({"topk": [0]}, "topk"),
        ({"topk": []}, "topk"),
        ({"topk": "offical"}, "topk"),
        ({"template": "a photo"}, "template"),
        ({"template": "{}"}, "template"),
        ({"template": "a {} photo"}, "template"),
        ({"use_global": False, "use_local": False}, "both off"),
        ({"dropout_rate": 1.5}, "dropout_rate"),
        ({"n_global": 0}, "n_global"),
        ({"prompt_dropout": "some"}, "prompt_dropout"),
        ({"n_globl": 3}, "n_globl"),
        ({"preset": "papre"}, "papre"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(**options)


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({}, []),
        ({"preset": "paper"}, []),
        ({"topk": [1, 2], "k1": 3}, ["k1"]),
        ({"topk": None, "dk": 3}, ["dk"]),
        ({"prompt_dropout": "none", "dropout_rate": 0.5}, ["dropout_rate"]),
        ({"global_loss": "sum"}, ["global_loss"]),
        ({"prompt_dropout": "none", "global_loss": "sum"}, []),
        ({"use_local": False, "topk": 3, "local_loss": "sum"}, ["topk", "local_loss"]),
        ({"use_global": False, "n_global": 2}, ["n_global"]),
    ],
)
def test_idle_options_are_warned_about(options: dict[str, Any], idle: list[str]) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config(**options).warn_of_idle_options()
    assert [str(w.message).split()[1] for w in caught] == idle


# -- branches ---------------------------------------------------------------------------------------------
def test_what_a_branch_does_not_use_is_not_there(tiny_backbone: Backbone) -> None:
    alone = gallop(tiny_backbone, use_local=False, topk="official")
    assert list(alone.trainable_state()) == ["global_prompt"]
    assert alone.image_needs() == ImageNeeds()
    output = alone(images())
    assert output.local is None and list(output.aux) == ["global_cosines_BKm", "image_Bd"]
    assert list(alone.loss(output, torch.tensor([0, 1])).parts) == ["global"]
    assert "local" not in alone.capabilities

    local = gallop(tiny_backbone, use_global=False)
    assert list(local.trainable_state()) == ["local_prompts", "local_proj.linear.weight"]
    output = local(images())
    assert output.global_cosines is None and [*output.aux] == [
        "local_topk_BKn",
        "local_text_nKd",
        "local_scales_n",
        "image_Bd",
    ]
    with pytest.raises(CapabilityError, match="no global branch"):
        local(images(), branch="global")
    assert list(gallop(tiny_backbone, learn_local_proj=False).trainable_state()) == ["global_prompt", "local_prompts"]


def test_words_that_are_not_learned_stay(tiny_backbone: Backbone) -> None:
    method = gallop(tiny_backbone, learn_global_prompts=False)
    assert "global_prompt" not in method.trainable_state()
    method.loss(method(images()), torch.tensor([0, 1])).total.backward()
    assert torch.equal(method.get_buffer("global_prompt")[0], tiny_backbone.text.embed_words("A photo of a"))


def test_with_nothing_to_learn_it_is_a_zero_shot_classifier(tiny_backbone: Backbone) -> None:
    fixed = {"learn_local_prompts": False, "learn_local_proj": False}
    local = gallop(tiny_backbone, use_global=False, topk=None, n_local=1, **fixed)
    assert "training_free" in local.capabilities
    text_Kd = torch.nn.functional.normalize(
        tiny_backbone.text.encode_sentences([f"A photo of a {n.replace('_', ' ')}" for n in NAMES]), dim=-1
    )
    features = tiny_backbone.encode_image(images(), ImageNeeds(local="value_block"))
    dense = torch.nn.functional.normalize(features.local_BNc, dim=-1).mean(dim=1) @ text_Kd.T
    torch.testing.assert_close(local(images()).logits, tiny_backbone.scale * dense, rtol=0, atol=2e-5)


# -- dropout ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("m", "rate", "kept"),
    [(4, 0.75, 1), (4, 0.0, 4), (4, 0.5, 2), (4, 0.9, 1), (4, 1.0, 1), (6, 0.75, 2), (1, 0.75, 1)],
)
def test_official_dropout_keeps_so_many(tiny_backbone: Backbone, m: int, rate: float, kept: int) -> None:
    method = gallop(tiny_backbone, n_global=m, dropout_rate=rate)
    index = method.dropout_draws(500)["dropout_idx"]  # type: ignore[operator]
    assert index.shape == (500, kept) and index.dtype == torch.int64
    assert set(index.flatten().tolist()) == set(range(m))
    if kept == m > 1:  # r = 0 is not "all prompts": indices are drawn with replacement
        assert any(len(set(row)) < m for row in index.tolist())


def test_bernoulli_dropout_keeps_a_share(tiny_backbone: Backbone) -> None:
    method = gallop(tiny_backbone, prompt_dropout="bernoulli", dropout_rate=0.75)
    mask = method.dropout_draws(4000)["dropout_mask"]  # type: ignore[operator]
    assert mask.shape == (4000, 4)
    assert mask.float().mean() == pytest.approx(0.25, abs=0.02)
    assert (
        not gallop(tiny_backbone, prompt_dropout="bernoulli", dropout_rate=1.0).dropout_draws(9)["dropout_mask"].any()
    )


def test_nothing_is_dropped_outside_training(tiny_backbone: Backbone) -> None:
    method = gallop(tiny_backbone).eval()
    assert method.dropout_draws(8) == {}  # type: ignore[operator]
    assert gallop(tiny_backbone, prompt_dropout="none").dropout_draws(8) == {}


def test_draws_come_from_the_methods_generator(tiny_backbone: Backbone) -> None:
    labels = torch.tensor([0, 1])

    def losses(seed: int) -> list[float]:
        method = gallop(tiny_backbone, seed)
        with torch.no_grad():
            method.get_parameter("global_prompt").add_(
                torch.randn(4, 4, 64, generator=torch.Generator().manual_seed(5)), alpha=0.1
            )
        return [method.loss(method(images()), labels).total.item() for _ in range(4)]

    state = torch.random.get_rng_state()
    first = losses(1)
    assert losses(1) == first
    assert losses(2) != first
    assert len(set(first)) > 1
    assert torch.equal(torch.random.get_rng_state(), state)


# -- training ---------------------------------------------------------------------------------------------
def step(method: PromptMethod, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    method.loss(method(images()), torch.tensor([0, 1])).total.backward()
    optimizer.step()


def spread(method: PromptMethod, name: str) -> float:
    """How far prompts that started as copies are apart after three steps, over how far they have come."""
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.1, momentum=0.9)
    start = method.get_parameter(name).detach().clone()
    for _ in range(3):
        step(method, optimizer)
    prompts = method.get_parameter(name).detach()
    return float((prompts - prompts[0]).abs().max() / (prompts - start).abs().max())


@pytest.mark.parametrize(
    ("options", "name", "part"),
    [
        ({"prompt_dropout": "none"}, "global_prompt", False),
        ({"prompt_dropout": "none", "global_loss": "sum"}, "global_prompt", False),
        ({"dropout_rate": 0.5}, "global_prompt", True),
        ({"prompt_dropout": "bernoulli", "dropout_rate": 0.5}, "global_prompt", True),
        ({"topk": 3}, "local_prompts", False),
        ({}, "local_prompts", True),
    ],
)
def test_copies_part_by_dropout_and_by_scale_alone(
    tiny_backbone: Backbone, options: dict[str, Any], name: str, part: bool
) -> None:
    """All prompts start as copies; nothing else parts them, to the bit."""
    apart = spread(gallop(tiny_backbone, **options), name)
    assert apart > 1e-2 if part else apart == 0


def test_gradients_of_prompts_that_are_no_copies_are_left_alone(tiny_backbone: Backbone) -> None:
    method = gallop(tiny_backbone, prompt_dropout="none", topk=(3, 3, 2))
    with torch.no_grad():  # not by a constant, which the tower's layer norms take out again
        own_VD = method.get_parameter("global_prompt")[1]
        own_VD += 0.1 * torch.randn(own_VD.shape, generator=torch.Generator().manual_seed(1))
    step(method, torch.optim.SGD(method.trainable_parameters(), lr=0.0))
    of_global, of_local = (method.get_parameter(name).grad for name in ("global_prompt", "local_prompts"))
    assert of_global is not None and of_local is not None
    assert not torch.allclose(of_global[0], of_global[1], rtol=0.1)
    assert torch.equal(of_local[0], of_local[1]) and not torch.allclose(of_local[0], of_local[2], rtol=0.1)


def test_underscores(tiny_backbone: Backbone) -> None:
    method = gallop(tiny_backbone)
    kept = gallop(tiny_backbone, keep_underscores=True)
    assert kept.classes.name_ids[1] != method.classes.name_ids[1]
    assert kept.classes.name_ids[0] == method.classes.name_ids[0]
    assert method.classes.tail_ids == kept.classes.tail_ids == ((49407,),) * 3  # no full stop


# -- shipped settings -------------------------------------------------------------------------------------
def resolved(data: str, **flags: Any) -> Any:
    base = {"method": "gallop", "data": data, "backbone": "ViT-B-16-quickgelu/openai"}
    return resolve(base | flags, env={}).run


@pytest.mark.parametrize(
    ("data", "epochs", "batch"),
    [
        ("coop:imagenet", 50, 128),
        ("coop:sun397", 200, 128),
        ("coop:eurosat", 200, 10),
        ("coop:dtd", 200, 32),
        ("folder:photos", 200, 32),
    ],
)
def test_the_released_codes_schedule(data: str, epochs: int, batch: int) -> None:
    train = resolved(data).train
    assert (train.epochs, train.batch_size) == (epochs, batch)
    assert (train.lr, train.momentum, train.weight_decay, train.warmup_epochs) == (0.002, 0.9, 0.01, 0)
    assert (train.optimizer, train.schedule, train.precision) == ("sgd", "cosine", "fp32")


def test_underscores_belong_to_the_protocol() -> None:
    assert resolved("coop:ucf101").options["keep_underscores"] is False
    assert resolved("coop:ucf101", protocol="gallop-code").options["keep_underscores"] is True
