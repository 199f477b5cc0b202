"""The built-in world: drawn pictures of everyday things, a small CLIP that knows them, and what their parts are called.

Pictures are drawn when they are asked for; nothing is stored or downloaded. It is a plugin that comes with vlmprompt:
found by its own entry point, it builds on `vlmprompt.api` alone, and the core knows nothing of it.
"""

from __future__ import annotations

from vlmprompt.api import Register, hookimpl

READERS = (
    ("doodles", "DoodlesReader", "built in: 64 drawn classes; doodles:sketch and other domains"),
    ("doodles-animals", "AnimalsReader", "built in: the 16 animals of doodles"),
    ("doodles-food", "FoodReader", "built in: the 16 kinds of food of doodles"),
    ("doodles-places", "PlacesReader", "built in: the 16 vehicles and buildings of doodles"),
    ("doodles-things", "ThingsReader", "built in: the 16 things of the house of doodles"),
    ("doodles-lookalikes", "LookalikesReader", "built in: five pairs of classes of doodles that differ in a detail"),
    ("doodles-unseen", "UnseenReader", "built in: 16 drawn classes beside doodles, near outliers"),
    ("doodles-textures", "TexturesReader", "built in: patterns, far outliers"),
    ("doodles-glyphs", "GlyphsReader", "built in: letters and digits, far outliers"),
)


@hookimpl
def register_datasets(register: Register) -> None:
    """The drawings as labelled images."""
    for name, reader, summary in READERS:
        register(name, target=f"vlmprompt.doodles.reader:{reader}", summary=summary)


@hookimpl
def register_backbones(register: Register) -> None:
    """The models that were trained on drawings."""
    for name, tower in (("doodle-clip", "ViT"), ("doodle-clip-rn", "ResNet")):
        register(
            name,
            target="vlmprompt.doodles.clip.loader:DoodleClipLoader",
            summary=f"small CLIP with a {tower}, trained on drawings; built in, nothing is downloaded",
        )


@hookimpl
def register_llm_providers(register: Register) -> None:
    """The parts of the drawings as descriptions."""
    register(
        "parts",
        target="vlmprompt.doodles.provider:PartsProvider",
        config="vlmprompt.doodles.provider:PartsConfig",
        summary="names the parts that the built-in classes are drawn of",
    )
