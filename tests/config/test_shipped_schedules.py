"""What methods ship for the built-in world: no schedule there is one that would be warned about."""

from __future__ import annotations

import pytest

from vlmprompt.config.resolve import resolve
from vlmprompt.plugins import host
from vlmprompt.training.outlook import doubts
from vlmprompt.training.schedule import Plan

CLASSES = {"doodles": 64, "doodles:crowded": 64, "doodles-animals": 16}


@pytest.mark.parametrize("method", host().methods.names())
@pytest.mark.parametrize("data", CLASSES)
@pytest.mark.parametrize("setting", ["few-shot", "base-to-new", "cross-dataset"])
def test_no_schedule_on_doodles_is_doubtful(method: str, data: str, setting: str) -> None:
    """Neither much of it is warm-up nor does it end at a high rate; a few steps fewer than 300 do no harm."""
    classes = CLASSES[data] // 2 if setting == "base-to-new" else CLASSES[data]
    for shots in (1, 2, 4, 8, 16):
        given = {"method": method, "data": data, "shots": shots, "setting": setting}
        train = resolve(given, env={}).run.train
        found = [doubt for doubt in doubts(train, Plan.of(train, classes * shots), {}) if "not reached" not in doubt]
        assert not found, f"{shots} shots"
