"""Adjusted p-values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats  # type: ignore[import-untyped]

from streams.experiments.statistics.multiple import benjamini_hochberg, holm

P = st.lists(st.floats(0, 1), min_size=1, max_size=30)


@given(P)
def test_false_discoveries_are_scipys(p: list[float]) -> None:
    asked = dict(enumerate(p))
    for any_dependence, method in ((False, "bh"), (True, "by")):
        expected = stats.false_discovery_control(p, method=method)
        assert list(benjamini_hochberg(asked, any_dependence).values()) == pytest.approx(expected.tolist(), rel=1e-9)


def test_holms_own_steps() -> None:
    adjusted = holm({"plays": 0.01, "hours": 0.04, "starts": 0.03, "rebuffers": 0.005})
    assert adjusted == pytest.approx({"plays": 0.03, "hours": 0.06, "starts": 0.06, "rebuffers": 0.02})


@given(P)
def test_holm_lies_between_bonferroni_and_nothing(p: list[float]) -> None:
    for mine, before in zip(holm(dict(enumerate(p))).values(), p, strict=True):
        assert before <= mine <= min(1.0, before * len(p)) + 1e-12


def test_no_p_value_is_refused_with_its_question() -> None:
    for procedure in (holm, benjamini_hochberg):
        with pytest.raises(ValueError, match="hours: nan"):
            procedure({"plays": 0.5, "hours": float("nan")})


def test_under_no_effect_holm_errs_as_rarely_as_promised() -> None:
    chance = np.random.default_rng(31)
    wrong = sum(min(holm(dict(enumerate(chance.uniform(size=12)))).values()) <= 0.05 for _ in range(3000))
    assert wrong / 3000 <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 3000)
