"""What copies of a method share, and that the towers are no part of its state."""

from __future__ import annotations

import copy

import pytest
import torch

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.methods.build import build_method
from vlmprompt.methods.contract import PromptMethod

NAMES = ("cat", "red panda", "ash")


@pytest.fixture
def method(tiny_backbone: Backbone) -> PromptMethod:
    # With visual prompts under a method's name, a module, and a frozen buffer of the classes.
    return build_method("promptsrc", tiny_backbone, NAMES)


def named(method: PromptMethod) -> dict[str, torch.Tensor]:
    return dict(method.named_parameters()) | dict(method.named_buffers())


def test_the_towers_are_no_part_of_it(method: PromptMethod, tiny_backbone: Backbone) -> None:
    towers = {id(tensor) for tensor in (*tiny_backbone.model.parameters(), *tiny_backbone.model.buffers())}
    assert method.backbone is tiny_backbone
    assert not towers & {id(tensor) for tensor in named(method).values()}
    assert list(method.children()) == [] and tiny_backbone.model not in list(method.modules())
    before = {tensor.dtype for tensor in tiny_backbone.model.state_dict().values()}
    method.double()
    assert {tensor.dtype for tensor in named(method).values()} == {torch.float64}
    assert {tensor.dtype for tensor in tiny_backbone.model.state_dict().values()} == before


def test_a_copy_shares_tensors_but_not_registries(method: PromptMethod) -> None:
    other = method.copied()
    assert other.backbone is method.backbone and other.generator is method.generator
    assert all(tensor is named(method)[name] for name, tensor in named(other).items())
    other.register_buffer("more", torch.zeros(2), persistent=False)
    other.add_parameter("text_prompts", torch.zeros(1))
    assert "more" not in named(method)
    assert method.parameter("text_prompts").shape != (1,)


def test_a_deep_copy_has_values_of_its_own(method: PromptMethod) -> None:
    """A tensor that is computed and kept aside, as code that looks at attention does, is no obstacle."""
    method.seen = 2 * method.parameter("text_prompts")  # has a graph, so that `copy.deepcopy` refuses it
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(method)
    other = method.copied(deep=True)
    before = {name: tensor.clone() for name, tensor in named(other).items()}
    assert all(torch.equal(tensor, named(method)[name]) for name, tensor in before.items())
    for parameter in method.parameters():
        parameter.data += 1
    assert all(torch.equal(tensor, before[name]) for name, tensor in named(other).items())
    assert other.backbone is method.backbone


def test_a_tensor_that_is_registered_twice_stays_one(method: PromptMethod) -> None:
    part = torch.nn.Linear(2, 2)
    part.weight = torch.nn.Parameter(torch.ones(2, 2))
    method.part, method.again = part, part.weight
    other = method.copied(deep=True)
    assert other.again is other.get_submodule("part").weight and other.again is not part.weight


def test_deepcopy_of_a_method_takes_its_towers_along(method: PromptMethod) -> None:
    other = copy.deepcopy(method)
    assert other.backbone is not method.backbone
    assert other.state_dict().keys() == method.state_dict().keys()
    assert torch.equal(other.frozen_text().features_PKd, method.frozen_text().features_PKd)  # type: ignore[union-attr]


def test_local_features_are_read_by_the_copy_alone(method: PromptMethod) -> None:
    other = method.with_local()
    assert (other.image_needs().local, other.image_needs().space) == ("value_block", "joint")
    assert method.image_needs().local is None
    assert other.image_needs().grad == method.image_needs().grad
    assert other.with_local() is other
