"""The core's own scores, as any other is registered; what they compute is in `scores`."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score import Score
from vlmprompt.methods.scores import basis, ood_scores


class OwnScore(Score):
    """One of SCORES, at temperature 1; without options."""

    name: ClassVar[str]

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        """See `Score.score`."""
        return ood_scores(output, self.name)

    def basis(self, output: MethodOutput) -> str:
        """See `Score.basis`."""
        return basis(output, self.name)

    def require(self, output: MethodOutput) -> None:
        """See `Score.require`; which output will do is known where it is read."""
        basis(output, self.name)


class MCM(OwnScore):
    """The largest softmax of the cosines (MCM, Ming et al., NeurIPS 2022)."""

    name = "mcm"


class LocalMCM(OwnScore):
    """The largest softmax of any patch's cosines (GL-MCM, Miyai et al.)."""

    name = "l-mcm"
    needs = frozenset({"local"})


class GlobalLocalMCM(OwnScore):
    """The sum of mcm and l-mcm (GL-MCM, Miyai et al.)."""

    name = "gl-mcm"
    needs = frozenset({"local"})


class MaxLogit(OwnScore):
    """The largest cosine."""

    name = "max-logit"


class Energy(OwnScore):
    """The logarithm of the sum of the exponentials of the cosines; of raw ones almost a constant."""

    name = "energy"


class Entropy(OwnScore):
    """Minus the entropy of the softmax of the cosines."""

    name = "entropy"


class Variance(OwnScore):
    """The variance over classes of the softmax of the cosines."""

    name = "var"


class MSP(OwnScore):
    """The largest softmax of the logits (Hendrycks & Gimpel, ICLR 2017)."""

    name = "msp"
