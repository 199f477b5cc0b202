"""How a method learns: reproducibly, all that it has, and nothing else."""

from __future__ import annotations

import inspect
import random
from fnmatch import fnmatch

import numpy as np
import torch

from vlmprompt.backbones.digest import tensors_digest
from vlmprompt.conformance import material
from vlmprompt.conformance.check import require, skip
from vlmprompt.conformance.methods.case import MethodCase, changed, loops, on_views, state_of, training_inputs
from vlmprompt.methods.contract import PromptMethod
from vlmprompt.methods.output import Losses

FROM_GENERATOR = "take every random number from self.generator, and those of a step in sample_draws"


def same_seed_same_bytes(case: MethodCase) -> None:
    """The same seed gives the same initial values and the same learned ones, to the bit."""
    one, other = case.build(), case.build()
    name = changed(state_of(one), state_of(other))
    require(name is None, f"initial values of {name!r} differ between two methods of one seed", FROM_GENERATOR)
    first, again = case.learned(), case.learn(other)
    name = changed(state_of(first), state_of(again))
    require(name is None, f"learned values of {name!r} differ between two methods of one seed", FROM_GENERATOR)
    equal = torch.equal(case.logits(first), case.logits(again))
    require(equal, "logits differ between two methods of one seed and one state", FROM_GENERATOR)


def leaves_global_randomness_alone(case: MethodCase) -> None:
    """Nobody's global random state is used: torch's, NumPy's, Python's."""
    before = global_states()
    method = case.learn(case.build())
    case.logits(method)
    for library, state in global_states().items():
        require(state == before[library], f"the global random state of {library} was used", FROM_GENERATOR)


def global_states() -> dict[str, bytes]:
    """Library -> its global random state."""
    return {
        "torch": torch.random.get_rng_state().numpy().tobytes(),
        "numpy": repr(np.random.get_state()).encode(),  # noqa: TID251 (looked at, not used)
        "random": repr(random.getstate()).encode(),
    }


def loss_is_a_finite_scalar(case: MethodCase) -> None:
    """The loss, each of its parts and what is compared is a finite scalar; the loss has a graph."""
    method = case.build().train()
    if not loops(method):
        skip("it has no training loop")
    losses = _first_step(case, method)
    for name, value in (("total", losses.total), *losses.parts.items(), *losses.compared.items()):
        require(
            bool(value.isfinite()),
            f"the loss's {name!r} is {value.item()} in the first step",
            "guard logarithms and divisions; what both towers give is finite",
        )
    require(
        losses.total.requires_grad,
        "nothing that is learned is part of the loss: it has no graph",
        "keep detach() and no_grad() away from what is learned",
    )


def _first_step(case: MethodCase, method: PromptMethod) -> Losses:
    if "fit_first" in method.capabilities:
        case.fit(method)
    with method.blamed():
        method.start_epoch(0, 1)
    return case.losses(method)


def gradients_reach_all_it_learns(case: MethodCase) -> None:
    """Every trainable tensor gets a gradient within a few steps, unless `without_gradient` names it."""
    method = case.build()
    if not loops(method):
        skip("it has no training loop")
    reached: set[str] = set()

    def look() -> None:
        for name, parameter in method.named_parameters():
            if parameter.grad is not None and bool((parameter.grad != 0).any()):
                reached.add(name)

    case.learn(method, steps=4, seen=look)
    own = [name for name, parameter in method.named_parameters() if parameter.requires_grad]
    missed = [name for name in own if name not in reached]
    missed = [name for name in missed if not any(fnmatch(name, pattern) for pattern in method.without_gradient)]
    require(
        not missed,
        f"no gradient reaches {', '.join(map(repr, missed))} in 4 steps",
        "use it in the loss, make it a buffer, or name it in without_gradient where a step may leave it out",
    )


def towers_stay_as_they_are(case: MethodCase) -> None:
    """The towers are frozen and unchanged, bit for bit, after training and evaluation."""
    case.logits(case.learn(case.build()))
    model = material.towers().model
    try:
        require(
            tensors_digest(model.state_dict()) == material.pristine_digest(),
            "weights of the towers have changed",
            "never write into backbone tensors; what is learned is a parameter of the method",
        )
        trained = [name for name, p in model.named_parameters() if p.requires_grad or p.grad is not None]
        require(
            not trained,
            f"tower parameters take gradients: {', '.join(trained[:3])}",
            "leave requires_grad of the backbone as it is",
        )
        moody = [name for name, module in model.named_modules() if module.training]
        require(
            not moody, f"parts of the towers are in training mode: {', '.join(moody[:3])}", "leave them in eval mode"
        )
    except AssertionError:
        material.towers.cache_clear()  # other methods are tried on clean ones
        raise


def weights_act_on_the_loss(case: MethodCase) -> None:
    """Weights of images change the loss, and weights of one leave it as it is."""
    method = case.build().train()
    if not loops(method):
        skip("it has no training loop")
    if "weights" not in inspect.signature(method.loss).parameters:
        skip("its loss takes no weights of images")
    if "fit_first" in method.capabilities:
        case.fit(method)
    method.start_epoch(0, 1)
    output = on_views(method, training_inputs(method, case.images))
    rng = method.rng_state()

    def total(weights: torch.Tensor | None) -> float:
        method.set_rng_state(rng)
        return method.loss(output, material.LABELS_B, weights=weights).total.item()

    plain, ones = total(None), total(torch.ones(len(material.LABELS_B)))
    uneven = total(torch.tensor([2.5, 0.5, 0.5, 0.5]))
    step = "put vlmprompt.api.cross_entropy(logits, labels, weights) where cross_entropy stands"
    require(
        abs(ones - plain) <= 1e-4 * max(1.0, abs(plain)), f"weights of one change the loss: {ones} for {plain}", step
    )
    require(abs(uneven - plain) > 1e-6 * max(1.0, abs(plain)), "weights of images change nothing in the loss", step)
