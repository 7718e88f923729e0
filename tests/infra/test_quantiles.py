"""Quantiles that a benchmark takes of counted values."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.bench.quantiles import quantile


@pytest.mark.parametrize(("share", "value"), [(0.5, 2.0), (0.51, 3.0), (0.99, 3.0), (0.25, 1.0)])
def test_a_quantile_is_one_of_the_values(share: float, value: float) -> None:
    assert quantile(Counter({1.0: 1, 2.0: 1, 3.0: 2}), share) == value


@given(st.lists(st.integers(0, 9), min_size=1), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_counts_stand_for_the_values_one_by_one(values: list[int], share: float) -> None:
    found = quantile(Counter(map(float, values)), share)
    assert sum(value <= found for value in values) >= share * len(values)
    assert sum(value < found for value in values) < share * len(values)
