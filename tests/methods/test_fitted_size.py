"""Tensors whose size only a fit knows: how a method loads them, and what one that does not is told."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor

from vlmprompt.api import Backbone, CoOp, CoOpConfig, InputError


class Keys(CoOp):
    """CoOp with keys, none before a fit."""

    def create(self) -> None:
        super().create()
        self.keys_Nd = torch.nn.Parameter(torch.zeros(0, self.backbone.vision.joint_dim))


class Sized(Keys):
    """The same, and its keys get the size of the stored ones."""

    def load_trainable_state(self, state: Mapping[str, Tensor]) -> None:
        if "keys_Nd" in state:
            self.keys_Nd = torch.nn.Parameter(self.keys_Nd.new_zeros(state["keys_Nd"].shape))
        super().load_trainable_state(state)


def stored(backbone: Backbone) -> dict[str, Tensor]:
    """The state behind a fit of three images."""
    fitted = Sized(backbone, ["cat", "dog"], CoOpConfig(n_ctx=2))
    fitted.keys_Nd = torch.nn.Parameter(torch.arange(3.0)[:, None].repeat(1, backbone.vision.joint_dim))
    return fitted.trainable_state()


def test_keys_take_the_size_of_the_stored_ones(tiny_backbone: Backbone) -> None:
    method = Sized(tiny_backbone, ["cat", "dog"], CoOpConfig(n_ctx=2))
    method.load_trainable_state(stored(tiny_backbone))
    assert method.keys_Nd[:, 0].tolist() == [0.0, 1.0, 2.0]


def test_a_method_that_does_not_is_told_what_to_do(tiny_backbone: Backbone) -> None:
    method = Keys(tiny_backbone, ["cat", "dog"], CoOpConfig(n_ctx=2))
    with pytest.raises(InputError, match="'keys_Nd' has shape") as found:
        method.load_trainable_state(stored(tiny_backbone))
    assert found.value.hint == "load_trainable_state of Keys must give 'keys_Nd' its size"


def test_another_size_of_what_no_fit_decides_has_no_such_hint(tiny_backbone: Backbone) -> None:
    method = CoOp(tiny_backbone, ["cat", "dog"], CoOpConfig(n_ctx=3))
    state = CoOp(tiny_backbone, ["cat", "dog"], CoOpConfig(n_ctx=2)).trainable_state()
    with pytest.raises(InputError, match="'ctx' has shape") as found:
        method.load_trainable_state(state)
    assert not found.value.hint
