"""Names under which models are known elsewhere, and what they are called here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

OPENAI = "-quickgelu/openai"
_OPENAI_HF = re.compile(r"openai/clip-vit-(base|large)-patch(16|32|14)(-336)?")
_OPENAI_OWN = re.compile(r"(ViT-[BL])/(16|32|14)(@336px)?")
_SIGLIP = re.compile(r"google/siglip(2?)-(base|large|so400m|giant-opt)-patch(14|16|32)-(i18n-)?(\d+)")
_LETTERS = {"base": "B", "large": "L", "so400m": "SO400M", "giant-opt": "gopt"}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def place_here(spec: str, architectures: Iterable[str], repositories: Mapping[str, str]) -> str | None:
    """The backbone spec of a model that was named as elsewhere; None where the name is of no such form.

    Args:
        spec: what was asked for.
        architectures: open_clip's names.
        repositories: repository of the hub -> backbone spec, of open_clip's own list.
    """
    name = spec.removeprefix("https://huggingface.co/").removeprefix("huggingface.co/").strip("/")
    known = set(architectures)
    if found := _OPENAI_OWN.fullmatch(name):
        return f"{found[1]}-{found[2]}{'-336' if found[3] else ''}{OPENAI}"
    if found := _OPENAI_HF.fullmatch(name):
        here = f"ViT-{_LETTERS[found[1]]}-{found[2]}{found[3] or ''}"
        return here + OPENAI if here in known else None
    if found := _SIGLIP.fullmatch(name):
        stem = f"ViT-{_LETTERS[found[2]]}-{found[3]}-SigLIP{found[1]}{'-i18n' if found[4] else ''}"
        sized = f"{stem}-{found[5]}"
        here = sized if sized in known else stem
        return f"{here}/webli" if here in known else f"hf-hub:{name}"
    if name.lower() in repositories:
        return repositories[name.lower()]
    return f"hf-hub:{name}" if name != spec and is_repository(name) else None


def whose_name(spec: str) -> str:
    """Whose name something is that `place_here` knows, in words."""
    name = spec.rpartition("huggingface.co/")[2].strip("/")
    return "a name of OpenAI's code" if _OPENAI_OWN.fullmatch(name) else "a name of the Hugging Face hub"


def is_repository(spec: str) -> bool:
    """Whether something has the form of the name of a repository of the hub."""
    return _REPOSITORY.fullmatch(spec) is not None
