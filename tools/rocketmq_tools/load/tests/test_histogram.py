"""Percentiles from buckets."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rocketmq_tools.load.histogram import Histogram

VALUES = st.lists(st.floats(min_value=0.001, max_value=60_000), min_size=1, max_size=200)


@given(VALUES, st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_right_to_two_percent(values: list[float], share: float) -> None:
    histogram = Histogram()
    for value in values:
        histogram.add(value)
    ordered = sorted(values)
    exact = ordered[max(math.ceil(share * len(ordered)), 1) - 1]
    assert exact * 0.98 <= histogram.percentile(share) <= exact * 1.0201


@given(VALUES, VALUES)
def test_merging_is_the_same_as_counting_together(first: list[float], second: list[float]) -> None:
    together, left, right = Histogram(), Histogram(), Histogram()
    for value in first:
        together.add(value)
        left.add(value)
    for value in second:
        together.add(value)
        right.add(value)
    left.merge(right)
    assert left.counts == together.counts
    assert left.total == together.total
    assert left.max_ms == together.max_ms
