"""The entries of explain.json: an image each, its pictures drawn and written.

Shapes: B images, K classes, N patches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmprompt.atomic import write_atomic
from vlmprompt.data.records import Record
from vlmprompt.errors import CapabilityError
from vlmprompt.explain.chosen import Seen, batches, stacked
from vlmprompt.explain.draw import Panel, Row, draw, pixels, short
from vlmprompt.explain.maps import Looking, mean_share, on_object, share
from vlmprompt.methods.patch_maps import MapKind, PatchMap
from vlmprompt.progress import Progress

CLIP = "zero-shot CLIP"
SHEET, SHEET_FILE = 8, "attention.png"  # images at most
ORDER: tuple[MapKind, ...] = ("attention", "patches", "plan", "cosines")
TITLES: dict[MapKind, str] = {
    "attention": "What speaks for the class, by its gradient",
    "patches": "The patches that local prompts choose",
    "plan": "The patches that prompts are matched with",
    "cosines": "Cosines of patches and class",
}
MEANING: dict[MapKind, str] = {
    "attention": "How much each patch speaks for the class: attention of the last block, or the last feature map, "
    "weighted by the gradient of the class's logit. Each panel is relative to its own largest value.",
    "patches": "The patches that each local prompt averages for the class; the others are dimmed.",
    "plan": "The share of each prompt's mass that the transport plan of the class takes from each patch.",
    "cosines": "Cosines of local features with the text of the class.",
}
_OTHER = re.compile(r"[^a-z0-9]+")


@dataclass
class Entries:
    """Draws, writes and describes pictures.

    Attributes:
        clip: stands beside; None where the run is zero-shot CLIP itself.
        temperature: of the run's calibration, by which logits are divided; 1 without.
        count: images to come, or None where nobody knows.
    """

    folder: Path
    own: Looking
    clip: Looking | None
    progress: Progress
    count: int | None
    temperature: float = 1.0
    done: int = 0
    sheet: list[Row] = field(default_factory=list)

    def images(self, seen: Iterator[Seen]) -> Iterator[dict[str, Any]]:
        """An entry of explain.json for each image, its pictures written."""
        with self.progress.task("pictures", self.count, unit="img") as task:
            for batch in batches(seen):
                for entry in self._batch(batch):
                    yield entry
                    task.advance()

    def figures(self) -> list[dict[str, Any]]:
        """After all images: the first of them under one another, as in Fig. 1 of Bloom; written, and described."""
        if len(self.sheet) < 2:
            return []
        grid = self.own.frozen.method.backbone.vision.grid
        write_atomic(self.folder / SHEET_FILE, draw(grid, "attention", self.sheet))
        caption = f"{self._caption('attention')} For the true class of each image, or the predicted one where that is"
        return [
            {"file": SHEET_FILE, "title": TITLES["attention"], "caption": f"{caption} unknown; n = {len(self.sheet)}."}
        ]

    def _batch(self, batch: Sequence[Seen]) -> Iterator[dict[str, Any]]:
        images = stacked(batch, self.own.frozen)
        output = self.own.output(images)
        likely_BK = (output.logits.float() / self.temperature).softmax(dim=-1).cpu()
        sure_B, predicted_B = likely_BK.max(dim=-1)
        true_B = torch.tensor([int(p) if s.label is None else s.label for s, p in zip(batch, predicted_B, strict=True)])
        clip_output = None if self.clip is None else self.clip.output(images)
        found: dict[str, tuple[list[PatchMap], list[PatchMap]]] = {}
        for name, labels_B in (("true", true_B), ("predicted", predicted_B)):
            if found and torch.equal(true_B, predicted_B):
                continue
            beside = [] if self.clip is None or clip_output is None else self.clip.maps(images, clip_output, labels_B)
            found[name] = (self.own.maps(images, output, labels_B), beside)
        if not found["true"][0]:
            raise CapabilityError(self.own.without or f"method {self.own.name} shows nothing of images")
        for i, one in enumerate(batch):
            self.done += 1
            asked = self._asked(one, int(predicted_B[i]), float(sure_B[i]))
            maps = [(words, *found.get(name, found["true"])) for name, words in asked.items()]
            yield self._image(one, i, maps) | {
                "true": None if one.label is None else self._class(one.label),
                "predicted": self._class(int(predicted_B[i])),
                "probability": _rounded(float(sure_B[i])),
            }

    def _asked(self, one: Seen, predicted: int, sure: float) -> dict[str, str]:
        """The rows of an image in words: its own class, and the likeliest if that is another."""
        own, likeliest = one.label, short(self._class(predicted))
        if own is None:
            return {"predicted": f"predicted, {sure:.0%}\n{likeliest}"}
        if own == predicted:
            return {"true": f"true and predicted, {sure:.0%}\n{likeliest}"}
        return {"true": f"true\n{short(self._class(own))}", "predicted": f"predicted, {sure:.0%}\n{likeliest}"}

    def _image(self, one: Seen, i: int, maps: Sequence[tuple[str, list[PatchMap], list[PatchMap]]]) -> dict[str, Any]:
        """Draw image i of a batch, a picture for each kind of map."""
        backbone = self.own.frozen.method.backbone
        grid, image = backbone.vision.grid, pixels(one.pixels_3HW, backbone.preprocess)
        mask_N = on_object(one.record, grid)
        pictures = []
        for kind in ORDER:
            own = [m for m in maps[0][1] if m.kind == kind]
            if not own:
                continue
            rows = [Row(words, image, self._panels(kind, i, ours, beside, mask_N)) for words, ours, beside in maps]
            if kind == "attention" and len(self.sheet) < SHEET:
                self.sheet.append(rows[0])
            shares = [{"title": m.title, "pointing": _rounded(_on(m, i, mask_N))} for m in own]
            file = f"{self.done:03}-{_slug(one.record)}-{kind}.png"
            write_atomic(self.folder / file, draw(grid, kind, rows))
            pictures.append(
                {
                    "file": file,
                    "kind": kind,
                    "title": TITLES[kind],
                    "caption": self._caption(kind, [words for words, _, _ in maps]),
                    "pointing": _rounded(_mean_on(own, i, mask_N)),
                    "chance": None if mask_N is None else _rounded(float(mask_N.double().mean())),
                    "maps": shares,
                }
            )
        source = one.record.image
        return {"id": one.record.id, "path": str(source) if isinstance(source, Path) else None, "pictures": pictures}

    def _panels(
        self, kind: MapKind, i: int, ours: Sequence[PatchMap], beside: Sequence[PatchMap], mask_N: Tensor | None
    ) -> tuple[Panel, ...]:
        """The maps of a kind of image i, zero-shot CLIP's first."""
        named = [(CLIP, m) for m in beside] + [(m.title or self.own.name, m) for m in ours]
        return tuple(
            Panel(title, m.values_BN[i].float().cpu(), _note(m.weights_BN[i], mask_N))
            for title, m in named
            if m.kind == kind
        )

    def _caption(self, kind: MapKind, rows: Sequence[str] = ()) -> str:
        said = "; ".join(row.replace("\n", ": ") for row in rows)
        beside = f" First {CLIP}, then {self.own.name}." if self.clip and kind in ("cosines", "attention") else ""
        return f"{MEANING[kind]}{beside}" + (f" Rows: {said}." if rows else "")

    def _class(self, label: int) -> str:
        return self.own.frozen.class_names[label]


def _slug(record: Record) -> str:
    """The last two parts of an image's id, as a part of a file's name."""
    words = "/".join(re.split(r"[/\\]", record.id)[-2:]).lower()
    return _OTHER.sub("-", words).strip("-")[:40].strip("-") or "image"


def _on(one: PatchMap, i: int, mask_N: Tensor | None) -> float | None:
    return None if mask_N is None else share(one.weights_BN[i], mask_N)


def _mean_on(maps: Sequence[PatchMap], i: int, mask_N: Tensor | None) -> float | None:
    """Of all maps of a kind. Not of a plan: its prompts share the patches among them, so their mean is that of the
    patches' weights, which is chance, whatever the plan does."""
    if mask_N is None or any(m.kind == "plan" for m in maps):
        return None
    return mean_share([m.weights_BN[i] for m in maps], mask_N)


def _note(weights_N: Tensor, mask_N: Tensor | None) -> str | None:
    """What stands below the title of a panel."""
    if not weights_N.any():
        return "no patch stands out"
    return None if mask_N is None else f"{share(weights_N, mask_N):.0%} on the object"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
