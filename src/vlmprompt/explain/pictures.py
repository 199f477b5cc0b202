"""From a run and images to pictures of where it looks.

Shapes: B images, N patches.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlmprompt.atomic import probe, write_atomic
from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.data.records import Record
from vlmprompt.errors import CapabilityError, InputError, UsageError, did_you_mean
from vlmprompt.explain.chosen import (
    WHICH,
    Reading,
    Seen,
    Which,
    batches,
    mistakes,
    named_images,
    shuffled_test,
    stacked,
)
from vlmprompt.explain.draw import Panel, Row, draw, pixels, short
from vlmprompt.explain.extras import extra_figures, extra_tables
from vlmprompt.explain.maps import Looking, mean_share, on_object, share
from vlmprompt.explain.written import FOLDER, VERSION, Explained, write
from vlmprompt.methods.build import build_method, written_for
from vlmprompt.methods.patch_maps import MapKind, PatchMap
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.runs import Run

BASELINE = "zeroshot"
CLIP = "zero-shot CLIP"
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


def explain(
    run: Run,
    images: Sequence[Path | str | Record] | None = None,
    *,
    out: Path | str | None = None,
    n: int = 8,
    seed: int = 1,
    which: Which = "random",
    runtime: Runtime | None = None,
    backbone: Backbone | None = None,
    progress: Progress | None = None,
) -> Explained:
    """Write pictures of where a run looks in images, zero-shot CLIP beside it, and an explain.json that names them.

    Args:
        images: files, folders of them, or records of the run's label space; None: some test images of its data.
        out: the folder; None: `explain` in the run's own. Pictures of an earlier call there make room.
        n: test images at most.
        seed: of their choice: the first n of all, shuffled by `random.Random(seed)`.
        which: "random", or "mistakes": the first n, in that order, that the run takes for another class.
        backbone: the run's towers, if they are in memory already.

    Raises:
        UsageError: a value is not allowed.
        InputError: no image could be read, the run makes no mistakes, or see `Run.build_method`.
        CapabilityError: the tower has no places to show.
    """
    if which not in WHICH:
        raise UsageError(f"unknown choice of images {which!r}", hint=did_you_mean(which, WHICH))
    if n < 1:
        raise UsageError(f"n = {n} shows no image", hint="at least 1")
    progress = progress or SilentProgress()
    folder = run.path / FOLDER if out is None else Path(out)
    wanted = shuffled_test(run, seed, runtime) if images is None else named_images(run, images)
    probe(folder)
    towers = run.load_backbone(runtime) if backbone is None else backbone
    method = run.build_method(towers)
    own = Looking.of(run.config.method, method)
    reading = Reading(towers, progress)
    with torch.inference_mode(False):
        chosen = _chosen(wanted, own, reading, n if images is None else None, which, progress)
        work = _Work(folder, own, _baseline(run, towers), progress)
        content = {
            "version": VERSION,
            "run": run.name,
            "checkpoint": run.digest,
            "images": list(work.images(chosen)),
            "figures": extra_figures(run, folder),
            "tables": extra_tables(run, method),
        }
    if not content["images"]:
        raise _nothing(reading.failed, which)
    write(folder, content)
    if own.without is not None:
        progress.warn(f"no maps by gradients: {own.without}")
    return Explained(folder, content, tuple(error.told for error in reading.failed))


def _chosen(
    wanted: Sequence[tuple[Record, int | None]],
    own: Looking,
    reading: Reading,
    n: int | None,
    which: Which,
    progress: Progress,
) -> Iterator[Seen]:
    """The images to show, read one after the other; of named ones (n is None) all that can be read."""
    seen = reading(wanted)
    if n is not None and which == "mistakes":
        with progress.task("looking for mistakes", None, unit="img") as task:
            yield from mistakes(seen, own.frozen, n, task.advance)
        return
    for count, one in enumerate(seen, 1):
        yield one
        if count == n:  # before another is read
            return


def _baseline(run: Run, backbone: Backbone) -> Looking | None:
    """Zero-shot CLIP over the run's classes; None beside itself."""
    if run.config.method == BASELINE:
        return None
    method = build_method(BASELINE, backbone, run.class_names)
    return Looking.of(CLIP, written_for(method, run.info.data.template).eval())


def _nothing(failed: Sequence[InputError], which: Which) -> InputError:
    """The error where no picture was made."""
    if failed:
        return InputError(f"no image could be read: {failed[0].message}", hint=failed[0].hint)
    assert which == "mistakes"
    return InputError("the run takes no test image for another class", hint="leave --which out, or name images")


@dataclass(frozen=True)
class _Asked:
    """A class that is asked about in one image: its label, and the words of its row."""

    label: int
    words: str


@dataclass
class _Work:
    """Draws, writes and describes pictures.

    Attributes:
        clip: stands beside; None where the run is zero-shot CLIP itself.
    """

    folder: Path
    own: Looking
    clip: Looking | None
    progress: Progress
    done: int = 0

    def images(self, seen: Iterator[Seen]) -> Iterator[dict[str, Any]]:
        """An entry of explain.json for each image, its pictures written."""
        with self.progress.task("pictures", None, unit="img") as task:
            for batch in batches(seen):
                for entry in self._batch(batch):
                    yield entry
                    task.advance()

    def _batch(self, batch: Sequence[Seen]) -> Iterator[dict[str, Any]]:
        images = stacked(batch, self.own.frozen)
        output = self.own.output(images)
        likely_BK = output.logits.float().softmax(dim=-1).cpu()
        sure_B, predicted_B = likely_BK.max(dim=-1)
        true_B = torch.tensor([int(p) if s.label is None else s.label for s, p in zip(batch, predicted_B, strict=True)])
        clip_output = None if self.clip is None else self.clip.output(images)
        found: dict[str, tuple[list[PatchMap], list[PatchMap]]] = {}
        for name, labels_B in (("true", true_B), ("predicted", predicted_B)):
            beside = [] if self.clip is None or clip_output is None else self.clip.maps(images, clip_output, labels_B)
            found[name] = (self.own.maps(images, output, labels_B), beside)
        if not found["true"][0]:
            raise CapabilityError(self.own.without or f"method {self.own.name} shows nothing of images")
        for i, one in enumerate(batch):
            self.done += 1
            asked = self._asked(one, int(predicted_B[i]), float(sure_B[i]))
            maps = [(words, found[name][0], found[name][1]) for name, words in asked.items()]
            yield self._image(one, i, maps) | {
                "true": None if one.label is None else self._class(one.label),
                "predicted": self._class(int(predicted_B[i])),
                "probability": round(float(sure_B[i]), 6),
            }

    def _asked(self, one: Seen, predicted: int, sure: float) -> dict[str, _Asked]:
        """The rows of an image: its own class, and the likeliest if that is another."""
        own, likeliest = one.label, short(self._class(predicted))
        if own is None:
            return {"predicted": _Asked(predicted, f"predicted, {sure:.0%}\n{likeliest}")}
        if own == predicted:
            return {"true": _Asked(own, f"true and predicted, {sure:.0%}\n{likeliest}")}
        return {
            "true": _Asked(own, f"true\n{short(self._class(own))}"),
            "predicted": _Asked(predicted, f"predicted, {sure:.0%}\n{likeliest}"),
        }

    def _image(
        self, one: Seen, i: int, maps: Sequence[tuple[_Asked, list[PatchMap], list[PatchMap]]]
    ) -> dict[str, Any]:
        """Draw image i of a batch, a picture for each kind of map."""
        backbone = self.own.frozen.method.backbone
        grid, image = backbone.vision.grid, pixels(one.pixels_3HW, backbone.preprocess)
        mask_N = on_object(one.record, grid)
        pictures = []
        for kind in ORDER:
            own = [m.weights_BN[i] for m in maps[0][1] if m.kind == kind]
            if not own:
                continue
            rows = [self._row(asked, kind, i, ours, beside, mask_N) for asked, ours, beside in maps]
            file = f"{self.done:03}-{_slug(one.record)}-{kind}.png"
            write_atomic(self.folder / file, draw(image, grid, kind, rows))
            pictures.append(
                {
                    "file": file,
                    "kind": kind,
                    "title": TITLES[kind],
                    "caption": self._caption(kind, [asked.words for asked, _, _ in maps]),
                    "pointing": None if mask_N is None else round(mean_share(own, mask_N), 6),
                    "chance": None if mask_N is None else round(float(mask_N.double().mean()), 6),
                }
            )
        source = one.record.image
        return {"id": one.record.id, "path": str(source) if isinstance(source, Path) else None, "pictures": pictures}

    def _row(
        self,
        asked: _Asked,
        kind: MapKind,
        i: int,
        ours: Sequence[PatchMap],
        beside: Sequence[PatchMap],
        mask_N: Tensor | None,
    ) -> Row:
        panels = [(self.clip.name if self.clip else "", m) for m in beside if m.kind == kind]
        panels += [(m.title if kind != "attention" else self.own.name, m) for m in ours if m.kind == kind]
        return Row(
            asked.words,
            tuple(
                Panel(title, m.values_BN[i].float().cpu(), None if mask_N is None else share(m.weights_BN[i], mask_N))
                for title, m in panels
            ),
        )

    def _caption(self, kind: MapKind, rows: Sequence[str]) -> str:
        said = "; ".join(row.replace("\n", ": ") for row in rows)
        beside = f" First {CLIP}, then {self.own.name}." if self.clip and kind in ("cosines", "attention") else ""
        return f"{MEANING[kind]}{beside} Rows: {said}."

    def _class(self, label: int) -> str:
        return self.own.frozen.class_names[label]


def _slug(record: Record) -> str:
    """The last two parts of an image's id, as a part of a file's name."""
    words = "/".join(re.split(r"[/\\]", record.id)[-2:]).lower()
    return _OTHER.sub("-", words).strip("-")[:40].strip("-") or "image"


def describe(content: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str, str, str]]:
    """The pictures of explain.json as rows: file, kind, true class, predicted class, its probability, pointing."""
    for image in content["images"]:
        for own in image["pictures"]:
            pointing = "" if own["pointing"] is None else f"{own['pointing']:.3f}"
            yield (
                own["file"],
                own["kind"],
                image["true"] or "",
                image["predicted"],
                f"{image['probability']:.3f}",
                pointing,
            )
