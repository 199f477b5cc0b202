"""Adapters, low-rank updates, learned tokens and test-time methods; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register

METHODS = (
    ("clap", "CLAP", "class prototypes, held near the text as far as it knows each class"),
    ("clip_adapter", "CLIPAdapter", "a bottleneck on the image feature, mixed with it"),
    ("clip_lora", "CLIPLoRA", "low-rank updates of attention in both towers"),
    ("lp_plus_plus", "LPPlusPlus", "a linear probe blended with the text, step sizes from the data"),
    ("mmrl", "MMRL", "learned tokens of one shared space in the upper layers of both towers"),
    ("taskres", "TaskRes", "a learned residual on each class's text feature"),
    ("tcp", "TCP", "context words, and class tokens made of each class's own text feature"),
    ("tda", "TDA", "a cache filled by the test stream itself; no training"),
    ("tip_adapter", "TipAdapter", "a cache of the training images beside zero-shot CLIP; no training"),
    ("tip_adapter_f", "TipAdapterF", "the same cache, its keys trained"),
    ("tpt", "TPT", "context words tuned on each test image by the agreement of its views"),
)


@hookimpl
def register_methods(register: Register) -> None:
    """One module, one module of options, one schedule file each."""
    for name, cls, summary in METHODS:
        target = f"vlmprompt_adapters.{name}:{cls}"
        schedule = f"vlmprompt_adapters:schedules/{name}.toml"
        config = f"vlmprompt_adapters.config.{name}:{cls}Config"
        register(name, target=target, config=config, summary=summary, overrides=schedule)


@hookimpl
def register_scores(register: Register) -> None:
    """Scores that tell images of known classes from all others."""
    register(
        "neglabel",
        target="vlmprompt_adapters.neglabel:NegLabel",
        config="vlmprompt_adapters.config.neglabel:NegLabelConfig",
        summary="the mass of the classes among them and many words that are none of them; no training",
    )
