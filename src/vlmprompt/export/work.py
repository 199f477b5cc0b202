"""From a run to files that other programs use; each is tried before it is kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlmprompt.backbones.backbone import Backbone
from vlmprompt.config.models import Runtime
from vlmprompt.export.about import about
from vlmprompt.export.agreement import Difference
from vlmprompt.export.formats import default_place, format_named, import_packages, require_packages, settled_place
from vlmprompt.export.subject import Subject
from vlmprompt.export.to_onnx import to_onnx
from vlmprompt.export.to_open_clip import to_open_clip
from vlmprompt.export.to_safetensors import to_safetensors
from vlmprompt.export.trial import trial
from vlmprompt.methods.frozen import FrozenMethod
from vlmprompt.methods.streaming import require_fixed
from vlmprompt.predict.calibrated import LEAVE_OUT, Calibrated
from vlmprompt.progress import Progress, SilentProgress
from vlmprompt.training.runs import Run

Writer = Callable[[Subject, Path], tuple[tuple[Path, ...], Difference]]
_WRITERS: Mapping[str, Writer] = {"onnx": to_onnx, "safetensors": to_safetensors, "open_clip": to_open_clip}


@dataclass(frozen=True)
class Exported:
    """What an export has left.

    Attributes:
        to: the kind of export.
        files: the file or folder itself, and what lies beside it.
        tried_on: the pictures, in words.
        difference: the largest difference of its logits from the run's own, on those pictures.
        temperature: of a calibrated run.
    """

    to: str
    files: tuple[Path, ...]
    tried_on: str
    difference: float
    temperature: float | None


def export_run(
    run: Run,
    to: str,
    out: Path | str | None = None,
    *,
    images: Sequence[Path] = (),
    calibrated: bool = True,
    force: bool = False,
    backbone: Backbone | str | None = None,
    runtime: Runtime | None = None,
    progress: Progress | None = None,
) -> Exported:
    """Write a finished run as ONNX, class embeddings or a model folder of open_clip.

    The towers are read in float32, whatever the run was trained in. The logits of what was written are held against
    the method's own before it takes its place.

    Args:
        to: "onnx", "safetensors" or "open_clip".
        out: the file, or the folder for open_clip; None: named after the run, in the working directory.
        images: pictures, or folders of some, to try it on; none: test images of the run.
        calibrated: put the temperature of calibration.json into it, where there is one.
        force: replace an older export.
        backbone: the run's towers on the CPU and in float32, if they are in memory already; or what they are loaded
            by now.

    Raises:
        UsageError: there is no such kind of export.
        CapabilityError: the method cannot be written so; says why, and what it can be.
        InputError: the run is not finished, something is in the way or cannot be written, or what was written does
            not say the same.
    """
    progress = SilentProgress() if progress is None else progress
    kind = format_named(to)
    require_packages(kind)
    place = settled_place(kind, default_place(kind, run.path) if out is None else Path(out), force=force)
    calibration = Calibrated.read(run.path, run.digest, LEAVE_OUT) if calibrated else None
    temperature = None if calibration is None else calibration.temperature
    import_packages(kind)
    on_cpu = (runtime or Runtime.model_validate({})).model_copy(update={"device": "cpu"})
    towers = backbone if isinstance(backbone, Backbone) else _towers(run, on_cpu, backbone)
    method = run.build_method(towers)
    require_fixed(method, "an export")
    frozen = FrozenMethod.of(method)
    tried = trial(run, towers, images, on_cpu, progress)
    subject = Subject(run, frozen, about(run, frozen, temperature), tried.pixels_B3HW)
    files, difference = _WRITERS[to](subject, place)
    return Exported(to, files, tried.words, difference.absolute, temperature)


def _towers(run: Run, runtime: Runtime, spec: str | None) -> Backbone:
    return run.load_backbone(runtime, spec=spec, precision="fp32")
