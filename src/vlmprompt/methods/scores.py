"""Scores that tell images of known classes from all others, as plain functions of a method's output.

Higher means more in-distribution; the published codes keep the negative. Cosines are raw, not multiplied by
the logit scale, as there. At temperature 1 the softmax over a thousand of them is almost flat, so everything
is computed in float64 (where a device has it) and given in the precision of the output.

Shapes: B images, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor

from vlmprompt.backbones.types import at_least_float, exact
from vlmprompt.errors import CapabilityError, UsageError
from vlmprompt.methods.output import LocalView, MethodOutput
from vlmprompt.methods.score_names import SCORES

if TYPE_CHECKING:
    from vlmprompt.methods.contract import PromptMethod

# Of a value for each class (B,K), already divided by the temperature.
OF_CLASSES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "mcm": lambda c_BK: c_BK.softmax(dim=1).amax(dim=1),
    "max-logit": lambda c_BK: c_BK.amax(dim=1),
    "energy": lambda c_BK: c_BK.logsumexp(dim=1),
    "entropy": lambda c_BK: (c_BK.softmax(dim=1) * c_BK.log_softmax(dim=1)).sum(dim=1),
    "var": lambda c_BK: c_BK.softmax(dim=1).var(dim=1, correction=0),
}
# Of these the temperature is taken out again.
IN_UNITS = ("max-logit", "energy")
# What a classifier whose logits are no cosines can still give.
WITHOUT_COSINES = ("max-logit", "energy", "msp")


def ood_scores(
    output: MethodOutput,
    name: str,
    temperature: float = 1.0,
    *,
    local_weight: float = 1.0,
    scaled: bool = False,
    method: PromptMethod | None = None,
    options: Mapping[str, Any] | None = None,
) -> Tensor:
    """One score of each image: (B,), higher = more in-distribution; of the core's own or of a plugin's.

    With c the global cosines (logits / s where a method has none) and T the temperature:

    - `mcm`: max_k softmax(c/T)_k (MCM, Ming et al., NeurIPS 2022)
    - `l-mcm`: the same of each patch's cosines, its maximum over patches (GL-MCM, Miyai et al.)
    - `gl-mcm`: mcm + local_weight * l-mcm
    - `max-logit`: max_k c_k
    - `energy`: T logsumexp(c/T); of raw cosines (MCM's code) almost a constant, see `scaled`
    - `entropy`: minus the entropy of softmax(c/T)
    - `var`: the variance of softmax(c/T) over classes, ddof 0
    - `msp`: max_k softmax(logits/T)_k (Hendrycks & Gimpel, ICLR 2017)

    Args:
        name: of SCORES, or a plugin's.
        local_weight: lambda of gl-mcm.
        scaled: multiply the cosines by the logit scale s first.
        method: that gave the output, for a plugin's score that is prepared for it (here for one batch; `scorer`
            prepares once for many).
        options: of a plugin's score.

    Raises:
        UsageError: there is no such score or option, the temperature is not positive, or an argument is not for it.
        CapabilityError: the method cannot give it.
        PluginError: the score's own code failed.
    """
    if name not in SCORES:
        if (temperature, local_weight, scaled) != (1.0, 1.0, False):
            raise UsageError(
                f"score {name!r} takes no temperature, local_weight or scaled", hint="a plugin's score has options"
            )
        return _of_plugin(output, name, method, options)
    if options:
        raise UsageError(f"score {name!r} has no options", hint="its arguments are temperature, local_weight, scaled")
    if not temperature > 0:
        raise UsageError(f"the temperature of an OOD score must be above 0, not {temperature}")
    factor = output.scale if scaled else 1.0
    if name == "msp":
        return _of_classes("mcm", output.logits, temperature)
    if name == "l-mcm":
        return _local(output).lmcm(temperature / factor)
    if name == "gl-mcm":
        local = _local(output)
        own = _of_classes("mcm", factor * _cosines(output, name), temperature)
        return own + local_weight * local.lmcm(temperature / factor)
    return _of_classes(name, factor * _cosines(output, name), temperature)


def basis(output: MethodOutput, name: str) -> str:
    """What a score is computed on, in words for a result row.

    Raises:
        CapabilityError: the method cannot give it.
    """
    if name == "msp":
        return "logits"
    if name in ("l-mcm", "gl-mcm"):
        _local(output)
    if name == "l-mcm":
        return "local cosines"
    _cosines(output, name)
    if not output.cosine_logits:
        return "logits"
    own = "mcm_on=logits" if output.global_cosines is None else "global cosines"
    return f"{own} and local cosines" if name == "gl-mcm" else own


def _of_plugin(
    output: MethodOutput, name: str, method: PromptMethod | None, options: Mapping[str, Any] | None
) -> Tensor:
    from vlmprompt.methods.scorer import require_method, scorer

    found = scorer(name, options, method)
    if method is None:
        require_method(found)
    return found(output)


def _of_classes(name: str, values_BK: Tensor, temperature: float) -> Tensor:
    score = OF_CLASSES[name](exact(values_BK) / temperature)
    return (score * temperature if name in IN_UNITS else score).to(at_least_float(values_BK).dtype)


def _cosines(output: MethodOutput, name: str) -> Tensor:
    """Global cosines, or what takes their place."""
    if output.global_cosines is not None:
        return output.global_cosines
    if output.cosine_logits:
        return output.logits / output.scale
    if name not in WITHOUT_COSINES:
        raise CapabilityError("the score needs cosines, and this method's logits are none")
    return output.logits


def _local(output: MethodOutput) -> LocalView:
    if output.local is None:
        raise CapabilityError("the score needs local features, and this method matches none with its classes")
    return output.local
