"""What was said of each image of a cell, in a file beside the results: `details/<key of the cell>.safetensors`.

Arrays are in the order of the split. The header is the single metadata entry "vlmprompt" (several would come in any
order), so that equal content gives equal bytes. Ids of images are compressed (`ids`, `in_ids`, `out_ids`: zlib of a
JSON list, as bytes), since of a large data set they would take more room than all numbers. torch is not needed.

Shapes: B images, I of them inside and O outside (OOD), K classes.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors
from pydantic import BaseModel, ConfigDict
from safetensors.numpy import save

from vlmprompt.atomic import write_atomic
from vlmprompt.errors import InputError
from vlmprompt.regular import regular
from vlmprompt.results.calibration import calibration_metrics

FOLDER = "details"
HEADER_KEY = "vlmprompt"
AGAIN = "measure it again: 'vlmprompt evaluate --force'"
Array = np.ndarray[Any, np.dtype[Any]]
Kind = Literal["classification", "scores"]
# Arrays of each image -> what they are kept as.
OF_IMAGES: Mapping[str, Any] = {
    "label": np.int32,
    "prediction": np.int32,
    "confidence": np.float32,
    "true_probability": np.float32,
    "square_sum": np.float32,
    "runner_up": np.int32,
    "runner_up_probability": np.float32,
}
IDS = ("ids", "in_ids", "out_ids")
_KEY = re.compile(r"[0-9a-f]{64}")


class _Header(BaseModel):
    """What a file says of itself; see `Details`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    kind: Kind
    suite: str
    cell: str
    dataset: str
    class_names: tuple[str, ...]
    companion: str | None = None
    temperature: float | None = None


def _none() -> Array:
    return np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, eq=False, repr=False)
class Details:
    """What was said of each image of one cell.

    Attributes:
        kind: "classification", or "scores" of images inside and outside (OOD).
        dataset: spec of the data that the images are of.
        class_names: what `label` and the other places of classes stand for.
        suite, cell: where it was measured; the runner fills them in.
        temperature: that the logits were divided by, if any.
        ids: of the images, (B,), as `Record.id`.
        label: (B,) the right class.
        prediction: (B,) the class of the largest probability; among equally large ones the right class.
        confidence: (B,) the largest probability.
        true_probability: (B,) that of the right class.
        square_sum: (B,) the sum over classes of squared probabilities.
        runner_up, runner_up_probability: (B,) the next class after the prediction, the right one among equals; -1 and
            0 where there is one class only.
        inside, outside: score -> (I,) and (O,), higher = more in-distribution.
        in_ids, out_ids: of these images.
        companion: spec of the data outside.
    """

    kind: Kind
    dataset: str
    class_names: tuple[str, ...]
    suite: str = ""
    cell: str = ""
    temperature: float | None = None
    ids: tuple[str, ...] = ()
    label: Array = field(default_factory=_none)
    prediction: Array = field(default_factory=_none)
    confidence: Array = field(default_factory=_none)
    true_probability: Array = field(default_factory=_none)
    square_sum: Array = field(default_factory=_none)
    runner_up: Array = field(default_factory=_none)
    runner_up_probability: Array = field(default_factory=_none)
    inside: Mapping[str, Array] = field(default_factory=dict)
    outside: Mapping[str, Array] = field(default_factory=dict)
    in_ids: tuple[str, ...] = ()
    out_ids: tuple[str, ...] = ()
    companion: str | None = None

    def __repr__(self) -> str:
        return f"Details({self.kind} of {self.suite} {self.cell}, {len(self)} images of {self.dataset})"

    def __len__(self) -> int:
        return len(self.label) if self.kind == "classification" else len(self.in_ids) + len(self.out_ids)

    @property
    def correct(self) -> Array:
        """(B,) whether an image was told right, as `top1` counts."""
        return np.asarray(self.prediction == self.label)

    def calibration(self) -> dict[str, float]:
        """Metrics of calibration, see `results.calibration`.

        Raises:
            InputError: there are no images.
        """
        return calibration_metrics(self.confidence, self.correct, self.true_probability, self.square_sum)

    def check(self) -> None:
        """Refuse arrays that do not fit together.

        Raises:
            ValueError: says which.
        """
        if self.kind == "scores":
            _require_lengths(len(self.in_ids), self.inside)
            _require_lengths(len(self.out_ids), self.outside)
            return
        _require_lengths(len(self.ids), {name: getattr(self, name) for name in OF_IMAGES})
        for name, least in (("label", 0), ("prediction", 0), ("runner_up", -1)):
            places = getattr(self, name)
            if len(places) and not least <= places.min() <= places.max() < len(self.class_names):
                raise ValueError(f"{name} names classes that there are not")

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all; floats in float32.

        Raises:
            InputError: it cannot be written.
        """
        write_atomic(path, self.bytes())

    def bytes(self) -> bytes:
        """The content of the file."""
        header = _Header(
            kind=self.kind,
            suite=self.suite,
            cell=self.cell,
            dataset=self.dataset,
            class_names=self.class_names,
            companion=self.companion,
            temperature=self.temperature,
        )
        if self.kind == "classification":
            arrays = {name: np.asarray(getattr(self, name), dtype=kept) for name, kept in OF_IMAGES.items()}
            arrays["ids"] = _packed(self.ids)
        else:
            sides = {"in": self.inside, "out": self.outside}
            arrays = {
                f"{side}/{score}": np.asarray(values, dtype=np.float32)
                for side, scores in sides.items()
                for score, values in scores.items()
            }
            arrays |= {"in_ids": _packed(self.in_ids), "out_ids": _packed(self.out_ids)}
        content: bytes = save(
            {name: np.ascontiguousarray(array) for name, array in arrays.items()},
            {HEADER_KEY: header.model_dump_json()},
        )
        return content

    @classmethod
    def read(cls, path: Path) -> Details:
        """Read a file.

        Raises:
            InputError: it is missing, damaged, or none of this version.
        """
        try:
            with safetensors.safe_open(regular(path), framework="numpy") as file:
                header = _Header.model_validate_json((file.metadata() or {})[HEADER_KEY])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            found = _parsed(header, arrays)
            found.check()
        except FileNotFoundError as error:
            raise InputError(f"there are no details {path}", hint=AGAIN) from error
        except (OSError, safetensors.SafetensorError, KeyError, ValueError, zlib.error) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} is damaged, or no details of this version: {reason}", hint=AGAIN) from error
        return found


def details_file(results: Path, key: str) -> Path | None:
    """Where the details of a row lie or would lie, None where its key is none that names a file.

    Args:
        results: the results file that holds the row.
        key: of the row.
    """
    return results.parent / FOLDER / f"{key}.safetensors" if _KEY.fullmatch(key) else None


def _parsed(header: _Header, arrays: Mapping[str, Array]) -> Details:
    """Raises: KeyError, ValueError, zlib.error (and ValidationError, which is a ValueError)."""
    about = header.model_dump(exclude={"version"})
    ids = {name: _unpacked(arrays[name]) for name in IDS if name in arrays}
    if header.kind == "classification":
        own: dict[str, Any] = {name: arrays[name] for name in OF_IMAGES}
        return Details(**about, ids=ids["ids"], **own)
    inside, outside = ({n.removeprefix(s): a for n, a in arrays.items() if n.startswith(s)} for s in ("in/", "out/"))
    return Details(**about, inside=inside, outside=outside, in_ids=ids["in_ids"], out_ids=ids["out_ids"])


def _require_lengths(n: int, arrays: Mapping[str, Array]) -> None:
    for name, array in arrays.items():
        if array.shape != (n,):
            raise ValueError(f"{name} is not of {n} images")


def _packed(ids: tuple[str, ...]) -> Array:
    return np.frombuffer(zlib.compress(json.dumps(ids, ensure_ascii=False).encode(), 9), dtype=np.uint8)


def _unpacked(packed: Array) -> tuple[str, ...]:
    found = json.loads(zlib.decompress(packed.tobytes()))
    if not isinstance(found, list) or not set(map(type, found)) <= {str}:
        raise ValueError("the ids of images are no list of texts")
    return tuple(found)
