"""A run as an ONNX file with its image tower, and the script that runs it.

Shapes: B images, K classes.
"""

from __future__ import annotations

from pathlib import Path

from vlmprompt.export import graph
from vlmprompt.export.agreement import Difference, difference, largest
from vlmprompt.export.formats import script_beside, weights_beside
from vlmprompt.export.script import script
from vlmprompt.export.subject import Subject
from vlmprompt.staging import move_files, staging

TOLERANCE = 1e-4  # of logits, or of the largest of them where that is above 1
BATCHES = (1, 3)


def to_onnx(subject: Subject, place: Path) -> tuple[tuple[Path, ...], Difference]:
    """Write it, and keep it if onnxruntime gives the run's logits in batches of one and of three.

    Returns:
        The files, and the largest difference.

    Raises:
        CapabilityError: the method is no fixed graph.
        InputError: nothing can be written there, or the logits are others.
    """
    program = graph.traced(subject.frozen, subject.method, subject.said)
    beside = script_beside(place)
    upright = subject.run.config.exif
    with staging(place) as folder:
        has_data = graph.save(program, folder / place.name)
        text = script(beside.name, place.name, subject.backbone.preprocess, upright=upright)
        (folder / beside.name).write_text(text, encoding="utf-8")
        found = _tried(subject, folder / place.name)
        subject.require(found, TOLERANCE, "the ONNX graph")
        weights = weights_beside(place)
        files = (*((weights,) if has_data else ()), beside, place)
        move_files(folder, files, gone_first=place if has_data or weights.exists() else None)
        if not has_data:
            weights.unlink(missing_ok=True)  # of an older export
    return files[::-1], found


def _tried(subject: Subject, file: Path) -> Difference:
    session, found = graph.session(file), Difference(0.0, 0.0)
    for size in BATCHES:
        for part in subject.pixels_B3HW.split(size):
            logits_BK = graph.run(session, part)
            found = largest(found, difference(logits_BK, subject.frozen(part).logits.float()))
    return found
