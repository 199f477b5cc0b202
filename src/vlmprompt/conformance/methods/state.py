"""What a method keeps: its trained state, its copies, and what using it leaves alone."""

from __future__ import annotations

import torch

from vlmprompt.conformance.check import BrokenRuleError, require, skip
from vlmprompt.conformance.methods.case import SAME, MethodCase, adapts, changed, distance, loops, own_copy, state_of

IN_STATE = "make all that is learned a parameter or a persistent buffer, of the same name and shape in every new method"


def state_round_trip(case: MethodCase) -> None:
    """A new method that is given the trained state says the same, to the bit."""
    method = case.learned()
    expected, state = case.logits(method), state_of(method)
    other = case.build(seed=2)
    other.load_trainable_state(state)
    name = changed(state, state_of(other))
    require(name is None, f"tensor {name!r} of the state is another one once it is loaded", IN_STATE)
    found = case.logits(other)
    require(
        torch.equal(found, expected),
        f"logits differ by up to {(found - expected).abs().max().item():.3g} after the state was saved and loaded",
        IN_STATE,
    )


def evaluation_changes_nothing(case: MethodCase) -> None:
    """Evaluation changes no state, draws no random numbers and says the same each time."""
    method = case.learned().eval()
    state, rng = state_of(method), method.rng_state()
    first = case.logits(method)
    name = changed(state, state_of(method))
    require(name is None, f"evaluation changed tensor {name!r} of the state", "change it under self.training alone")
    require(
        torch.equal(rng, method.rng_state()),
        "evaluation drew random numbers",
        "draw in sample_draws, which is called in training alone, or look at self.training",
    )
    require(
        torch.equal(first, case.logits(method)),
        "the same images get other logits the second time",
        "keep nothing of one batch for the next outside training",
    )


def frozen_is_as_evaluated(case: MethodCase) -> None:
    """`frozen()`, its text encoded once, says what the method says in eval mode, and goes on saying it."""
    method = case.learned()
    if adapts(method):
        skip("frozen it adapts to the images that it is given")
    expected = case.logits(method)
    frozen = method.frozen()
    found = frozen(case.images).logits
    apart = distance(found, expected, method)
    require(
        apart <= SAME,
        f"logits of frozen() are {apart:.2g} of a cosine from those of the method in eval mode",
        "take the text that forward is given; say image_conditioned where it depends on the image",
    )
    require(not found.requires_grad, "logits of frozen() have a graph", "do not switch gradients on")
    case.learn(method)
    require(
        torch.equal(frozen(case.images).logits, found),
        "what the method learned later reached a frozen copy made before",
        "register what is learned as parameters and buffers, which are copied; other tensors are shared",
    )


def deep_copies_are_independent(case: MethodCase) -> None:
    """What happens to a method does not reach a deep copy of it."""
    method = case.learn(case.build())
    if not state_of(method):
        skip("it has no state")
    other = method.copied(deep=True)
    state, expected = state_of(other), case.logits(other)
    with torch.no_grad():
        for tensor in method.trainable_state().values():
            if tensor.is_floating_point():
                tensor += torch.linspace(-0.5, 0.5, tensor.shape[-1] if tensor.ndim else 1).reshape(
                    (-1,) if tensor.ndim else ()
                )
    name = changed(state, state_of(other))
    step = "hold tensors as parameters, buffers or in modules alone: other attributes are shared by copies"
    require(name is None, f"tensor {name!r} of a deep copy changed with the method's own", step)
    require(torch.equal(case.logits(other), expected), "a deep copy says something else when its origin changes", step)


def learns_after_inference_mode(case: MethodCase) -> None:
    """A first call under `torch.inference_mode` leaves training possible."""
    with torch.inference_mode():
        method = case.build().eval()
        method(case.images)
        if not adapts(method):
            method.frozen()(case.images)
    if not loops(method):
        skip("it has no training loop")
    try:
        case.learn(own_copy(method))
    except Exception as error:
        if "inference" not in str(error).lower():
            raise
        raise BrokenRuleError(
            f"training fails after a first call: {error}", "make what is kept under torch.inference_mode(False)"
        ) from error
