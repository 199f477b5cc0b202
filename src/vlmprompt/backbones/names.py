"""What may be written after `--backbone`: a misspelt one is refused by its name before anything heavy is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlmprompt.backbones.listed import TWIN, architectures, repositories, tags
from vlmprompt.backbones.weights.names import is_repository, place_here, whose_name
from vlmprompt.errors import InputError, UsageError, VlmPromptError, did_you_mean, nearest
from vlmprompt.plugins import host
from vlmprompt.regular import named_path

# What stands in front of specs that no list of names can check.
HUB, FOLDER = "hf-hub:", "local-dir:"
SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".ckpt", ".npz", ".onnx", ".tar")
_LOADER = "open_clip"  # a loader's name, which is no backbone


def require_backbone(spec: str, *, random_weights: int | None = None) -> None:
    """Refuse a spec whose architecture or tag is misspelt; whether its weights can be had is not looked at.

    Raises:
        UsageError: unknown architecture or tag, or no weights named.
        InputError: there is no such file of weights.
    """
    if spec in _registered():
        return
    if spec.startswith((HUB, FOLDER)):
        require_place(spec, random_weights)
        return
    architecture = spec.partition("/")[0]
    require_architecture(architecture, spec)
    if random_weights is None:
        require_weights(spec, tags(architecture))


def require_place(spec: str, random_weights: int | None) -> None:
    """Refuse a folder or repository that is not named, or whose weights are not wanted.

    Raises:
        UsageError: says what is missing, or too much.
    """
    prefix, _, place = spec.partition(":")
    if not place:
        what = "folder" if f"{prefix}:" == FOLDER else "OWNER/NAME"
        raise UsageError(f"backbone {spec!r} names no {what}", hint=f"write it behind the colon: {spec}{what}")
    if random_weights is not None:
        raise UsageError(
            f"backbone {spec!r} names weights, --random-weights asks for others",
            hint="leave --random-weights out, or name an architecture alone, such as --backbone ViT-B-16",
        )


def require_architecture(name: str, spec: str) -> None:
    """Refuse an architecture that open_clip does not know.

    Args:
        spec: the whole of what was asked for, which may be the name of something else.

    Raises:
        UsageError: says what was probably meant.
        PluginError: it is of a plugin that failed.
    """
    known = architectures()
    if name in known:
        return
    if not spec.strip():
        raise UsageError("no backbone named", hint="for example --backbone ViT-B-16-quickgelu/openai")
    if name in _registered():
        raise UsageError(f"backbone {name!r} has its own weights, {spec!r} names others", hint=f"use --backbone {name}")
    here = place_here(spec, known, repositories())
    if here is not None:
        raise UsageError(f"{spec!r} is {whose_name(spec)}, not a backbone of open_clip", hint=f"use --backbone {here}")
    require_no_address(spec)
    path = named_path(spec)
    if spec.startswith(("/", "./", "../", "~")) or path.suffix in SUFFIXES or path.exists():
        raise UsageError(f"backbone {spec!r} is a path without an architecture", hint=_form_of_path(path))
    backbones = host().backbones
    backbones.require_no_failure(spec)
    raise UsageError(f"unknown architecture {name!r}", hint=backbones.or_absent(_meant(name, spec, known)))


def require_no_address(text: str) -> None:
    """Refuse the address of a file on the network.

    Raises:
        UsageError: it is one.
    """
    if "://" in text:
        raise UsageError(
            f"{text!r} is an address, and nothing is fetched from addresses",
            hint="fetch the file, then --backbone ARCHITECTURE/FILE; repositories of the Hugging Face hub are "
            f"--backbone {HUB}OWNER/NAME",
        )


def require_weights(spec: str, known: tuple[str, ...] | None) -> None:
    """Refuse a spec without weights, or with some that are neither a tag nor a file.

    Args:
        known: the architecture's tags; None where they are not known.

    Raises:
        UsageError: the nearest tags are suggested.
        InputError: there is no such file.
    """
    architecture, _, weights = spec.partition("/")
    if not weights:
        first = _loadable(architecture, known[0]) if known else f"{architecture}/FILE"
        raise UsageError(f"backbone {spec!r} names no weights", hint=f"{first}, or --random-weights for random ones")
    # The tags of the twin without QuickGELU are refused later, with the name of the right one.
    if known is None or weights in known or weights in (tags(architecture.removesuffix(TWIN)) or ()):
        return
    require_no_address(weights)
    path = named_path(weights)
    if path.exists():
        return
    if "/" in weights or path.suffix in SUFFIXES:
        raise InputError(f"there is no file {path} (from {Path.cwd()})", hint="check the path in --backbone")
    raise UsageError(
        f"{weights!r} is neither a file nor a pretrained tag of {architecture}",
        hint=did_you_mean(weights, known) or f"open_clip has no weights for it; give a file: {architecture}/FILE",
    )


def _registered() -> list[str]:
    """Backbones of plugins and of the core, which are named without a slash."""
    return [name for name in host().backbones.names() if name != _LOADER]


def _meant(name: str, spec: str, known: Sequence[str]) -> str:
    """The next step from an architecture that nobody knows; all names would be too many to read."""
    prefix, colon, rest = spec.partition(":")
    if colon and (near := nearest(f"{prefix.lower()}:", (HUB, FOLDER))):
        return f"did you mean --backbone {near[0]}{rest}?"
    ways = []
    if near := nearest(name, [*_registered(), *known]):
        ways.append(f"did you mean {' or '.join(map(repr, near))}?")
    if is_repository(spec):
        ways.append(f"a repository of the Hugging Face hub is --backbone {HUB}{spec};")
    return " ".join([*ways, "'vlmprompt backbones list --architectures' lists all architectures"])


def _loadable(architecture: str, tag: str) -> str:
    """The spec of a tag, with the architecture's twin where the weights want QuickGELU."""
    twin = architecture + TWIN
    return f"{twin}/{tag}" if tag in (tags(twin) or ()) and twin in architectures() else f"{architecture}/{tag}"


def _form_of_path(path: Path) -> str:
    """What to write for a path: with the architecture, where its tensors tell it."""
    if path.is_dir():
        return f"use --backbone {FOLDER}{path}, or ARCHITECTURE/FILE for a file in it"
    general = f"write the architecture before it, such as --backbone ViT-B-16/{path}"
    if not path.exists():
        return f"there is no such file; {general}"
    from vlmprompt.backbones.openclip.fit import architectures_of
    from vlmprompt.backbones.weights.file import read_weights

    try:
        like = architectures_of(read_weights(path))
    except VlmPromptError as error:
        return error.told
    return f"by its shapes use --backbone {' or '.join(f'{name}/{path}' for name in like[:2])}" if like else general
