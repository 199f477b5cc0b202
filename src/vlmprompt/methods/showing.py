"""What a method may show of itself: numbers for the log, curves of them, tables, maps of where it looks.

All of it may be left out; nothing is computed differently for it.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from vlmprompt.methods.output import MethodOutput
from vlmprompt.methods.patch_maps import PatchMap, cosine_maps

if TYPE_CHECKING:
    from vlmprompt.methods.curves import Curves
    from vlmprompt.methods.learned_table import LearnedTable


class Showing:
    """The part of the contract that is for people to look at."""

    def diagnostics(self) -> Mapping[str, float]:
        """Numbers worth logging each epoch (Bloom: its gates); default none."""
        return {}

    def observe_gradients(self) -> Mapping[str, Tensor]:
        """Scalars of a step's gradients that are worth logging (Bloom: norms of its gates' and prompts'); default none.

        Called once a step, behind the backward pass and before the update, without a graph. They stand in the step's
        line of the log, and their means over the epoch's steps in the epoch's.
        """
        return {}

    @classmethod
    def curves(cls, names: Collection[str]) -> Sequence[Curves]:
        """Pictures of what the log says of an epoch, over the epochs (Bloom: its gates); default none.

        Args:
            names: what the epochs' lines of a log hold, such as `diagnostics.prompt_cosine`.
        """
        return ()

    def learned_tables(self) -> Sequence[LearnedTable]:
        """What a trained method shows of its parameters, for `vlmprompt explain` to print (Bloom: its gates); default
        none.

        Called in eval mode, without a graph.
        """
        return ()

    def patch_maps(self, output: MethodOutput, labels_B: Tensor) -> Sequence[PatchMap]:
        """What this method has seen where in images, for a class of each, to be shown; by default local cosines.

        Maps of how logits came about stand first: which patches were chosen, a transport plan. What a gradient tells
        is found elsewhere, for every method alike.

        Args:
            output: of these images, made with the option `keep_plan=True`.
            labels_B: indices into `class_names`.
        """
        return cosine_maps(output, labels_B)
