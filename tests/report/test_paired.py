"""Paired tests, against SciPy, against sums over all cases, and by hand."""

from __future__ import annotations

from itertools import product
from math import comb
from random import Random
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tests.report.material import details
from vlmprompt.errors import InputError
from vlmprompt.report.paired import RESAMPLES, Bootstrap, _drawn, holm, mcnemar, right_on


def sides(b: int, c: int, both: int = 3, neither: int = 2) -> tuple[Any, Any]:
    """Two classifiers with so many images that one alone gets right."""
    first = [True] * (b + both) + [False] * (c + neither)
    second = [False] * b + [True] * (both + c) + [False] * neither
    return np.array(first), np.array(second)


@pytest.mark.parametrize(("b", "c"), [(1, 5), (0, 7), (12, 12), (0, 0), (24, 0), (3, 20)])
def test_few_differences_are_tested_exactly(b: int, c: int) -> None:
    found = mcnemar(*sides(b, c))
    assert (found.only_first, found.only_second, found.n, found.exact) == (b, c, b + c + 5, True)
    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0
    assert found.p == pytest.approx(expected, rel=1e-12)


def test_the_exact_test_by_hand() -> None:
    assert mcnemar(*sides(1, 5)).p == 2 * (1 + 6) / 64


@pytest.mark.parametrize(("b", "c"), [(5, 20), (13, 12), (30, 30), (100, 150), (400, 91)])
def test_many_are_tested_by_chi_square(b: int, c: int) -> None:
    found = mcnemar(*sides(b, c))
    statistic = max(abs(b - c) - 1, 0) ** 2 / (b + c)
    assert not found.exact
    assert found.p == pytest.approx(float(stats.chi2.sf(statistic, 1)), rel=1e-9)


def test_no_images() -> None:
    nothing = np.zeros(0, bool)
    with pytest.raises(InputError, match="no images"):
        mcnemar(nothing, nothing)
    with pytest.raises(InputError, match="no images"):
        Bootstrap(nothing[None], Random(0))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_interval_has_the_quantiles_of_the_exact_distribution() -> None:
    b, c, n = 4, 1, 12
    first, second = sides(b, c, both=4, neither=3)
    found = Bootstrap(np.stack([first, second]), Random(1)).difference([0], [1], Random(2), joint=True)
    chance: dict[int, float] = {}  # of b* - c* in a resample: b*, c* and the rest are multinomial
    for i, j in product(range(n + 1), repeat=2):
        if i + j <= n:
            p = comb(n, i) * comb(n - i, j) * (b / n) ** i * (c / n) ** j * ((n - b - c) / n) ** (n - i - j)
            chance[i - j] = chance.get(i - j, 0) + p
    assert found.value == pytest.approx((b - c) / n)
    assert (found.n, found.seeds, found.resamples, found.how) == (n, (1, 1), RESAMPLES, "images")
    for edge, share in ((found.low, 0.025), (found.high, 0.975)):
        below = sum(p for gap, p in chance.items() if gap < edge * n - 1e-9)
        up_to = sum(p for gap, p in chance.items() if gap <= edge * n + 1e-9)
        assert below - 0.012 <= share <= up_to + 0.012


def test_blocks_make_no_difference_to_what_a_mean_is(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sides(20, 5, both=50, neither=25)
    whole = Bootstrap(np.stack([first, second]), Random(1)).difference([0], [1], Random(2), joint=True)
    monkeypatch.setattr("vlmprompt.report.paired._BLOCK", 350)
    parts = Bootstrap(np.stack([first, second]), Random(1)).difference([0], [1], Random(2), joint=True)
    assert parts == whole
    assert whole.value == pytest.approx(0.15)
    assert whole.low < 0.15 < whole.high


def test_every_image_is_drawn_as_often() -> None:
    found = _drawn(Random(7), 5, (100, 20))
    data = Random(7).randbytes(4 * 2000)
    by_hand = [int.from_bytes(data[i : i + 4], "little") * 5 // 2**32 for i in range(0, len(data), 4)]
    assert found.ravel().tolist() == by_hand
    assert np.bincount(found.ravel()).tolist() == pytest.approx([400] * 5, abs=60)  # three standard deviations of 18


def test_seeds_are_drawn_as_well() -> None:
    right, wrong = np.ones(9, bool), np.zeros(9, bool)
    drawn = Bootstrap(np.stack([right, wrong, wrong, wrong]), Random(0))
    found = drawn.difference([0, 1], [2, 3], Random(0), joint=True)
    # Both runs of the first are drawn alike in half of the resamples: 0, 1/2 and 1 come with 1/4, 1/2 and 1/4.
    assert (found.value, found.low, found.high, found.seeds) == (0.5, 0.0, 1.0, (2, 2))


def test_common_seeds_are_drawn_together() -> None:
    right, wrong = np.ones(9, bool), np.zeros(9, bool)
    drawn = Bootstrap(np.stack([right, wrong, right, wrong]), Random(0))
    together = drawn.difference([0, 1], [2, 3], Random(0), joint=True)
    apart = drawn.difference([0, 1], [2, 3], Random(0), joint=False)
    assert (together.low, together.high) == (0.0, 0.0)
    assert (apart.low, apart.high) == (-1.0, 1.0)
    assert (together.how, apart.how) == (
        "images and seeds (the same for both)",
        "images and seeds (of each side)",
    )


P = [[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]


def test_images_are_matched_by_id() -> None:
    found = details("abc", ("cat", "dog"), P, [0, 1, 1])  # right, right, wrong
    assert right_on("cab", found, ("one", "two")).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("ids", "theirs", "message"),
    [
        ("abd", "abc", r"one and two .* same images: 1 were measured for one alone \(d\), 1 for two alone \(c\)"),
        ("ab", "abc", r"1 for two alone \(c\)"),
        ("abc", "abb", r"two has images twice, so they cannot be paired: b"),
    ],
)
def test_other_images_are_refused_by_name(ids: str, theirs: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        right_on(ids, details(theirs, ("cat", "dog"), P, [0, 1, 1]), ("one", "two"))
