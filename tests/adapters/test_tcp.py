"""TCP on small towers: what it holds, its texts, the layer, what it refuses, what it ships."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from tests.training.material import config, make_photos, runtime
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.resolve import resolve
from vlmprompt.errors import CapabilityError, InputError, UsageError
from vlmprompt.methods.build import build_method, method_type
from vlmprompt.testing import tiny_clip
from vlmprompt.training.run import train
from vlmprompt.training.runs import load_run

NAMES = ["cat", "red_panda", "tench, fish", "owl"]


def test_parameters(tiny_backbone: Backbone) -> None:
    method = build_method("tcp", tiny_backbone, NAMES)
    assert {name: tuple(p.shape) for name, p in method.named_parameters()} == {
        "ctx": (4, 64),
        "meta_net.0.weight": (8, 32),
        "meta_net.0.bias": (8,),
        "meta_net.2.weight": (256, 8),
        "meta_net.2.bias": (256,),
    }
    d, D = 512, 512  # of ViT-B/16
    assert 4 * D + (d // 4) * (d + 1) + 4 * D * (d // 4 + 1) == 331_904


def test_the_layer() -> None:
    from vlmprompt_adapters.tcp import chosen_layer

    assert [chosen_layer(None, layers) for layers in (2, 3, 6, 8, 9, 12, 24)] == [1, 2, 4, 5, 8, 8, 8]
    assert chosen_layer(3, 12) == 3
    with pytest.raises(UsageError, match="layer = 3, but the text tower has layers 0 to 2"):
        chosen_layer(3, 3)
    with pytest.raises(CapabilityError, match="this tower has no more layers"):
        chosen_layer(None, 1)


@pytest.mark.parametrize(
    ("template", "words", "tail"),
    [
        ("X X X X {}, a type of pet.", "", ", a type of pet."),
        ("a photo of a {}, a type of pet.", "", ", a type of pet."),
        ("a photo of a person doing {}.", "person doing", "."),
        ("{} texture.", "", " texture."),
    ],
)
def test_context_stands_for_the_first_words(tiny_backbone: Backbone, template: str, words: str, tail: str) -> None:
    """Given as option or as the data set's own."""
    for options, of_data in (({"template": template}, None), ({}, template)):
        method = build_method("tcp", tiny_backbone, NAMES, options, template=of_data)
        prompts = method.text_prompts()
        assert prompts is not None and prompts.words == words
        assert method.classes == tiny_backbone.text.class_tokens(NAMES, tail=tail)


def test_a_word_is_not_cut(tiny_backbone: Backbone) -> None:
    with pytest.raises(UsageError, match=r"the first 1 tokens of .* end within a word"):
        build_method("tcp", tiny_backbone, NAMES, {"n_ctx": 1, "template": "zyzzyva photo of {}."})
    with pytest.raises(UsageError, match="n_class_tokens = 5, but 4 tokens stand before the class name"):
        build_method("tcp", tiny_backbone, NAMES, {"n_class_tokens": 5})


def test_other_classes_have_tokens_of_their_own_names(tiny_backbone: Backbone) -> None:
    """Written in the template of their data set; the meta-net by hand."""
    method, own = build_method("tcp", tiny_backbone, NAMES), "a drawing of a {}."
    other = method.with_classes(["dog", "fox"], template=own)
    teacher_Kd = F.normalize(tiny_backbone.text.encode_template(own, ["dog", "fox"]), dim=-1)
    torch.testing.assert_close(other.teacher_text_Kd, teacher_Kd, atol=1e-6, rtol=0)
    hidden = teacher_Kd @ method.meta_net[0].weight.T + method.meta_net[0].bias
    tokens = (hidden * torch.sigmoid(1.702 * hidden)) @ method.meta_net[2].weight.T + method.meta_net[2].bias
    prompts = other.text_prompts()
    assert prompts is not None
    torch.testing.assert_close(prompts.deep[2], tokens.reshape(2, 1, 4, 64))
    assert method.teacher_text_Kd.shape == (4, 32)


@pytest.mark.parametrize(
    ("data", "template", "teacher", "epochs"),
    [
        ("folder:photos", None, None, 50),
        ("coop:imagenet", None, None, 25),
        ("coop:sun397", "X X X X {}.", "a photo of a {}.", 25),
        ("coop:dtd", "X X X X {} texture.", "a photo of a {}, a type of texture.", 50),
        ("coop:ucf101", "a photo of a person doing {}.", "a photo of a person doing {}.", 50),
    ],
)
def test_settings_of_the_code(data: str, template: str | None, teacher: str | None, epochs: int) -> None:
    run = resolve({"method": "tcp", "data": data, "backbone": "x"}, env={}).run
    assert (run.options.get("template"), run.options.get("teacher_template")) == (template, teacher)
    assert (run.train.optimizer, run.train.eps, run.train.lr) == ("adam", 0.001, 0.002)
    assert (run.train.epochs, run.train.batch_size, run.train.warmup_epochs) == (epochs, 32, 1)


def test_a_checkpoint_of_the_code(tiny_backbone: Backbone) -> None:
    state = build_method("tcp", tiny_backbone, NAMES).trainable_state()
    saved = {name.replace(".0.", ".linear1.").replace(".2.", ".linear2."): t for name, t in state.items()}
    saved |= {"token_prefix": torch.ones(4, 1, 64), "token_suffix": torch.ones(4, 72, 64)}
    read = method_type("tcp").foreign_state({"state_dict": saved, "epoch": 50})
    assert read.options == {"n_ctx": 4, "n_class_tokens": 4} and read.classes == 4
    assert read.state.keys() == state.keys()
    assert all(torch.equal(read.state[name], tensor) for name, tensor in state.items())
    of_cocoop = saved | {"meta_net.linear1.weight": torch.ones(2, 32), "meta_net.linear2.weight": torch.ones(64, 2)}
    with pytest.raises(InputError, match="from 32 to 8 and to tokens of 64; that of the checkpoint goes to 2 and 64"):
        method_type("tcp").foreign_state({"state_dict": of_cocoop})


def test_a_run_on_cached_features(tmp_path: Path, tokenizer: object) -> None:
    """Towers of two layers: class tokens enter the second."""
    towers = Backbone.from_model(tiny_clip(text_layers=2), tokenizer, name="tiny-vit")
    photos = make_photos(tmp_path / "photos", splits={"train": 2, "test": 1})
    settings = config(photos, method="tcp", shots=1, epochs=1, batch_size=2, views=1)
    train(settings, runtime(tmp_path), out=tmp_path / "run", backbone=towers)
    method = load_run(tmp_path / "run").build_method(towers)
    prompts = method.text_prompts()
    assert prompts is not None and set(prompts.deep) == {1}
