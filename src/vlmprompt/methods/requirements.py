"""What a method may say of itself: what it can do, what it needs of a backbone, how it reads descriptions."""

from __future__ import annotations

from typing import Literal

from vlmprompt.methods.class_text import SEVERAL_NAMES
from vlmprompt.methods.streaming import TEST_TIME

CAPABILITIES = frozenset(
    {
        "new_classes",
        "feature_cache",
        "local",
        "image_conditioned",
        "class_shard",
        "row_split",
        "closed_form",
        "fit_first",
        "training_free",
        SEVERAL_NAMES,
        TEST_TIME,
    }
)

# What a method may require of a backbone -> the words for it in errors.
REQUIREMENTS = {
    "visual_prompts": "an image tower that takes prompt tokens (a ViT)",
    "local_features": "local image features",
    "deep_text_prompts": "a text tower that takes prompt tokens in its layers (one of open_clip's own)",
    "text_deltas": "a text tower whose blocks can be changed (one of open_clip's own)",
    "image_deltas": "an image tower whose blocks can be changed (a ViT)",
}

# Where a method reads descriptions of its classes, see `Hooks.reads_descriptions`.
DescriptionUse = Literal["never", "training", "always"]
