"""FLOPs of a forward pass and of a backward pass to the inputs, weights frozen: what a ratio can be at best.

A block's linear maps cost 24 D^2 a token and pass (query, key, value 2 D^2 each, output 2 D^2, MLP 16 D^2);
the backward pass to frozen weights' inputs costs the same again. Attention costs 4 D a (query, key) pair
forward and twice that backward. Norms and activations are left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BLOCK, KEYS_VALUES, QKV = 24, 4, 6
PAIR = 3 * 4  # forward and backward


@dataclass(frozen=True)
class Tower:
    """Width, number of layers and joint width of a transformer."""

    width: int
    layers: int
    joint: int


def plain_text(tower: Tower, texts: int, length: int = 77) -> float:
    """Every position of every text."""
    return texts * (_plain_blocks(tower, length) + 4 * tower.width * tower.joint)


def plain_image(tower: Tower, images: int, patches: int, prompts: int, patch_values: int) -> float:
    """Every token of every image in every layer, with prompt tokens; gradients to the prompts."""
    patch_embedding = 2 * patches * patch_values * tower.width
    return images * (patch_embedding + _plain_blocks(tower, 1 + patches + prompts) + 4 * tower.width * tower.joint)


def _plain_blocks(tower: Tower, length: int) -> float:
    return length * tower.layers * (2 * BLOCK * tower.width**2 + PAIR * tower.width * length)


def needed_text(tower: Tower, prompts: int, prefix: int, suffixes: Sequence[int]) -> float:
    """What is strictly needed for features and gradients of the prompts.

    The start token is constant. The prefix runs once a prompt, without queries, output and MLP in the last
    layer. Suffixes (class name to end-of-text) are constants at the first layer's input, so their queries,
    keys and values there are computed once for all prompts and need no gradient; in the last layer all of
    them need keys and values, but only the end-of-text token the rest.

    Args:
        prompts: P.
        prefix: class-independent tokens behind the start token.
        suffixes: tokens of each class behind the prefix.
    """
    tokens, classes = sum(suffixes), len(suffixes)
    inner = tower.layers - 1
    first = tokens * QKV + 2 * prompts * tokens * (BLOCK - QKV)
    middle = 2 * prompts * tokens * (inner - 1) * BLOCK
    last = 2 * prompts * (tokens * KEYS_VALUES + classes * (BLOCK - KEYS_VALUES))
    shared = 2 * prompts * prefix * (inner * BLOCK + KEYS_VALUES)
    suffix_pairs = sum(s * (1 + prefix) + s * (s + 1) // 2 for s in suffixes)
    end_pairs = sum(1 + prefix + s for s in suffixes)
    prefix_pairs = sum(2 + i for i in range(prefix))
    pairs = prompts * (inner * (suffix_pairs + prefix_pairs) + end_pairs)
    projection = 4 * prompts * classes * tower.width * tower.joint
    return (first + middle + last + shared) * tower.width**2 + PAIR * tower.width * pairs + projection


def needed_image(tower: Tower, images: int, patches: int, prompts: int, patch_values: int) -> float:
    """What is strictly needed where only the class token is read and prompts alone, anew in every layer, get gradients.

    Class and patch tokens are constants at the first layer's input. Prompts need keys and values, once for all images,
    and nobody reads what becomes of them. In the last layer only the class token is projected: its query, through the
    weight of the keys, and its mean of tokens, through that of the values.
    """
    tokens, inner = 1 + patches, tower.layers - 1
    shared = 2 * prompts * inner * KEYS_VALUES
    linear = 2 * tokens * inner * BLOCK - tokens * QKV + 2 * BLOCK
    pairs = (inner * tokens + 1) * (tokens + prompts)
    patch_embedding = 2 * patches * patch_values * tower.width
    projection = 4 * tower.width * tower.joint
    each = linear * tower.width**2 + PAIR * tower.width * pairs + patch_embedding + projection
    return shared * tower.width**2 + images * each
