"""The text format, judged by Prometheus' own parser."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from rocketmq_common.exposition import COUNTER, GAUGE, HISTOGRAM, Family


def parsed(family: Family) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    (found,) = text_string_to_metric_families(family.encode().decode())
    assert found.type == family.kind
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for s in found.samples}


@given(st.text(max_size=30), st.floats(allow_nan=False))
def test_any_label_value_and_number_come_back(text, number):
    family = Family(GAUGE, "m", "help\nwith \\ lines", {"cluster": text}, ["topic"])
    family.add([text], number)
    assert parsed(family) == {("m", (("cluster", text), ("topic", text))): number}


def test_counter_keeps_its_name():
    family = Family(COUNTER, "messages_total", "Messages", {})
    family.add([], 1 << 60)
    assert b"messages_total{} 1152921504606846976\n" in family.encode()
    assert parsed(family) == {("messages_total", ()): float(1 << 60)}


def test_histogram_is_cumulative_with_count_and_sum():
    family = Family(HISTOGRAM, "size", "Sizes", {"a": "b"}, ["c"])
    family.add_histogram(["d"], (1, 4), [2, 0, 3], 70.5)
    labels = (("a", "b"), ("c", "d"))
    found = parsed(family)
    assert found["size_bucket", tuple(sorted((*labels, ("le", "1.0"))))] == 2
    assert found["size_bucket", tuple(sorted((*labels, ("le", "4.0"))))] == 2
    assert found["size_bucket", tuple(sorted((*labels, ("le", "+Inf"))))] == 5
    assert (found["size_count", labels], found["size_sum", labels]) == (5, 70.5)


def test_family_without_series_is_nothing():
    assert Family(GAUGE, "m", "Text", {"a": "b"}).encode() == b""


def test_wrong_number_of_values_or_buckets_is_a_bug():
    family = Family(HISTOGRAM, "m", "Text", {}, ["a"])
    with pytest.raises(ValueError, match="values for labels"):
        family.add([], 1)
    with pytest.raises(ValueError, match="counts for 2 bounds"):
        family.add_histogram(["x"], (1, 2), [1, 2], 0)
