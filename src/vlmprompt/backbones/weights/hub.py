"""Models of the Hugging Face hub: the files of one, fetched into the hub's own cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

from vlmprompt.backbones.weights.folder import (
    HF_CONFIG,
    HF_FILES,
    HF_IMAGES,
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_FILES,
    hf_kind,
    read_json,
)
from vlmprompt.errors import InputError, VlmPromptError
from vlmprompt.hub_client import Unreached, one_attempt, unreachable

Result = TypeVar("Result")
_OFFLINE_HINT = (
    "get the network back, or name a file that you have (--backbone ARCHITECTURE/FILE, --backbone local-dir:FOLDER); "
    "--random-weights is for trying things out"
)


def fetched(thing: str, step: Callable[[], Result]) -> Result:
    """Run a step that may download something; its failures become one line.

    Args:
        thing: what is fetched, for errors.

    Raises:
        InputError: it cannot be had; says why.
    """
    try:
        with one_attempt() as unreached:
            return step()
    except VlmPromptError:
        raise
    except Exception as error:  # open_clip, the hub's package, its client and torch raise many unrelated types here
        raise _not_had(thing, error, unreached) from error


def fetch_folder(repository: str) -> Path:
    """The folder in the hub's cache with a model's description and weights.

    Args:
        repository: OWNER/NAME.

    Raises:
        InputError: there is no such repository, it holds no model that is read here, or the hub cannot be reached.
        CapabilityError: it holds a model of another kind.
    """
    return fetched(f"model {repository!r} of the Hugging Face hub", partial(_fetch, repository))


def _not_had(thing: str, error: Exception, unreached: Unreached) -> InputError:
    """The error for something that could not be fetched: says the network where it is that, or the hub's own reason."""
    reason = unreachable(error, unreached)
    if reason is not None:
        return InputError(f"cannot fetch {thing}: {reason}; it is not in the cache", hint=_OFFLINE_HINT)
    if "transformers" in str(error) and (isinstance(error, ImportError) or "pip install" in str(error)):
        return InputError(f"{thing} needs the package transformers", hint="pip install 'vlmprompt[hf-text]'")
    known = {
        "GatedRepoError": ("its authors want to be asked first", "ask on its page, then 'hf auth login'"),
        "RepositoryNotFoundError": ("there is no such repository, or it is private", "check its name; 'hf auth login'"),
        "HFValidationError": ("that is no name of a repository", "they are called OWNER/NAME"),
    }
    for name in (cls.__name__ for cls in type(error).__mro__):
        if name in known:
            reason, hint = known[name]
            return InputError(f"cannot fetch {thing}: {reason}", hint=hint)
    first = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    # What is at hand may be wrong as well: a description without one of its parts, a damaged file in the cache.
    return InputError(f"cannot load {thing}: {f'it has no {first}' if isinstance(error, KeyError) else first}")


def _fetch(repository: str) -> Path:
    """open_clip's description is looked for first, then Hugging Face's own."""
    described = _one_of(repository, [OPEN_CLIP_CONFIG, HF_CONFIG])
    if described is None:
        raise InputError(f"model {repository!r} of the Hugging Face hub has no {OPEN_CLIP_CONFIG} and no {HF_CONFIG}")
    names: Sequence[str] = OPEN_CLIP_FILES
    if described.name == HF_CONFIG:
        hf_kind(read_json(described), repository)
        names = HF_FILES
        with suppress(FileNotFoundError):  # nobody could be asked, and it can be done without
            _one_of(repository, [HF_IMAGES])
    if _one_of(repository, names) is None:
        raise InputError(f"model {repository!r} of the Hugging Face hub has no file of weights that is read here")
    return described.parent


def _one_of(repository: str, names: Sequence[str]) -> Path | None:
    """The first of some files that the repository has, or the cache where nobody can be asked.

    Raises:
        LocalEntryNotFoundError: nobody can be asked, and none is in the cache.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    unanswered: LocalEntryNotFoundError | None = None
    for name in names:
        try:
            return Path(hf_hub_download(repository, name))
        except LocalEntryNotFoundError as error:
            unanswered = error
        except EntryNotFoundError:
            continue
    if unanswered is not None:
        raise unanswered
    return None
