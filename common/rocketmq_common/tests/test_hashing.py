"""Java's string hash, against values that Java printed (storage reference 2.11)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common.hashing import java_hash, java_hash_from, signed32


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 0),
        ("TagA", 2598919),
        ("TagB", 2598920),
        ("TopicTest", -1902610879),
        ("订单", 1129459),
        ("\U0001f600", 1772899),
        ("polygenelubricants", -2147483648),
    ],
)
def test_hash_equals_what_java_computes(text: str, expected: int) -> None:
    assert java_hash(text) == expected


@given(st.text(), st.text())
def test_hash_can_be_continued_over_a_prefix(first: str, second: str) -> None:
    assert signed32(java_hash_from(java_hash_from(0, first), second)) == java_hash(first + second)
