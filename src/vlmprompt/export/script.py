"""The script beside an ONNX file: it classifies pictures with NumPy, Pillow and onnxruntime alone."""

from __future__ import annotations

from vlmprompt.data.preprocess import PreprocessConfig
from vlmprompt.export.formats import SCRIPT_HEAD

_SCRIPT = (
    f'{SCRIPT_HEAD}{{name}} PICTURE ..."""\n'
    + '''
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model = onnxruntime.InferenceSession(str(Path(__file__).with_name({model!r})), providers=["CPUExecutionProvider"])
about = model.get_modelmeta().custom_metadata_map
names, how = json.loads(about["class_names"]), json.loads(about["preprocess"])


def pixels(path):
    """A picture as the model reads it: (1, 3, height, width)."""
    image = Image.open(path)
    if image.mode[0] in "IF":  # Pillow would make them all white or black
        sys.exit(f"{{path}}: grey levels of more than 8 bits; convert it to 8 bits")
{opened}
    height, width = how["size"]
{scaled}
    values = (np.asarray(image, np.float32) / 255 - np.float32(how["mean"])) / np.float32(how["std"])
    return values.transpose(2, 0, 1)[None]


sys.stdout.reconfigure(errors="backslashreplace")  # of names that a terminal cannot show
for path in sys.argv[1:] or sys.exit(__doc__):
    logits = model.run(["logits"], {{"pixels": pixels(path)}})[0][0] / float(about.get("temperature", 1))
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    print(f"{{path}}  {{names[probabilities.argmax()]}}  {{probabilities.max():.4f}}")
'''
)
_UPRIGHT = """\
    image = ImageOps.exif_transpose(image).convert("RGBA")  # as a viewer shows it, over white
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")"""
_STORED = """\
    image = image.convert("RGB")"""
_SQUARE = """\
    size = [int(height * side / min(image.size)) for side in image.size]"""
_RATIO = """\
    ratio = {choose}(image.width / width, image.height / height)
    size = [max(1, round(side / ratio)) for side in image.size]"""
_RESIZED = """
    image = image.resize(size, Image.Resampling[how["interpolation"].upper()])"""
_MIDDLE = """
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)"""
_BLACK_BESIDE = """
    left, top = -((width - image.width) // 2), -((height - image.height) // 2)  # outside the picture it is black"""
_CROPPED = """
    image = image.crop((left, top, left + width, top + height))"""
_SQUASH = """\
    size = width, height"""


def script(name: str, model: str, settings: PreprocessConfig, *, upright: bool) -> str:
    """The script's text.

    Args:
        name: of its file.
        model: name of the ONNX file beside it.
        settings: what becomes of pictures; see `preprocess.build_transform`, which this repeats without torch.
        upright: see `images.decode`.
    """
    height, width = settings.sides
    scaled = {
        "shortest": (_SQUARE if height == width else _RATIO.format(choose="min")) + _RESIZED + _MIDDLE + _CROPPED,
        "longest": _RATIO.format(choose="max") + _RESIZED + _BLACK_BESIDE + _CROPPED,
        "squash": _SQUASH + _RESIZED,
    }[settings.resize_mode]
    text = _SCRIPT.format(name=name, model=model, opened=_UPRIGHT if upright else _STORED, scaled=scaled)
    return text if upright else text.replace("import Image, ImageOps", "import Image")
