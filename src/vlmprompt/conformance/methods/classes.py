"""What a method makes of lists of classes: in another order, of other classes, of several names."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from vlmprompt.conformance import material
from vlmprompt.conformance.check import BrokenRuleError, require, skip
from vlmprompt.conformance.methods.case import SAME, MethodCase, changed, distance, state_of
from vlmprompt.errors import CapabilityError, InputError
from vlmprompt.methods.class_text import SEVERAL_NAMES
from vlmprompt.methods.contract import PromptMethod

SEVERAL = ("red fox | fox", "green_frog | frog", "whale", "wolf")
RENEW = "set what depends on the classes in class_tokens or renew, which with_classes calls"


def over(method: PromptMethod, names: Sequence[str]) -> PromptMethod:
    """The method over other classes, with their descriptions."""
    return method.with_classes(names, descriptions=material.phrases(names))


def permuted_classes_permute_logits(case: MethodCase) -> None:
    """Classes in another order have the same logits in that order."""
    method = case.learned()
    if "new_classes" not in method.capabilities:
        skip("what it learned belongs to its classes")
    names = material.OTHER_NAMES  # a method may treat classes that it was trained on in another way
    expected = case.logits(over(method, names)).flip(1)
    apart = distance(case.logits(over(method, names[::-1])), expected, method)
    require(apart <= 5 * SAME, f"classes in another order have logits {apart:.2g} of a cosine away", RENEW)


def serves_new_classes(case: MethodCase) -> None:
    """`new_classes` means it: other classes get the same learned prompts; without it they are refused."""
    method = case.learned()
    before = case.logits(method)
    if "new_classes" not in method.capabilities:
        try:
            over(method, material.OTHER_NAMES)
        except CapabilityError:
            return
        raise BrokenRuleError(
            "other classes are taken, though new_classes is not among the capabilities",
            "name new_classes, or leave with_classes as it is",
        )
    other = over(method, material.OTHER_NAMES)
    shared = all(a is b for a, b in zip(method.parameters(), other.parameters(), strict=True))
    require(shared, "over other classes the learned tensors are others", "share them: with_classes copies no values")
    require(len(case.logits(other)[0]) == len(material.OTHER_NAMES), "other classes have other columns", RENEW)
    fresh = case.build(material.OTHER_NAMES, seed=2)
    fresh.load_trainable_state(state_of(method))
    # Over a third list, which is new to both: a method may treat classes that it was trained on in another way.
    third, expected = (case.logits(over(one, material.THIRD_NAMES)) for one in (method, fresh))
    apart = distance(third, expected, method)
    require(
        apart <= SAME,
        f"with_classes is {apart:.2g} of a cosine from what it is where the same state was learned over other classes",
        f"{RENEW}; drop new_classes where what is learned belongs to the classes",
    )
    require(torch.equal(case.logits(method), before), "with_classes changed the method itself", "change the copy alone")


def class_lists_go_there_and_back(case: MethodCase) -> None:
    """Over other classes and back over its own a method says the same, to the bit."""
    method = case.learned()
    if "new_classes" not in method.capabilities:
        skip("it serves its own classes alone")
    back = over(over(method, material.OTHER_NAMES), material.NAMES)
    require(back.class_names == method.class_names, "class_names are not those that were given", RENEW)
    name = changed(state_of(method), state_of(back))
    require(name is None, f"tensor {name!r} of the state did not come back", RENEW)
    require(
        torch.equal(case.logits(back), case.logits(over(method, material.NAMES))),
        "over other classes and back the logits are not what they were",
        RENEW,
    )


def several_names_of_a_class(case: MethodCase) -> None:
    """`several_names` means it: "car | automobile" is one class; without it such names are refused."""
    method = case.build()
    try:
        if SEVERAL_NAMES not in method.capabilities:
            method._set_classes(SEVERAL)
        else:
            finite = bool(case.logits(case.build(SEVERAL)).isfinite().all())
            require(finite, "logits of classes of several names are not finite", "average over the names: class_text")
            return
    except (CapabilityError, InputError) as refusal:
        declared = SEVERAL_NAMES in method.capabilities
        require(not declared, f"several names are refused: {refusal.message}", f"drop {SEVERAL_NAMES}, or take them")
        return
    raise BrokenRuleError(
        f"several names of a class are taken, though {SEVERAL_NAMES} is not among the capabilities",
        f"name {SEVERAL_NAMES}, or leave _set_classes as it is",
    )


def descriptions_are_declared(case: MethodCase) -> None:
    """A method that says it never reads descriptions does the same without them."""
    method = case.build()
    if method.reads_descriptions(method.config) != "never":
        skip("it reads descriptions")
    plain = case.learn(case.build(described=False))
    step = "say in reads_descriptions whether it reads them in training or always"
    name = changed(state_of(case.learned()), state_of(plain))
    require(name is None, f"with descriptions {name!r} is learned otherwise than without", step)
    equal = torch.equal(case.logits(plain), case.logits(case.learned()))
    require(equal, "with descriptions the logits are others than without", step)
