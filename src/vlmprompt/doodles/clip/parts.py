"""What the built-in models are made of, and the tensors that are stored of them.

`text.safetensors` is the text tower of both, `<image tower>.safetensors` an image tower with the logit scale.
All are fp16 but the statistics of the token table. Only the token rows that captions used are stored: a row of
zeros for the rest would make one class of all unknown names. They are drawn here, from integers alone and with
stored statistics, so that all machines get the same bits and the weights' digest covers them.

Shapes: U used rows, V = 49408 rows of the vocabulary, D width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.resources import as_file, files
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

VOCABULARY = 49408
WIDTH = 192
TEXT = {"context_length": 77, "vocab_size": VOCABULARY, "width": WIDTH, "heads": 3, "layers": 4}
VISION: Mapping[str, Mapping[str, Any]] = {
    "vit": {"image_size": 64, "patch_size": 8, "width": WIDTH, "head_width": 64, "layers": 4},
    # At 160 pixels the last feature map is 5 x 5; at 64 it would be 2 x 2, and every top-k of it the same.
    "resnet": {"image_size": 160, "width": 16, "head_width": 64, "layers": [1, 1, 1, 1]},
}
SPREAD = "token_rows.spread"
MEAN = "token_rows.mean"
IDS = "token_rows.ids"
ROWS = "token_rows.used"
_UNUSED_KEY = b"doodle-clip token rows 1"


def architecture(image_tower: str) -> dict[str, Any]:
    """Arguments of open_clip's `CLIP`."""
    return {
        "embed_dim": WIDTH,
        "vision_cfg": dict(VISION[image_tower]),
        "text_cfg": dict(TEXT),
        "quick_gelu": True,
    }


def stored(image_tower: str) -> tuple[dict[str, Tensor], frozenset[int]]:
    """State of a built-in model in fp32, and the ids of the tokens that it was trained on."""
    tensors = {name: tensor for part in ("text", image_tower) for name, tensor in _read(part).items()}
    ids_U = tensors.pop(IDS).long()
    table_VD = token_table(ids_U, tensors.pop(ROWS).float(), tensors.pop(MEAN), tensors.pop(SPREAD))
    state = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in tensors.items()}
    return {**state, "token_embedding.weight": table_VD}, frozenset(ids_U.tolist())


def token_table(ids_U: Tensor, rows_UD: Tensor, mean_D: Tensor, spread_D: Tensor) -> Tensor:
    """The whole token table: used rows as they are, the others drawn with the used rows' mean and spread.

    Two random bytes are summed for each number; a sum of two has the standard deviation sqrt((256^2 - 1) / 6).
    """
    octets = hashlib.shake_256(_UNUSED_KEY).digest(2 * VOCABULARY * len(mean_D))
    pairs = np.frombuffer(octets, dtype=np.uint8).reshape(VOCABULARY, len(mean_D), 2)
    sums_VD = torch.from_numpy(pairs[..., 0].astype(np.int16) + pairs[..., 1]).float()
    deviation = ((256**2 - 1) / 6) ** 0.5
    table_VD = (sums_VD - 255) * (spread_D / deviation) + mean_D
    table_VD[ids_U] = rows_UD
    return table_VD


def _read(part: str) -> dict[str, Tensor]:
    with as_file(files(__package__) / f"{part}.safetensors") as path:
        return load_file(path)
