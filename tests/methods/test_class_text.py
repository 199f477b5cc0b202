"""Templates and several names a class, against open_clip's own encode_text; who takes several names, who refuses."""

from __future__ import annotations

import open_clip
import pytest
import torch
from torch import Tensor

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.errors import CapabilityError
from vlmprompt.methods.build import build_method, list_methods
from vlmprompt.methods.class_text import class_text
from vlmprompt.methods.contract import PromptMethod

NAMES = ["car | automobile | motor_car", "red_panda"]
TEMPLATES = ("a photo of a {}.", "{} texture.")
# Mixed, not averaged name by name: each of the six texts of the car counts the same.
TEXTS = [
    ["a photo of a car.", "a photo of a automobile.", "a photo of a motor car."]
    + ["car texture.", "automobile texture.", "motor car texture."],
    ["a photo of a red panda.", "red panda texture."],
]


def mean_of(model: torch.nn.Module, texts: list[str], *, first: bool = True) -> Tensor:
    """The mean of the features of some texts, each of length 1 first or not, made of length 1."""
    features = model.encode_text(open_clip.tokenize(texts))
    if first:
        features = features / features.norm(dim=-1, keepdim=True)
    mean = features.mean(dim=0)
    return mean / mean.norm()


def test_the_mean_is_over_unit_features_of_all_templates_and_names(
    tiny_model: torch.nn.Module, tiny_backbone: Backbone
) -> None:
    expected = torch.stack([mean_of(tiny_model, texts) for texts in TEXTS])
    text_Kd = class_text(tiny_backbone.text, TEMPLATES, NAMES)
    torch.testing.assert_close(text_Kd, expected, atol=1e-6, rtol=0)
    unequal = torch.stack([mean_of(tiny_model, texts, first=False) for texts in TEXTS])
    assert (expected - unequal).abs().max() > 1e-5  # so that the test can tell the two
    method = build_method("zeroshot", tiny_backbone, NAMES, {"template": list(TEMPLATES)})
    torch.testing.assert_close(method.encode_text().features_PKd[0], expected, atol=1e-6, rtol=0)


def test_underscores_stay_where_they_are_to(tiny_backbone: Backbone) -> None:
    kept = class_text(tiny_backbone.text, "a {}", ["motor_car | car"], keep_underscores=True)
    assert not torch.equal(kept, class_text(tiny_backbone.text, "a {}", ["motor_car | car"]))


def test_descriptions_go_with_every_name(tiny_model: torch.nn.Module, tiny_backbone: Backbone) -> None:
    method = build_method("descriptions", tiny_backbone, ["car | auto", "cat"], descriptions=[["wheels"], []])
    texts = [["car, which has wheels", "auto, which has wheels"], ["cat"]]
    expected = torch.stack([mean_of(tiny_model, own) for own in texts])
    torch.testing.assert_close(method.encode_text().unit_PKd[0], expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", list_methods())
def test_each_method_takes_several_names_or_says_that_it_cannot(name: str, tiny_backbone: Backbone) -> None:
    options = {"locoop": {"top_k": 1}, "gallop": {"topk": [2, 4, 6, 8]}}.get(name, {})
    descriptions = [["wheels"], ["a tail"]]
    on_features = ("clip_adapter", "lp_plus_plus", "tip_adapter", "tip_adapter_f")
    if name in ("zeroshot", "descriptions", "linear_probe", "vpt", "tda", *on_features):
        method = build_method(name, tiny_backbone, NAMES, options, descriptions=descriptions)
        assert method.class_names == tuple(NAMES) and "several_names" in method.capabilities
        return
    with pytest.raises(CapabilityError, match=r"learns prompts around one name a class, 'car \| .*' has 3") as error:
        build_method(name, tiny_backbone, NAMES, options, descriptions=descriptions)
    assert error.value.hint and "'motor_car = car'" in error.value.hint
    method: PromptMethod = build_method(name, tiny_backbone, ["car", "cat"], options, descriptions=descriptions)
    if "new_classes" in method.capabilities:
        with pytest.raises(CapabilityError, match="one name a class"):
            method.with_classes(NAMES)
