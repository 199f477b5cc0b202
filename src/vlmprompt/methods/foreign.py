"""What the published codes of prompt learning save, as methods read it.

Most of them train with Dassl, whose `model.pth.tar-N` holds under "state_dict" what the trainer registered: the prompt
learner alone (CoOp and its relatives), or the whole model with its towers (MaPLe and its relatives).

Shapes: K texts, V context tokens, D text width.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vlmprompt.errors import InputError

LEARNER = "prompt_learner."
TOWERS = ("image_encoder.", "text_encoder.")
IN_TOWERS = ("VPT", "VPT_shallow")  # how names of prompts end that stand among a tower's weights
# Embeddings of the text around the contexts: the codes save and ignore them, as they belong to the class names.
BUFFERS = frozenset({"token_prefix", "token_suffix", "token_midfix"})
NAMES_SHOWN = 5


@dataclass(frozen=True)
class ForeignState:
    """What a checkpoint of a published code says.

    Attributes:
        code: whose code, for messages, such as "CoOp's code".
        state: the trained tensors, in float32; under the method's names once a method has read them.
        options: options of the method that the shapes decide.
        classes: the number of classes that it was trained on, where that shows.
        start_D: embedding of the start-of-text token in the tower that it was trained with, where it is in it.
    """

    code: str
    state: Mapping[str, Tensor]
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: int | None = None
    start_D: Tensor | None = None

    def require(self, names: Sequence[str]) -> None:
        """Check that these tensors are there, and no others.

        Raises:
            InputError: one is missing or unknown; the message names it, and what there is.
        """
        for name in names:
            if name not in self.state:
                raise InputError(f"{self.code} saves a tensor {name!r}; the checkpoint has {_listed(self.state)}")
        for name in self.state:
            if name not in names:
                raise InputError(f"the checkpoint holds a tensor {name!r}, which {self.code} does not save")

    def tensor(self, name: str, *dims: int) -> Tensor:
        """A tensor that must have one of these numbers of dimensions.

        Raises:
            InputError: it has another shape.
        """
        tensor = self.state[name]
        if tensor.dim() not in dims:
            wanted = " or ".join(map(str, dims))
            raise InputError(
                f"tensor {name!r} of the checkpoint has shape {tuple(tensor.shape)}; "
                f"that of {self.code} has {wanted} dimensions"
            )
        return tensor


def saved_tensors(content: Mapping[str, Any], code: str) -> Mapping[str, Any]:
    """The table of tensors: what is under "state_dict", or all of a file that holds nothing else.

    Raises:
        InputError: there is neither.
    """
    table = content.get("state_dict", content)
    plain = table is content and not all(isinstance(value, Tensor) for value in content.values())
    if not isinstance(table, Mapping) or plain or not table:
        raise InputError(f"a checkpoint of {code} has a state_dict, this one has {_listed(content)}")
    return table


def dassl_state(content: Mapping[str, Any], code: str, *, unused: tuple[str, ...] = ()) -> ForeignState:
    """What a Dassl trainer has saved of its prompts, under the code's own names without "prompt_learner.".

    Towers and token buffers are left out; of the latter, `classes` counts the texts that they are of.

    Args:
        unused: how names begin of what the code saves beside its prompts, and no method needs.

    Raises:
        InputError: there are no tensors, or one of them is no tensor of floating-point numbers.
    """
    table = {str(name).removeprefix("module."): value for name, value in saved_tensors(content, code).items()}
    whole = any(name.startswith((LEARNER, *TOWERS)) for name in table)
    named = {name.removeprefix(LEARNER): value for name, value in table.items() if not whole or _learned(name)}
    state = {n: _float32(n, value) for n, value in named.items() if n not in BUFFERS and not n.startswith(unused)}
    prefix_K1D = named.get("token_prefix")
    if not isinstance(prefix_K1D, Tensor) or prefix_K1D.dim() != 3 or not prefix_K1D.numel():
        return ForeignState(code, state)
    return ForeignState(code, state, classes=len(prefix_K1D), start_D=prefix_K1D[0, 0])


def context_options(ctx: Tensor) -> dict[str, Any]:
    """What a trained context (*,V,D) decides of a `ContextConfig`: its length, which no initial words set any more."""
    return {"n_ctx": ctx.shape[-2], "ctx_init": None}


def _learned(name: str) -> bool:
    """Whether a tensor of a whole model belongs to its prompts."""
    return name.startswith(LEARNER) or name.rpartition(".")[2] in IN_TOWERS


def _float32(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise InputError(f"tensor {name!r} of the checkpoint is a {type(value).__name__}")
    if not value.is_floating_point():
        raise InputError(f"tensor {name!r} of the checkpoint holds {value.dtype}, no floating-point numbers")
    return value.detach().float()


def _listed(names: Collection[str]) -> str:
    shown = [str(name) for name in names][:NAMES_SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > len(shown) else "") if names else "nothing"
