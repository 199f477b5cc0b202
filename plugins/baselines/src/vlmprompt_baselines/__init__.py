"""The methods that prompt-learning papers compare with; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register

METHODS = (
    ("cocoop", "CoCoOp", "learned context words, shifted for each image by a small network"),
    ("ivlp", "IVLP", "independent prompts in every layer of both towers"),
    ("kgcoop", "KgCoOp", "learned context words, held near the hand-written text"),
    ("locoop", "LoCoOp", "learned context words, with the background kept unlike every class"),
    ("maple", "MaPLe", "text prompts in every layer, and image prompts made of them"),
    ("plot", "PLOT", "several contexts, matched with local image features by optimal transport"),
    ("proda", "ProDA", "a distribution of text features, from many contexts around the class name"),
    ("promptsrc", "PromptSRC", "prompts in both towers, held near CLIP, averaged over epochs"),
    ("vpt", "VPT", "prompts in the image tower alone"),
)


@hookimpl
def register_methods(register: Register) -> None:
    """One module, one schedule file each."""
    for name, cls, summary in METHODS:
        target = f"vlmprompt_baselines.{name}:{cls}"
        schedule = f"vlmprompt_baselines:schedules/{name}.toml"
        config = f"vlmprompt_baselines.config:{cls}Config"
        register(name, target=target, config=config, summary=summary, overrides=schedule)
