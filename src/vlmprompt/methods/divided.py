"""What of a method's work several processes may divide."""

from __future__ import annotations

from vlmprompt.methods.contract import PromptMethod

# What decides whether images of a batch touch each other, and whether classes do.
ROW_HOOKS = (
    "forward",
    "forward_views",
    "encode_images",
    "encode_text",
    "classify",
    "loss",
    "loss_draws",
    "sample_draws",
)
CLASS_HOOKS = ("forward", "encode_text", "text_prompts", "class_tokens", "sample_draws")


def divides_rows(method: PromptMethod) -> bool:
    """Whether each process may compute some images of a batch: `row_split`, which the mean of their losses allows.

    Not of a method that reads images without labels, of which a batch may hold another number.
    """
    return "row_split" in method.capabilities and not method.reads_unlabelled and _stands(method, ROW_HOOKS)


def divides_classes(method: PromptMethod) -> bool:
    """Whether each process may encode the text of some classes: `class_shard`."""
    return "class_shard" in method.capabilities and _stands(method, CLASS_HOOKS)


def _stands(method: PromptMethod, hooks: tuple[str, ...]) -> bool:
    """Whether what a class says of itself is said of its own hooks: a subclass that overrides one says it anew."""
    order = type(method).__mro__
    said = next(i for i, cls in enumerate(order) if "capabilities" in vars(cls))
    return not any(name in vars(cls) for cls in order[:said] for name in hooks)
