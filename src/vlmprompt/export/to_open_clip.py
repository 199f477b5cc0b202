"""A run as a folder that open_clip loads: towers, and class embeddings beside them.

What a method changes in the towers (`TowerDeltas`) is merged into the weights that are written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from vlmprompt.backbones.merging import merged_state
from vlmprompt.backbones.openclip.saved import features_by_open_clip, save_model
from vlmprompt.export.agreement import Difference, difference
from vlmprompt.export.formats import CLASSES
from vlmprompt.export.linear_head import TOLERANCE, read_head
from vlmprompt.export.subject import Subject
from vlmprompt.export.to_safetensors import head_bytes
from vlmprompt.staging import move_folder, staging

_LOGITS = '(head["scale"] * features @ head["classes"].T + head["bias"])'
_README = """\
# {run}

{method} with {classes} classes, trained with vlmprompt {version}. With open_clip and safetensors alone, where FOLDER is
the path of this folder:

```python
import json

import open_clip
import torch
from PIL import Image{imports}
from safetensors import safe_open

model, _, preprocess = open_clip.create_model_and_transforms("local-dir:FOLDER")
with safe_open("FOLDER/{file}", "pt") as file:
    about, head = json.loads(file.metadata()["vlmprompt"]), {{key: file.get_tensor(key) for key in file.keys()}}
names = json.loads(about["class_names"])

image = preprocess({opened}).unsqueeze(0)
with torch.no_grad():
    features = model.eval().encode_image(image, normalize={normalized})
probabilities = {logits}.softmax(dim=-1)[0]
print(names[probabilities.argmax()], float(probabilities.max()))
```
"""
_MERGED = ", what it changes in the towers in their weights"


def to_open_clip(subject: Subject, place: Path) -> tuple[tuple[Path, ...], Difference]:
    """Write the folder, and keep it if open_clip by itself gets the run's logits from it.

    Raises:
        CapabilityError: the method is no matrix over plain towers, or the towers are none of open_clip's.
        InputError: nothing can be written there, or the logits are others.
    """
    head, _ = read_head(subject.frozen, subject.method, subject.pixels_B3HW, changed=True)
    state = _merged(subject)
    with staging(place) as folder:
        save_model(subject.backbone, folder, state)
        (folder / CLASSES).write_bytes(head_bytes(subject, head))
        (folder / "README.md").write_text(
            readme(subject, normalized=head.normalized, merged=state is not None), encoding="utf-8"
        )
        features_Bd = features_by_open_clip(folder, subject.pixels_B3HW)
        found = difference(head.logits(features_Bd), subject.frozen(subject.pixels_B3HW).logits.float())
        subject.require(found, TOLERANCE, "the folder for open_clip")
        move_folder(folder, place)
    return (place,), found


def _merged(subject: Subject) -> Mapping[str, Tensor] | None:
    """The towers' weights as the method changes them; None where it leaves them as they are.

    Raises:
        CapabilityError: a change that no weight can hold.
    """
    method = subject.frozen.method
    text = method.shared_text_prompts()
    deltas = None if text is None else text.deltas, method.visual_prompts().deltas
    return merged_state(subject.backbone, *deltas) if any(deltas) else None


def readme(subject: Subject, *, normalized: bool, merged: bool = False) -> str:
    """How the folder is used; FOLDER stands for its place.

    Args:
        merged: the weights hold what the method changed in the towers.
    """
    upright, temperature = subject.run.config.exif, subject.said.get("temperature")
    return _README.format(
        run=subject.run.name,
        method=subject.method,
        classes=len(subject.frozen.class_names),
        version=subject.said["vlmprompt"] + (_MERGED if merged else ""),
        file=CLASSES,
        imports=", ImageOps" if upright else "",
        opened='ImageOps.exif_transpose(Image.open("photo.jpg"))' if upright else 'Image.open("photo.jpg")',
        normalized=normalized,
        logits=_LOGITS if temperature is None else f'({_LOGITS} / float(about["temperature"]))',
    )
