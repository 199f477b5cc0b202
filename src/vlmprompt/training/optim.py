"""The optimiser over a method's own parameters, and its state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from vlmprompt.config.models import TrainConfig
from vlmprompt.errors import InputError
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.groups import ParameterGroup, groups_of
from vlmprompt.training.uncompiled import SGD, Adam, AdamW

TORCHS_EPS = 1e-8  # of Adam and AdamW alike
FACTOR = "lr_factor"  # of a group of parameters, on the rate of every step


def build_optimizer(method: PromptMethod, train: TrainConfig) -> Optimizer:
    """SGD (with momentum, neither Nesterov's nor damped), Adam (weight decay as an L2 term of the loss) or AdamW.

    It is over the method's trainable parameters, in the groups that the method puts them in.

    Raises:
        InputError: the method has none.
        PluginError: see `groups_of`.
    """
    groups = _param_groups(method)
    if not groups:
        raise InputError(f"method {type(method).__name__} has nothing to train in a loop")
    if train.optimizer == "sgd":
        return SGD(groups, lr=train.lr, momentum=train.momentum, weight_decay=train.weight_decay)
    kind, eps = (Adam if train.optimizer == "adam" else AdamW), (TORCHS_EPS if train.eps is None else train.eps)
    return kind(groups, lr=train.lr, eps=eps, weight_decay=train.weight_decay)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """The learning rate from here on: of all parameters, times the factor of their group."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get(FACTOR, 1.0)


def _param_groups(method: PromptMethod) -> list[dict[str, Any]]:
    """As torch's optimisers take them; within each the order of the parameters is the method's."""
    found: dict[ParameterGroup, list[nn.Parameter]] = {}
    groups = groups_of(method)
    for name, parameter in method.named_parameters():
        if name in groups:
            found.setdefault(groups[name], []).append(parameter)
    decays = {group: {} if group.weight_decay is None else {"weight_decay": group.weight_decay} for group in found}
    return [{"params": own, FACTOR: group.lr, **decays[group]} for group, own in found.items()]


def optimizer_tensors(optimizer: Optimizer, method: PromptMethod) -> dict[str, Tensor]:
    """Momentum or moments and step counts, as `<parameter>/<slot>`; before the first step there are none."""
    state = optimizer.state_dict()["state"]
    return {
        f"{name}/{slot}": tensor
        for index, name in enumerate(_names(optimizer, method))
        for slot, tensor in state.get(index, {}).items()
        if isinstance(tensor, Tensor)
    }


def load_optimizer_tensors(optimizer: Optimizer, method: PromptMethod, tensors: Mapping[str, Tensor]) -> None:
    """Restore what `optimizer_tensors` gave."""
    state: dict[int, dict[str, Any]] = {}
    index = {name: i for i, name in enumerate(_names(optimizer, method))}
    for key, tensor in tensors.items():
        name, _, slot = key.rpartition("/")
        state.setdefault(index[name], {})[slot] = tensor
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _names(optimizer: Optimizer, method: PromptMethod) -> list[str]:
    """Names of the trainable parameters, in the optimiser's order."""
    known = {id(parameter): name for name, parameter in method.named_parameters()}
    return [known[id(parameter)] for group in optimizer.param_groups for parameter in group["params"]]
