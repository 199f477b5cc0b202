"""Adapters, low-rank updates, learned tokens and test-time methods; this module imports nothing heavy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vlmprompt.api import hookimpl

if TYPE_CHECKING:
    from vlmprompt.api import Register

METHODS: tuple[tuple[str, str, str], ...] = (("clip_lora", "CLIPLoRA", "low-rank updates of attention in both towers"),)
METHODS: tuple[tuple[str, str, str], ...] = (
    ("mmrl", "MMRL", "learned tokens of one shared space in the upper layers of both towers"),
    ("tcp", "TCP", "context words, and class tokens made of each class's own text feature"),
METHODS: tuple[tuple[str, str, str], ...] = (
    ("clap", "CLAP", "class prototypes, held near the text as far as it knows each class"),
    ("clip_adapter", "CLIPAdapter", "a bottleneck on the image feature, mixed with it"),
    ("lp_plus_plus", "LPPlusPlus", "a linear probe blended with the text, step sizes from the data"),
    ("taskres", "TaskRes", "a learned residual on each class's text feature"),
    ("tip_adapter", "TipAdapter", "a cache of the training images beside zero-shot CLIP; no training"),
    ("tip_adapter_f", "TipAdapterF", "the same cache, its keys trained"),
)


@hookimpl
def register_methods(register: Register) -> None:
    """One module, one module of options, one schedule file each."""
    for name, cls, summary in METHODS:
        target = f"vlmprompt_adapters.{name}:{cls}"
        schedule = f"vlmprompt_adapters:schedules/{name}.toml"
        config = f"vlmprompt_adapters.config.{name}:{cls}Config"
        register(name, target=target, config=config, summary=summary, overrides=schedule)
