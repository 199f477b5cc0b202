"""The optimiser over a method's own parameters, and its state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import InputError
from vlmprompt.methods.contract import PromptMethod


def build_optimizer(method: PromptMethod, train: TrainConfig) -> Optimizer:
    """SGD (with momentum, neither Nesterov's nor damped), Adam (weight decay as an L2 term of the loss) or AdamW.

    Raises:
        InputError: the method has none.
    """
    parameters = list(method.trainable_parameters())
    if not parameters:
        raise InputError(f"method {type(method).__name__} has nothing to train in a loop")
    if train.optimizer == "sgd":
        return SGD(parameters, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay)
    eps: dict[str, Any] = {} if train.eps is None else {"eps": train.eps}
    kind = Adam if train.optimizer == "adam" else AdamW
    return kind(parameters, lr=train.lr, weight_decay=train.weight_decay, **eps)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """The learning rate of all parameters from here on."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def optimizer_tensors(optimizer: Optimizer, method: PromptMethod) -> dict[str, Tensor]:
    """Momentum or moments and step counts, as `<parameter>/<slot>`; before the first step there are none."""
    state = optimizer.state_dict()["state"]
    return {
        f"{name}/{slot}": tensor
        for index, name in enumerate(_names(method))
        for slot, tensor in state.get(index, {}).items()
        if isinstance(tensor, Tensor)
    }


def load_optimizer_tensors(optimizer: Optimizer, method: PromptMethod, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Any]] = {}
    index = {name: i for i, name in enumerate(_names(method))}
    for key, tensor in tensors.items():
        name, _, slot = key.rpartition("/")
        state.setdefault(index[name], {})[slot] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _names(method: PromptMethod) -> list[str]:
    """Names of the trainable parameters, in the optimiser's order."""
    known = {id(parameter): name for name, parameter in method.named_parameters()}
    return [known[id(parameter)] for parameter in method.trainable_parameters()]
