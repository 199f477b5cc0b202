"""Bloom's sizes, initial values, options and manners."""

from __future__ import annotations

import tomllib
import warnings
from importlib import resources

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.bloom.shim import backbone_of
from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.testing import check_method

NAMES = ["cat", "red_panda", "tench, fish"]
FUSIONS = ("gate", "add", "concat", "routing")

test_rules = check_method("bloom")
test_rules_of_routing = check_method("bloom", fusion="routing", gate_init="uniform")


def images() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def bloom(backbone, seed: int = 1, **options: object) -> PromptMethod:
    return build_method("bloom", backbone, NAMES, options, generator=torch.Generator().manual_seed(seed))


def count(**options: object) -> int:
    return sum(p.numel() for p in bloom(backbone_of(), **options).parameters())


# By hand for widths 768 and 512, 12 layers, L = 2, d_m = 64; a layer has 2,560 prompt values, 2 * d_m * 1,280
# weights and 2 * d_m + 1,280 biases in its bottlenecks, and 4 gates.
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, 2_013_744),
        ({"bias": False}, 1_996_848),
        ({"n_ctx": 16}, 2_228_784),
        ({"depth": 2, "n_ctx": 1}, 333_064),
        ({"direction": "v2l"}, 1_020_696),
        ({"direction": "l2v"}, 1_023_768),
        ({"d_m": 16}, 12 * (2_560 + 16 * 2_562 + 1_280 + 4)),
        ({"d_m": 32}, 12 * (2_560 + 32 * 2_562 + 1_280 + 4)),
        ({"d_m": 128}, 12 * (2_560 + 128 * 2_562 + 1_280 + 4)),
        ({"d_m": 256}, 12 * (2_560 + 256 * 2_562 + 1_280 + 4)),
        ({"fusion": "add"}, 2_013_744 - 48),
        ({"fusion": "concat"}, 2_013_744 - 48),
        ({"fusion": "routing"}, 2_013_744),
        ({"interval": [1, 12]}, 2_013_744 // 12 * 11),
    ],
)
def test_parameter_counts_at_vit_b_16(options, expected):
    assert count(**options) == expected


def test_parameter_names_and_shapes(tiny_backbone):
    shapes = {n: tuple(p.shape) for n, p in bloom(tiny_backbone, depth=2, d_m=8).named_parameters()}
    expected = {"visual_prompts": (2, 2, 96), "text_prompts": (2, 2, 64), "gate_v": (2, 2), "gate_l": (2, 2)}
    for i in range(2):
        for name, d_in, d_out in (("v2l", 96, 64), ("l2v", 64, 96)):
            expected |= {
                f"{name}.{i}.reduce.weight": (8, d_in),
                f"{name}.{i}.reduce.bias": (8,),
                f"{name}.{i}.expand.weight": (d_out, 8),
                f"{name}.{i}.expand.bias": (d_out,),
            }
    assert shapes == expected
    assert set(bloom(tiny_backbone, depth=2, d_m=8, interval=None).trainable_state()) == set(expected)


@pytest.mark.parametrize(("direction", "absent"), [("v2l", ("l2v", "gate_v")), ("l2v", ("v2l", "gate_l"))])
def test_what_a_direction_does_not_use_is_not_there(tiny_backbone, direction, absent):
    names = list(bloom(tiny_backbone, direction=direction).trainable_state())
    assert not [n for n in names if n.startswith(absent)]
    assert len(bloom(tiny_backbone, direction=direction, fusion="routing").sample_draws()) == 1


# -- initial values -------------------------------------------------------------------------------------
def test_text_starts_from_the_template_in_the_first_layer_only(tiny_backbone):
    words = tiny_backbone.text.embed_words("a photo of a")

    def initial(**options: object) -> torch.Tensor:
        return bloom(tiny_backbone, **options).trainable_state()["text_prompts"]

    prompts = initial(n_ctx=2)
    assert torch.equal(prompts[0], words[:2])
    assert 0.016 < prompts[1:].std() < 0.024
    long = initial(n_ctx=6)
    assert torch.equal(long[0, :4], words)
    assert 0.014 < long[0, 4:].std() < 0.026
    every = initial(n_ctx=3, template_all=True)
    assert all(torch.equal(layer, words[:3]) for layer in every)
    later = initial(n_ctx=2, interval=[2, 4])
    assert not torch.equal(later[0], words[:2])


def test_visual_prompts_start_gaussian():
    for std in (0.02, 0.2):
        prompts = bloom(backbone_of(), visual_std=std).trainable_state()["visual_prompts"]
        assert 0.95 * std < prompts.std() < 1.05 * std


def test_bottlenecks_start_as_pytorch_starts_a_linear():
    """Uniform within 1/sqrt(fan in), weights and biases."""
    state = bloom(backbone_of(), d_m=64).trainable_state()
    for name, fan_in in (("v2l.3.reduce", 768), ("v2l.3.expand", 64), ("l2v.0.reduce", 512), ("l2v.0.expand", 64)):
        bound = fan_in**-0.5
        assert 0.98 * bound < state[f"{name}.weight"].abs().max() <= bound
        assert 0.9 * bound < state[f"{name}.bias"].abs().max() <= bound
        assert state[f"{name}.weight"].std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


def test_gates_start_equal_or_uniform(tiny_backbone):
    assert bloom(tiny_backbone).gate_v.tolist() == [[0.0, 0.0]] * 3
    drawn = bloom(tiny_backbone, gate_init="uniform")
    assert drawn.gate_v.min() >= 0 and drawn.gate_l.max() <= 1 and drawn.gate_v.std() > 0.05


# -- where prompts stand ---------------------------------------------------------------------------------
@settings(max_examples=40)
@given(
    n_ctx=st.integers(1, 8),
    fusion=st.sampled_from(FUSIONS),
    direction=st.sampled_from(["both", "v2l", "l2v"]),
    interval=st.sampled_from([[1, 4], [2, 4], [3, 4], [1, 2]]),
)
def test_class_names_are_never_overwritten(tiny_backbone, n_ctx, fusion, direction, interval):
    prompts = bloom(tiny_backbone, n_ctx=n_ctx, fusion=fusion, direction=direction, interval=interval).text_prompts()
    slots = prompts.ctx.shape[1]
    assert slots == (2 * n_ctx if fusion == "concat" and direction != "l2v" else n_ctx)
    assert all(deep.shape[1] == slots for deep in prompts.deep.values())
    assert prompts.words.split() == ["a", "photo", "of", "a"][slots:]


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("n_ctx", range(1, 9))
def test_every_class_name_is_read(tiny_backbone, fusion, n_ctx):
    """Texts that differ in their name only have different features, also with the first name token alone."""
    method = bloom(tiny_backbone, n_ctx=n_ctx, fusion=fusion)
    names = ["cat", "dog", "tench, fish", "bench, fish", "tench, dish"]
    unit_Kd = method.with_classes(names).encode_text().unit_PKd[0]
    cosines = unit_Kd @ unit_Kd.T - 2 * torch.eye(len(names))
    assert cosines.max() < 1 - 1e-5


def test_frozen_words_stand_before_an_interval(tiny_backbone):
    words = tiny_backbone.text.embed_words("a photo of a")
    prompts = bloom(tiny_backbone, n_ctx=6, interval=[2, 4]).text_prompts()
    assert torch.equal(prompts.ctx[0], torch.cat([words, words[:2]]))
    assert not prompts.ctx.requires_grad
    assert sorted(prompts.deep) == [1, 2]


# -- training and classes --------------------------------------------------------------------------------
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("direction", ["both", "v2l", "l2v"])
def test_only_its_own_parameters_train(tiny_model, tiny_backbone, fusion, direction):
    method = bloom(tiny_backbone, fusion=fusion, direction=direction, d_m=8).train()
    towers = {n: p.clone() for n, p in tiny_model.named_parameters()}
    optimizer = torch.optim.SGD(method.trainable_parameters(), lr=0.1)
    start = {n: t.clone() for n, t in method.trainable_state().items()}
    for _ in range(2):
        optimizer.zero_grad()
        method.loss(method(images()), torch.tensor([0, 1])).total.backward()
        if fusion != "routing":  # where what is not chosen has no gradient
            assert all(p.grad.abs().max() > 0 for p in method.parameters())
            assert method.parameter("text_prompts").grad.abs().amax(dim=(1, 2)).min() > 0
            assert method.parameter("visual_prompts").grad.abs().amax(dim=(1, 2)).min() > 0
        optimizer.step()
    unchanged = [n for n, t in method.trainable_state().items() if torch.equal(t, start[n])]
    assert fusion == "routing" or unchanged == []
    assert len(unchanged) < len(start)
    for name, parameter in tiny_model.named_parameters():
        assert parameter.grad is None and not parameter.requires_grad
        assert torch.equal(parameter, towers[name])


def test_text_prompts_get_a_gradient_through_the_text_alone(tiny_backbone):
    """Appended behind the end-of-text token (the paper's eq. 12, read literally) it would be exactly zero."""
    method = bloom(tiny_backbone, direction="v2l")
    method.encode_text().unit_PKd.square().mul(torch.arange(32)).sum().backward()
    assert method.parameter("text_prompts").grad.abs().amax(dim=(1, 2)).min() > 1e-4


def test_image_features_cannot_be_cached(tiny_backbone):
    method = bloom(tiny_backbone)
    assert method.image_needs().grad
    assert "feature_cache" not in method.capabilities


def test_training_draws_noise_and_evaluation_does_not(tiny_backbone):
    method = bloom(tiny_backbone, fusion="routing")
    assert set(method.sample_draws()) == {"gumbel_v", "gumbel_l"}
    assert bloom(tiny_backbone).sample_draws() == {}
    state = method.rng_state()
    first = method.train()(images()).logits
    assert not torch.equal(method.rng_state(), state)
    method.set_rng_state(state)
    assert torch.equal(method(images()).logits, first)
    state = method.rng_state()
    method.eval()(images())
    assert torch.equal(method.rng_state(), state)


def test_gumbel_noise_has_its_moments(tiny_backbone):
    """Mean: Euler's constant 0.5772; variance: pi^2/6 = 1.6449."""
    method = bloom(tiny_backbone, fusion="routing")
    draws = torch.cat([method.sample_draws()["gumbel_v"] for _ in range(2000)])
    assert draws.mean() == pytest.approx(0.5772, abs=0.05)
    assert draws.var() == pytest.approx(1.6449, abs=0.12)


def test_gates_are_reported_per_layer(tiny_backbone):
    method = bloom(tiny_backbone, interval=[2, 4])
    method.gate_v.data[:] = torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    shown = method.diagnostics()
    shares = {f"gate_{side}.{layer}.cross" for side in "vl" for layer in (2, 3)}
    assert set(shown) == shares | {f"gate_{side}.{what}" for side in "vl" for what in ("spread", "change")}
    assert shown["gate_v.2.cross"] == 0.5
    assert shown["gate_v.3.cross"] == pytest.approx(0.7310586)  # e / (1 + e)
    assert bloom(tiny_backbone, fusion="add").diagnostics() == {}


def test_how_far_gates_are_apart_and_have_moved(tiny_backbone):
    """By hand: shares of e^x / (1 + e^x) for gates (0, x)."""
    method = bloom(tiny_backbone)
    assert [method.diagnostics()[f"gate_{side}.{what}"] for side in "vl" for what in ("spread", "change")] == [0.0] * 4
    method.gate_v.data[:] = torch.tensor([[0.0, 1.0], [0.0, 0.0], [0.0, -2.0]])
    shown = method.diagnostics()
    assert shown["gate_v.spread"] == pytest.approx(0.7310586 - 0.1192029, abs=1e-6)
    assert shown["gate_v.change"] == pytest.approx(0.5 - 0.1192029, abs=1e-6)  # from equal shares
    assert (shown["gate_l.spread"], shown["gate_l.change"]) == (0.0, 0.0)


def test_gates_that_begin_elsewhere_move_from_there(tiny_backbone):
    """A resumed run makes its method anew and then loads the state: the start is that of the seed."""
    method, other = (bloom(tiny_backbone, gate_init="uniform") for _ in range(2))
    assert method.diagnostics()["gate_v.change"] == 0.0 < method.diagnostics()["gate_v.spread"]
    first = method.gate_v.detach().clone()
    method.gate_v.data[:, 1] += 1.0
    moved = (method.gate_v.softmax(dim=-1) - first.softmax(dim=-1))[:, 1].abs().max().item()
    other.load_trainable_state(method.trainable_state())
    for own in (method, other):
        assert own.diagnostics()["gate_v.change"] == pytest.approx(moved, abs=1e-6) and moved > 0.1


def test_gates_as_a_table_by_hand(tiny_backbone):
    """Shares of e^x / (1 + e^x) for gates (0, x): 0.881 for 2, 0.269 for -1, 0.731 for 1."""
    method = bloom(tiny_backbone, interval=[2, 4])
    method.gate_v.data[:] = torch.tensor([[0.0, 2.0], [5.0, 4.0]])
    method.gate_l.data[:] = torch.tensor([[0.0, 0.0], [-1.0, 0.0]])
    (table,) = method.learned_tables()
    assert table.columns == ["layer", "image tower from text (l2v)", "text tower from image (v2l)"]
    assert table.rows == [
        ["2", "0.881", "0.500"],
        ["3", "0.269", "0.731"],
        ["mean", "0.575", "0.616"],
        ["spread", "0.612", "0.231"],
    ]


@pytest.mark.parametrize(("direction", "column"), [("l2v", "image tower"), ("v2l", "text tower")])
def test_a_table_of_one_direction(tiny_backbone, direction, column):
    (table,) = bloom(tiny_backbone, direction=direction).learned_tables()
    assert len(table.columns) == 2 and table.columns[1].startswith(column)
    assert [row[1] for row in table.rows] == ["0.500"] * 3 + ["0.500", "0.000"]


def test_a_table_of_routing_says_what_is_taken(tiny_backbone):
    """In eval mode the larger gate; of equal ones the own, as the fused prompts say."""
    method = bloom(tiny_backbone, fusion="routing", direction="v2l").eval()
    method.gate_l.data[:] = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    (table,) = method.learned_tables()
    assert [row[1] for row in table.rows[:3]] == ["0.731 (cross)", "0.269 (own)", "0.500 (own)"]
    own = method.parameter("text_prompts")
    prompts = method.text_prompts()
    fused = [prompts.ctx[0], *(prompts.deep[layer][0] for layer in (1, 2))]
    assert [torch.equal(*pair) for pair in zip(fused, own, strict=True)] == [False, True, True]
    assert "Routing takes all" in table.caption


def test_without_gates_there_is_no_table(tiny_backbone):
    assert list(bloom(tiny_backbone, fusion="add").learned_tables()) == []


@pytest.mark.parametrize(("direction", "sides"), [("both", "vl"), ("v2l", "l"), ("l2v", "v")])
def test_gradients_of_gates_against_those_of_prompts(tiny_backbone, direction, sides):
    method = bloom(tiny_backbone, direction=direction)
    loss = method.loss(method(images()), torch.tensor([0, 2])).total
    tensors = dict(method.named_parameters())
    own = {"v": ("gate_v", "visual_prompts"), "l": ("gate_l", "text_prompts")}
    names = [name for side in sides for name in own[side]]
    gradients = torch.autograd.grad(loss, [tensors[name] for name in names], retain_graph=True)
    flat = [g.double().flatten() for g in gradients]
    expected = {name: g.dot(g).sqrt().item() for name, g in zip(names, flat, strict=True)}
    loss.backward()
    found = {name: value.item() for name, value in method.observe_gradients().items()}
    expected |= {f"gate_{side}.ratio": expected[own[side][0]] / expected[own[side][1]] for side in sides}
    assert found == pytest.approx(expected, rel=1e-5) and min(found.values()) > 0


def test_without_gates_or_gradients_there_is_nothing_to_say(tiny_backbone):
    assert bloom(tiny_backbone, fusion="add").observe_gradients() == {}
    found = bloom(tiny_backbone).observe_gradients()
    assert found["gate_v"] == found["visual_prompts"] == 0 and found["gate_v.ratio"].isnan()


# -- options ---------------------------------------------------------------------------------------------
def test_default_depth_is_twelve_or_the_shallower_tower(tiny_backbone):
    assert bloom(backbone_of(layers=24, text_layers=16)).layers == range(12)
    assert bloom(backbone_of(layers=12, text_layers=6)).layers == range(6)
    assert bloom(tiny_backbone).layers == range(3)
    assert bloom(backbone_of(), depth=5).layers == range(5)
    assert bloom(backbone_of(), interval=[4, 12]).layers == range(3, 11)
    assert bloom(backbone_of(), interval=[1, 13]).layers == range(12)


@pytest.mark.parametrize("options", [{"depth": 4}, {"interval": [2, 5]}])
def test_more_layers_than_there_are(tiny_backbone, options):
    with pytest.raises(UsageError, match="has 3 text and 3 image layers") as caught:
        bloom(tiny_backbone, **options)
    assert "depth <= 3" in caught.value.hint


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 2, "interval": [1, 3]}, "depth and interval both say"),
        ({"interval": [0, 3]}, r"must be \[a, b\) with 1 <= a < b"),
        ({"interval": [3, 3]}, r"must be \[a, b\) with 1 <= a < b"),
        ({"fusion": "mix"}, "option fusion = 'mix' of method 'bloom'"),
        ({"n_ctx": 0}, "option n_ctx = 0"),
        ({"temperature": 0}, "option temperature = 0"),
    ],
)
def test_bad_options(tiny_backbone, options, message):
    with pytest.raises(UsageError, match=message):
        bloom(tiny_backbone, **options)


@pytest.mark.parametrize(
    ("options", "idle"),
    [
        ({"temperature": 2.0}, "temperature"),
        ({"gate_init": "uniform", "fusion": "add"}, "gate_init"),
        ({"after_ln_pre": True, "interval": [2, 4]}, "after_ln_pre"),
    ],
)
def test_options_without_effect_are_said(tiny_backbone, options, idle):
    with pytest.warns(UserWarning, match=f"option {idle} of bloom has no effect"):
        bloom(tiny_backbone, **options)


def test_used_options_are_not_warned_about(tiny_backbone):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bloom(tiny_backbone, temperature=2.0, fusion="routing", gate_init="uniform", after_ln_pre=True)


def test_resnet_is_refused_by_name(tiny_resnet):
    with pytest.raises(CapabilityError, match=r"method 'bloom' needs .* ViT.*'tiny-rn' has none"):
        bloom(tiny_resnet)


def test_checkpoint_of_another_shape_is_refused(tiny_backbone):
    state = bloom(tiny_backbone, d_m=8).trainable_state()
    with pytest.raises(InputError, match=r"tensor 'v2l.0.reduce.weight' has shape \(8, 96\)"):
        bloom(tiny_backbone).load_trainable_state(state)
    with pytest.raises(InputError, match="lacks tensor 'gate_l'"):
        bloom(tiny_backbone).load_trainable_state(bloom(tiny_backbone, fusion="add").trainable_state())


def test_every_option_says_what_it_is():
    for name, field in type(method_config("bloom")).model_fields.items():
        assert field.description and ("paper" in field.description or "code" in field.description), name


def test_shipped_schedules():
    """The paper's: 5 epochs at 0.0035, batch 4; transferred from a source set: 2 at 0.0026, depth 2, L 1."""
    text = resources.files("vlmprompt_bloom").joinpath("overrides.toml").read_text()
    plain, cross, doodles = tomllib.loads(text)["override"]
    assert "when" not in plain and cross["when"] == {"setting": "cross-dataset"}
    assert plain["train"] == {"epochs": 5, "lr": 0.0035, "batch_size": 4}
    assert cross["train"] == {"epochs": 2, "lr": 0.0026, "batch_size": 4}
    assert "doodles" in doodles["when"]["dataset"] and doodles["train"]["max_steps"] == 600
    for override in (plain, cross, doodles):
        TrainConfig(**override["train"])
    assert method_config("bloom", cross["options"]).model_dump()["depth"] == 2


def test_loss_is_cross_entropy_of_scaled_cosines(tiny_backbone):
    method = bloom(tiny_backbone)
    output, labels = method(images()), torch.tensor([2, 0])
    log_p = output.logits - output.logits.exp().sum(dim=-1, keepdim=True).log()
    by_hand = -(log_p[0, 2] + log_p[1, 0]) / 2
    torch.testing.assert_close(method.loss(output, labels).total, by_hand)
    assert F.cosine_similarity(output.logits, output.global_cosines).min() > 0.999
