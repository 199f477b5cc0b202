"""Tokenizers that cannot be had: with random weights numbers stand in for them, with real ones that is an error."""

from __future__ import annotations

import open_clip
import pytest
import torch

from vlmprompt.backbones.openclip.tokenizers import stand_in_for, tokenizer_of, tokenizer_or_stand_in
from vlmprompt.errors import InputError


@pytest.mark.parametrize(
    ("architecture", "length", "vocabulary", "row"),
    [
        ("ViT-B-16-SigLIP2", 64, 256000, [None, None, 1, 0]),
        ("ViT-B-16-SigLIP", 64, 32000, [None, None, 1, 1]),
        ("ViT-SO400M-14-SigLIP", 16, 32000, [None, None, 1, 1]),
        ("ViT-L-14-CLIPA", 32, 30522, [101, None, None, 0]),
        ("ViT-H-14-worldwide", 77, 901629, [0, None, None, 2, 1]),
        ("roberta-ViT-B-32", 77, 50265, [0, None, None, 2, 1]),
        ("xlm-roberta-base-ViT-B-32", 77, 250002, [0, None, None, 2, 1]),
        ("mt5-base-ViT-B-32", 77, 250100, [None, None, 1, 0]),
        ("nllb-clip-base", 77, 256001, [256047, None, None, 2, 1]),
    ],
)
def test_a_stand_in_has_the_shape_of_its_tokenizer(
    architecture: str, length: int, vocabulary: int, row: list[int | None]
) -> None:
    """Length, special tokens and padding as the tokenizers' own files have them (None: a word)."""
    tokenizer = stand_in_for(architecture)
    assert tokenizer is not None and tokenizer.vocabulary == vocabulary
    ids_nT = tokenizer(["Red fox", "red fox!"])
    assert ids_nT.shape == (2, length) and ids_nT.dtype == torch.long
    special = {*tokenizer.start, *tokenizer.end, tokenizer.pad}
    found = [None if i not in special else i for i in ids_nT[0, : len(row)].tolist()]
    assert found == row
    words = [i for i in ids_nT.flatten().tolist() if i not in special]
    assert all(300 <= i < vocabulary for i in words)


def test_equal_words_have_equal_numbers_and_long_texts_keep_their_end() -> None:
    tokenizer = stand_in_for("ViT-B-16-SigLIP")
    assert tokenizer is not None
    assert tokenizer.encode("Red fox.") == tokenizer.encode("red FOX")  # as SigLIP cleans its texts
    assert tokenizer.encode("a fox")[1:] == tokenizer.encode("fox") != tokenizer.encode("wolf")
    row = tokenizer(["fox " * 100])[0].tolist()
    assert len(row) == 64 and row[-1] == 1 and len(set(row[:-1])) == 1


def test_random_weights_take_what_can_be_had() -> None:
    with pytest.warns(UserWarning, match="tokenizer 'timm/ViT-B-16-SigLIP2'.*numbers stand in for its words"):
        tokenizer = tokenizer_or_stand_in("ViT-B-16-SigLIP2")
    assert tokenizer.name == "timm/ViT-B-16-SigLIP2" and tokenizer.context_length == 64
    assert isinstance(tokenizer_or_stand_in("ViT-B-32"), open_clip.SimpleTokenizer)
    assert stand_in_for("ViT-B-32") is None


def test_real_weights_need_the_real_tokenizer() -> None:
    with pytest.raises(InputError, match="tokenizer 'timm/ViT-B-16-SigLIP2' of ViT-B-16-SigLIP2") as error:
        tokenizer_of("ViT-B-16-SigLIP2")
    assert "pip install" in str(error.value.hint) or "hf download timm/ViT-B-16-SigLIP2" in str(error.value.hint)
