"""The contract of a score that tells images of known classes from all others.

Shapes: B images, K classes, P prompts, N local positions, d joint width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from vlmprompt.errors import CapabilityError
from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.score_config import ScoreConfig

if TYPE_CHECKING:
    from vlmprompt.methods.contract import PromptMethod

# What a score may need of a method's output, in words, and what is said of a method that does not give it.
NEEDS: Mapping[str, str] = {
    "cosines": "cosines",
    "local": "local features",
    "image": "image features",
    "text": "text features",
}
_LACKING = {
    "cosines": "the score needs cosines, and this method's logits are none",
    "local": "the score needs local features, and this method matches none with its classes",
    "image": "the score needs unit image features, and this method gives none (image_Bd in the aux of its output)",
    "text": "the score needs unit text features, and this method gives none (text_PKd in the aux of its output)",
}


class Score:
    """What a plugin registers with `register_scores`: a subclass, made with its options.

    Attributes:
        needs: what of a method's output it reads, of NEEDS; to a method that lacks it the score does not apply.
            "cosines": `global_cosines` (B,K), or logits that are cosines times `scale`; "local": `local`, which methods
            without local features of their own are given; "image": `aux["image_Bd"]`, unit features (B,d); "text":
            `aux["text_PKd"]`, unit features (P,K,d), (B,P,K,d) where the text depends on the image.

    Args:
        config: its options; the bare base where it has none.
    """

    needs: ClassVar[frozenset[str]] = frozenset()

    def __init__(self, config: ScoreConfig) -> None:
        self.config: Any = config

    def parts(self) -> Mapping[str, Any]:
        """What its values depend on beside options and code, as JSON types, such as the digest of a file."""
        return {}

    def prepare(self, method: PromptMethod) -> Any:
        """What it needs of a method and its classes, made once and given to `score`; such as text features."""
        return None

    def score(self, output: MethodOutput, prepared: Any) -> Tensor:
        """A number for each image, (B,); higher = more in-distribution. No graph is recorded.

        Args:
            output: what the method says of a batch.
            prepared: what `prepare` gave.
        """
        raise NotImplementedError

    def basis(self, output: MethodOutput) -> str:
        """What it is computed on, in words for a result row."""
        return " and ".join(words for need, words in NEEDS.items() if need in self.needs) or "logits"

    def require(self, output: MethodOutput) -> None:
        """Refuse the output of a method that does not give what the score needs.

        Raises:
            CapabilityError: says what is lacking.
        """
        there = {
            "cosines": output.global_cosines is not None or output.cosine_logits,
            "local": output.local is not None,
            "image": "image_Bd" in output.aux,
            "text": "text_PKd" in output.aux,
        }
        for need in NEEDS:
            if need in self.needs and not there[need]:
                raise CapabilityError(_LACKING[need])
