"""Thresholds by hand, and kept for one checkpoint alone."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from vlmprompt.errors import UsageError
from vlmprompt.methods.score_names import SCORES
from vlmprompt.predict.rejection import (
    Reference,
    Rejection,
    keep_threshold,
    require_alpha,
    require_keep,
    require_score,
)
from vlmprompt.predict.thresholds import THRESHOLDS_FILE, SetThreshold, Thresholds

VAL = Reference("val", 8)


@pytest.mark.parametrize(
    ("n", "keep", "threshold"),
    [
        (20, 0.95, 1.0),  # 19 of 0, 1, ..., 19 are kept: all but 0
        (20, 0.951, 0.0),
        (10, 0.7, 3.0),  # 7 of 10, though 0.7 * 10 is a little more than 7 in binary
        (10, 1.0, 0.0),
        (10, 0.01, 9.0),  # never none
        (1, 0.5, 0.0),
    ],
)
def test_so_many_are_kept(n: int, keep: float, threshold: float) -> None:
    scores = torch.randperm(n, generator=torch.Generator().manual_seed(0)).double().tolist()
    assert keep_threshold(scores, keep) == threshold
    assert sum(score >= threshold for score in scores) >= keep * n - 1e-9


def test_equal_scores_are_kept_together() -> None:
    assert keep_threshold([0.5, 0.5, 0.5, 0.1], 0.25) == 0.5
    rejection = Rejection("mcm", 0.25, 0.5, VAL)
    assert rejection.verdicts([0.5, 0.4999, 0.6, math.nan]) == ["known", "unknown", "known", "unknown"]
    assert rejection.words == "a picture is known from mcm 0.5 on, which keeps at least 25 % of 8 validation images"


@pytest.mark.parametrize("share", [0, -0.1, 1.5, math.nan, math.inf])
def test_what_is_no_share(share: float) -> None:
    for require in (require_keep, require_alpha):
        with pytest.raises(UsageError, match="must be"):
            require(share)


def test_one_is_a_share_to_keep_and_none_to_miss() -> None:
    require_keep(1)
    with pytest.raises(UsageError, match="between 0 and 1, not 1"):
        require_alpha(1)


def test_names_of_scores() -> None:
    for name in SCORES:
        require_score(name)
    with pytest.raises(UsageError, match="unknown score 'gl_mcn'") as error:
        require_score("gl_mcn")
    assert "'gl-mcm'" in str(error.value.hint)


def test_thresholds_are_kept_for_their_checkpoint(tmp_path: Path) -> None:
    found = Rejection("mcm", 0.95, 0.1 + 0.2, VAL)
    sets = SetThreshold(0.1, math.inf, 1.5, Reference("test", 3))
    Thresholds(checkpoint="one").with_(found).with_(sets).write(tmp_path)
    kept = Thresholds.read(tmp_path, "one")
    assert kept.rejecting("mcm", 0.95) == found and kept.covering(0.1, 1.5) == sets
    assert kept.rejecting("mcm", 0.9) is kept.rejecting("msp", 0.95) is kept.covering(0.1, 1.0) is None
    assert Thresholds.read(tmp_path, "another") == Thresholds(checkpoint="another")


@pytest.mark.parametrize(
    "content", [None, "", "{}", '{"version": 2, "checkpoint": "one"}', "\0", '{"checkpoint": "one", "rejection": [{}]}']
)
def test_a_file_that_is_not_there_or_damaged_keeps_nothing(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / THRESHOLDS_FILE).write_text(content)
    assert Thresholds.read(tmp_path, "one") == Thresholds(checkpoint="one")


def test_what_sets_say_of_themselves() -> None:
    few: dict[str, Any] = {"alpha": 0.1, "threshold": 1.0, "temperature": 1.0}
    assert SetThreshold(**few, reference=VAL).words == (
        "sets hold every class: 0.1 wants at least 9 images, and these are 8 validation images"
    )
    assert SetThreshold(**few, reference=Reference("test", 9)).words == (
        "sets hold the right class of 90 % of pictures of known classes, as of 9 test images"
    )
