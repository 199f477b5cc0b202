"""What is particular to each baseline: sizes, initial values, draws, averages, equalities with other methods."""

from __future__ import annotations

import warnings

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tests.baselines.cases import LABELS, NAMES, build, images
from tests.bloom.shim import backbone_of
from vlmprompt.backbones.types import ImageNeeds, TextPrompts
from vlmprompt.errors import InputError, UsageError
from vlmprompt.methods.build import build_method, method_config
from vlmprompt.methods.contract import PromptMethod


# -- sizes: ViT-B/16 is 768 and 512 wide, 12 layers, joint width 512 ---------------------------------------
@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("cocoop", {}, 35_360),  # 4 * 512 + (512 * 32 + 32) + (32 * 512 + 512)
        ("maple", {}, 3_555_072),  # 9 * (2 * 512 + 512 * 768 + 768)
        ("maple", {"depth": 3}, 1_185_024),
        ("vpt", {}, 73_728),  # 12 * 8 * 768
        ("vpt", {"preset": "shallow"}, 6_144),
        ("ivlp", {}, 30_720),  # 12 * 2 * (512 + 768)
        ("ivlp", {"n_ctx_text": 4, "depth_vision": 0}, 24_576),  # 12 * 4 * 512
        ("promptsrc", {}, 46_080),  # 9 * 4 * (512 + 768)
        ("proda", {}, 262_144),  # 32 * 16 * 512
        ("kgcoop", {}, 2_048),  # 4 * 512
        ("locoop", {}, 8_192),  # 16 * 512
        ("plot", {}, 32_768),  # 4 * 16 * 512
    ],
)
def test_parameter_counts_at_vit_b_16(name, options, expected):
    method = build_method(name, backbone_of(), [f"class {i}" for i in range(10)], options)
    assert sum(p.numel() for p in method.trainable_parameters()) == expected


# -- initial values ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("name", "option"), [("maple", "n_ctx"), ("ivlp", "n_ctx_text"), ("promptsrc", "n_ctx_text")])
def test_text_starts_from_words_in_the_first_layer(tiny_backbone, name, option):
    words = tiny_backbone.text.embed_words("a photo of a")
    for n_ctx, rest in ((1, "photo of a"), (2, "of a"), (4, "")):
        method = build(tiny_backbone, name, **{option: n_ctx})
        prompts = method.parameter("text_prompts")
        assert torch.equal(prompts[0], words[:n_ctx])
        assert 0.012 < prompts[1:].std() < 0.028
        assert method.text_prompts().words == rest
    for options in ({option: 5}, {"ctx_init": None}):
        method = build(tiny_backbone, name, **options)
        assert 0.012 < method.parameter("text_prompts")[0].std() < 0.028
        assert method.text_prompts().words == ""


def test_initial_words_are_cut_between_words(tiny_backbone):
    assert len(tiny_backbone.text.embed_words("silverado")) == 1
    words = "photograph_of zyzzyva"
    tokens = len(tiny_backbone.text.embed_words("zyzzyva"))
    assert tokens > 1
    assert build(tiny_backbone, "maple", ctx_init=words, n_ctx=2).words == "zyzzyva"
    assert build(tiny_backbone, "maple", ctx_init=words, n_ctx=2 + tokens).words == ""
    with pytest.raises(UsageError, match="the first 3 tokens of 'photograph_of zyzzyva' end within a word"):
        build(tiny_backbone, "maple", ctx_init=words, n_ctx=3)


@pytest.mark.parametrize("name", ["cocoop", "kgcoop"])
def test_context_from_words_or_random(tiny_backbone, name):
    assert torch.equal(build(tiny_backbone, name).ctx, tiny_backbone.text.embed_words("a photo of a"))
    random = build(tiny_backbone, name, ctx_init=None, n_ctx=16).ctx
    assert random.shape == (16, 64) and 0.018 < random.std() < 0.022
    with pytest.warns(UserWarning, match="n_ctx = 6 has no effect: 'a picture' is 2 tokens"):
        build(tiny_backbone, name, ctx_init="a picture", n_ctx=6)


@pytest.mark.parametrize(("name", "option"), [("plot", "n_prompts"), ("proda", "n_prompts"), ("vpt", "n_ctx")])
def test_random_starts(tiny_backbone, name, option):
    start = next(build(tiny_backbone, name, **{option: 8}).parameters())
    assert 0.019 < start.std() < 0.021
    assert (start.flatten(1)[0] - start.flatten(1)[1]).abs().min() > 0


# -- depth -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "option", "usual"),
    [("maple", "depth", 9), ("promptsrc", "depth_text", 9), ("ivlp", "depth_vision", 12), ("vpt", "depth", 24)],
)
def test_depth(tiny_backbone, name, option, usual):
    """The papers' number of layers, or all of a shallower tower; an explicit number is never changed."""
    prompts = "visual_prompts" if option in ("depth_vision",) or name == "vpt" else "text_prompts"
    deep = build_method(name, backbone_of(layers=24), NAMES)
    assert len(deep.parameter(prompts)) == usual
    assert len(build(tiny_backbone, name).parameter(prompts)) == 3
    assert len(build(tiny_backbone, name, **{option: 2}).parameter(prompts)) == 2
    with pytest.raises(UsageError, match=f"{option} = 4, but there are 3 layers to prompt") as caught:
        build(tiny_backbone, name, **{option: 4})
    assert caught.value.hint == f"set {option} to 3 or less"


def test_ivlp_in_the_text_alone(tiny_backbone):
    method = build(tiny_backbone, "ivlp", depth_vision=0)
    assert [n for n, _ in method.named_parameters()] == ["text_prompts"]
    assert method.image_needs() == ImageNeeds() and "feature_cache" in method.capabilities
    assert "feature_cache" not in build(tiny_backbone, "ivlp").capabilities
    method.loss(method(images()), LABELS).total.backward()
    assert method.parameter("text_prompts").grad.abs().amax(dim=(1, 2)).min() > 0


# -- MaPLe -------------------------------------------------------------------------------------------------
def test_maple_is_bloom_with_one_linear_map_from_text_to_image(tiny_backbone):
    """Bloom's bottleneck is that map when it is wide: W x = [W, -W] relu([x, -x]); no image prompts of its own."""
    maple = build(tiny_backbone, "maple", depth=2)
    g = torch.Generator().manual_seed(3)
    for parameter in maple.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=g)
    options = {"depth": 2, "direction": "l2v", "fusion": "add", "d_m": 128}
    bloom = build_method("bloom", tiny_backbone, NAMES, options)
    eye = torch.eye(64)
    state = {"text_prompts": maple.parameter("text_prompts"), "visual_prompts": torch.zeros(2, 2, 96)}
    for i in range(2):
        weight, bias = maple.projections[i].weight, maple.projections[i].bias
        state |= {f"l2v.{i}.reduce.weight": torch.cat([eye, -eye]), f"l2v.{i}.reduce.bias": torch.zeros(128)}
        state |= {f"l2v.{i}.expand.weight": torch.cat([weight, -weight], dim=1), f"l2v.{i}.expand.bias": bias}
    bloom.load_trainable_state(state)
    ours, theirs = (method(images()) for method in (maple, bloom))
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=0)
    for method, output in ((maple, ours), (bloom, theirs)):
        method.loss(output, LABELS).total.backward()
    own, other = (m.parameter("text_prompts").grad for m in (maple, bloom))
    assert (own - other).abs().max() <= 1e-4 * own.abs().max()


# -- PLOT --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("tower", ["tiny_backbone", "tiny_resnet"])
def test_plot_is_dual_pt_without_edges_and_descriptions(request, tower):
    pytest.importorskip("vlmprompt_dual_pt")
    backbone = request.getfixturevalue(tower)
    size = 64 if tower == "tiny_resnet" else 32
    photos = torch.randn(4, 3, size, size, generator=torch.Generator().manual_seed(0))
    plot = build(backbone, "plot", n_prompts=3)
    options = {"n_prompts": 3, "n_ctx": 4, "alpha": 0.0, "beta": 0.0, "stop": "plot"}
    dual = build_method("dual_pt", backbone, NAMES, options)
    dual.load_trainable_state({"prompts": plot.ctx})
    ours, theirs = plot(photos), dual(photos)
    torch.testing.assert_close(ours.logits, theirs.logits, atol=1e-5, rtol=0)
    for method, output in ((plot, ours), (dual, theirs)):
        method.loss(output, LABELS).total.backward()
    (other,) = dual.parameters()
    assert (plot.ctx.grad - other.grad).abs().max() <= 1e-5 * other.grad.abs().max()


# -- VPT ---------------------------------------------------------------------------------------------------
def test_vpt_has_no_text_gradient_and_encodes_text_once(tiny_backbone, monkeypatch):
    method = build(tiny_backbone, "vpt").train()
    zero_shot = build_method("zeroshot", tiny_backbone, NAMES)
    torch.testing.assert_close(method.encode_text().unit_PKd, zero_shot.encode_text().unit_PKd, atol=1e-6, rtol=0)
    assert not method.encode_text().features_PKd.requires_grad
    assert method.text_prompts() is None
    monkeypatch.setattr(type(tiny_backbone.text), "encode", None)
    method.loss(method(images()), LABELS).total.backward()
    assert method.parameter("visual_prompts").grad.abs().amax(dim=(1, 2)).min() > 0


# -- LoCoOp ------------------------------------------------------------------------------------------------
def test_locoop_by_hand():
    """Three classes, k = 1: of the positions, the first is the class's own, the second and third are not."""
    from vlmprompt.methods.output import LocalView, MethodOutput

    features = torch.eye(3)[None]
    classes = torch.tensor([[0.9, 0.1, 0.2], [0.2, 0.8, 0.1], [0.1, 0.3, 0.7]])
    output = MethodOutput(torch.zeros(1, 3), 2.0, None, LocalView(features, classes))
    method = build_method("locoop", backbone_of(), ["a", "b", "c"], {"top_k": 1, "loc_weight": 0.5})
    losses = method.loss(output, torch.tensor([0]))
    p = [F.softmax(2 * classes[:, n], dim=0) for n in (1, 2)]
    entropy = sum(float(-(q * (q + 1e-5).log()).sum()) for q in p) / 2
    assert float(losses.parts["background"]) == pytest.approx(2 / 3)
    assert float(losses.parts["entropy"]) == pytest.approx(entropy, rel=1e-6)
    assert float(losses.total) == pytest.approx(torch.tensor(3.0).log().item() - 0.5 * entropy, rel=1e-6)


def test_locoop_top_k_is_the_papers_share(tiny_backbone):
    def top_k(n_classes: int, **options: object) -> int:
        return build_method("locoop", backbone_of(), [f"class {i}" for i in range(n_classes)], options).top_k

    assert top_k(1000) == 200
    assert top_k(47) == 9
    assert top_k(3) == 1
    with pytest.warns(UserWarning, match="top_k = 200 of 102 classes leaves no background"):
        assert top_k(102, top_k=200) == 200


def test_locoop_without_background_is_coop(tiny_backbone):
    with pytest.warns(UserWarning, match="locoop is CoOp here"):
        method = build(tiny_backbone, "locoop", top_k=4)
    output = method(images())
    losses = method.loss(output, LABELS)
    assert losses.parts["entropy"] == 0 and losses.parts["background"] == 0
    torch.testing.assert_close(losses.total, F.cross_entropy(output.logits, LABELS))
    losses.total.backward()
    coop = build_method("coop", tiny_backbone, NAMES, {"n_ctx": 4})
    coop.load_trainable_state(method.trainable_state())
    coop.loss(coop(images()), LABELS).total.backward()
    torch.testing.assert_close(method.ctx.grad, coop.ctx.grad)


# -- KgCoOp ------------------------------------------------------------------------------------------------
def test_kgcoop_template_must_have_a_place():
    with pytest.raises(UsageError, match=r"teacher_template = 'a photo\.'.*must hold exactly one {}"):
        method_config("kgcoop", {"teacher_template": "a photo."})


# -- ProDA -------------------------------------------------------------------------------------------------
def test_proda_places_of_the_name(tiny_backbone):
    method = build(tiny_backbone, "proda", n_prompts=8, prompt_batch=4)
    assert method.text_prompts().position == ("front",) * 2 + ("middle",) * 2 + ("end",) * 4
    some = method.text_prompts(draws={"prompt_ids": torch.tensor([7, 0, 2])})
    assert some.position == ("end", "front", "middle")
    assert torch.equal(some.ctx, method.ctx[[7, 0, 2]])
    single = build(tiny_backbone, "proda", n_prompts=1)
    assert single.text_prompts().position == ("end",)
    assert single.sample_draws()["prompt_ids"].tolist() == [0]
    losses = single.loss(single(images()), LABELS)
    assert losses.parts["orth"] == 0
    torch.testing.assert_close(losses.total, F.cross_entropy(single(images()).logits, LABELS))


def test_proda_takes_every_prompt_once_a_round(tiny_backbone):
    method = build(tiny_backbone, "proda", n_prompts=8, prompt_batch=2)
    rounds = [torch.cat([method.sample_draws()["prompt_ids"] for _ in range(4)]).tolist() for _ in range(3)]
    assert all(sorted(ids) == list(range(8)) for ids in rounds)
    assert len({tuple(ids) for ids in rounds}) == 3
    assert method.queue is None
    method.sample_draws()
    assert len(method.trainable_state()["queue"]) == 6


def test_proda_round_goes_on_from_its_state(tiny_backbone):
    method = build(tiny_backbone, "proda", n_prompts=8, prompt_batch=2)
    method.sample_draws()
    state, rng = method.trainable_state(), method.rng_state()
    rest = [method.sample_draws()["prompt_ids"].tolist() for _ in range(5)]
    other = build(tiny_backbone, "proda", seed=9, n_prompts=8, prompt_batch=2)
    other.load_trainable_state(state)
    other.set_rng_state(rng)
    assert [other.sample_draws()["prompt_ids"].tolist() for _ in range(5)] == rest
    other.load_trainable_state({"ctx": state["ctx"]})
    assert other.queue is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_prompts": 6}, "n_prompts = 6 is neither 1 nor a multiple of 4"),
        ({"n_prompts": 8, "prompt_batch": 3}, "prompt_batch = 3 does not divide n_prompts = 8"),
    ],
)
def test_proda_numbers_must_divide(options, message):
    with pytest.raises(UsageError, match=message):
        method_config("proda", options)


@settings(max_examples=25)
@given(n_prompts=st.integers(1, 5), n_images=st.integers(1, 4), seed=st.integers(0, 1000))
def test_proda_bound_is_the_covariance_written_out(n_prompts, n_images, seed):
    from vlmprompt.methods.output import MethodOutput
    from vlmprompt_baselines.proda import upper_logits

    g = torch.Generator().manual_seed(seed)
    z = F.normalize(torch.randn(n_images, 6, generator=g, dtype=torch.float64), dim=-1)
    w = F.normalize(torch.randn(n_prompts, 5, 6, generator=g, dtype=torch.float64), dim=-1)
    labels = torch.randint(5, (n_images,), generator=g)
    logits = 10 * z @ w.mean(dim=0).T
    output = MethodOutput(logits, 10.0, aux={"image_Bd": z, "text_PKd": w})
    a = w - w.mean(dim=0)
    C = torch.einsum("pit,pjt->tij", a, a) / (n_prompts + 1)
    expected = logits.clone()
    for b, y in enumerate(labels.tolist()):
        for k in range(5):
            expected[b, k] += 50 * (z[b] ** 2 * (C[:, y, y] + C[:, k, k] - 2 * C[:, y, k])).sum()
    torch.testing.assert_close(upper_logits(output, labels), expected, atol=1e-10, rtol=0)


# -- PromptSRC ---------------------------------------------------------------------------------------------
def test_promptsrc_ends_in_the_weighted_average(tiny_backbone):
    method = build(tiny_backbone, "promptsrc", gpa_mean=2, gpa_std=1)
    g = torch.Generator().manual_seed(0)
    history = []
    for epoch in range(3):
        method.start_epoch(epoch, 3)
        for parameter in method.parameters():
            parameter.data = torch.randn(parameter.shape, generator=g)
        history.append({n: p.clone() for n, p in method.named_parameters()})
        method.end_epoch(epoch, 3)
        if epoch < 2:
            assert all(torch.equal(p, history[-1][n]) for n, p in method.named_parameters())
    side = 0.6065306597 / (1 + 2 * 0.6065306597)  # exp(-1/2) of epochs 1 and 3 beside 1 of epoch 2
    for name, parameter in method.named_parameters():
        expected = side * history[0][name] + (1 - 2 * side) * history[1][name] + side * history[2][name]
        torch.testing.assert_close(parameter.data, expected, atol=1e-6, rtol=0)
    assert set(method.trainable_state()) == {"text_prompts", "visual_prompts"}


def test_promptsrc_weights_of_a_mean_out_of_reach():
    from vlmprompt_baselines.promptsrc import epoch_weights

    weights = epoch_weights(3, 60.0, 1.0)
    assert weights.tolist() == pytest.approx([0, 0, 1])
    assert epoch_weights(1, 15.0, 1.0).tolist() == [1.0]


def test_promptsrc_reads_the_frozen_tower_in_training_only(tiny_backbone):
    method = build(tiny_backbone, "promptsrc")
    frozen = build_method("zeroshot", tiny_backbone, NAMES)(images()).aux["image_Bd"]
    assert torch.equal(method.train()(images()).aux["frozen_Bd"], frozen)
    assert torch.equal(method.eval()(images()).aux["frozen_Bd"], frozen)
    with torch.no_grad():
        output = method(images())
        assert "frozen_Bd" not in output.aux
        with pytest.raises(InputError, match="frozen image features"):
            method.loss(output, torch.zeros(len(output.logits), dtype=torch.long))


def test_ensemble_is_sixty_texts_with_one_place_each():
    from vlmprompt_baselines.templates import ensemble

    assert len(ensemble()) == len(set(ensemble())) == 60
    assert all(text.count("{}") == 1 and text == text.strip() for text in ensemble())


# -- CoCoOp ------------------------------------------------------------------------------------------------
def test_cocoop_text_depends_on_the_image_and_only_on_its_direction(tiny_backbone):
    method = build(tiny_backbone, "cocoop").eval()
    features = method.encode_images(images()).global_Bd
    text = method.encode_text(features).unit_PKd
    assert text.shape == (4, 1, len(NAMES), 32)
    assert (text[0] - text[1]).abs().max() > 1e-4
    torch.testing.assert_close(method.encode_text(3 * features).unit_PKd, text, atol=1e-5, rtol=0)
    alone = torch.cat([method(images()[i : i + 1]).logits for i in range(4)])
    torch.testing.assert_close(alone, method(images()).logits, atol=2e-5, rtol=0)
    with pytest.raises(InputError, match="depends on the image"):
        method.encode_text()


# -- what the contract and the engine gained ----------------------------------------------------------------
def test_a_position_for_every_prompt(tiny_backbone):
    engine = tiny_backbone.text
    classes = engine.class_tokens(NAMES)
    ctx = 0.3 * torch.randn(4, 5, 64, generator=torch.Generator().manual_seed(0))
    places = ("end", "front", "end", "middle")
    mixed = engine.encode(TextPrompts(ctx, position=places), classes)
    for p, place in enumerate(places):
        alone = engine.encode(TextPrompts(ctx[p : p + 1], position=place), classes)
        torch.testing.assert_close(mixed[p : p + 1], alone, atol=1e-5, rtol=0)
    per_image = ctx[None] + 0.1 * torch.randn(3, 4, 5, 64, generator=torch.Generator().manual_seed(1))
    mixed = engine.encode(TextPrompts(per_image, scope="image", position=places), classes)
    assert mixed.shape == (3, 4, len(NAMES), 32)
    for b in range(3):
        one = engine.encode(TextPrompts(per_image[b], position=places), classes)
        torch.testing.assert_close(mixed[b], one, atol=1e-5, rtol=0)
    with pytest.raises(InputError, match="2 class positions for 4 prompts"):
        engine.encode(TextPrompts(ctx, position=("end", "front")), classes)


def test_no_warnings_with_the_defaults(tiny_backbone):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("cocoop", "kgcoop", "maple", "ivlp", "vpt", "promptsrc", "proda", "locoop"):
            assert isinstance(build_method(name, tiny_backbone, NAMES), PromptMethod)


# -- hand-written texts --------------------------------------------------------------------------------------
def text_means(model, templates, *, unit_first):
    """The mean over templates, of raw features or of those of length 1, made of length 1."""
    means = []
    for name in NAMES:
        raw = model.encode_text(open_clip.tokenize([t.replace("{}", name.replace("_", " ")) for t in templates]))
        means.append((F.normalize(raw, dim=-1) if unit_first else raw).mean(dim=0))
    return F.normalize(torch.stack(means), dim=-1)


@pytest.mark.parametrize(
    ("name", "option", "buffer", "unit_first"),
    [
        ("kgcoop", "teacher_template", "teacher_text_Kd", True),
        ("vpt", "template", "class_text_Kd", True),
        ("promptsrc", "teacher_templates", "teacher_text_Kd", False),
    ],
)
def test_own_templates_are_averaged(tiny_model, tiny_backbone, name, option, buffer, unit_first):
    """As CLIP does, and in PromptSRC as its code does."""
    templates = ["a sketch of a {}.", "{} in the wild", "many {}"]
    method = build(tiny_backbone, name, **{option: templates})
    assert type(method.config).template_option == option
    expected = text_means(tiny_model, templates, unit_first=unit_first)
    torch.testing.assert_close(getattr(method, buffer), expected, atol=1e-6, rtol=0)
    assert (expected - text_means(tiny_model, templates, unit_first=not unit_first)).abs().max() > 1e-5
    one = build(tiny_backbone, name, **{option: templates[0]})
    expected = text_means(tiny_model, templates[:1], unit_first=True)
    torch.testing.assert_close(getattr(one, buffer), expected, atol=1e-6, rtol=0)


def test_a_class_of_several_names_under_prompts_in_the_image_tower(tiny_model, tiny_backbone):
    method = build_method("vpt", tiny_backbone, ["cat | kitten", "owl"])
    units = F.normalize(
        tiny_model.encode_text(open_clip.tokenize(["a photo of a cat.", "a photo of a kitten."])), dim=-1
    )
    torch.testing.assert_close(method.class_text_Kd[0], F.normalize(units.mean(dim=0), dim=-1), atol=1e-6, rtol=0)
