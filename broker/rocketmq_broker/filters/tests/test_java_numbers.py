"""Reading and ordering numbers as Java does; e2e/peers/filter_differential holds the same against Java's own classes."""

from __future__ import annotations

import math
from math import inf, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.filters.errors import EvaluationError
from rocketmq_broker.filters.java_numbers import (
    INTEGER_MAX,
    LONG_MAX,
    LONG_MIN,
    NUMBER_SIZE_MAX,
    compare,
    compare_doubles,
    read_boolean,
    read_double,
    read_double_no_nan,
    read_integer,
    read_long,
)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("007", 7), ("+5", 5), ("-0", 0), ("2147483647", INTEGER_MAX), ("-2147483648", -(2**31)), ("\u0663", 3)],
)
def test_integers_are_signs_and_digits_of_any_script(text: str, number: int) -> None:
    assert read_integer(text) == number
    assert read_long(text) == number


@pytest.mark.parametrize(
    "text", ["", " 5", "5 ", "5L", "5.0", "0x10", "1_000", "--5", "+", "1e3", "\U0001d7d3", "x", "\xa05"]
)
def test_other_texts_are_no_integers(text: str) -> None:
    for read in (read_integer, read_long):
        with pytest.raises(EvaluationError):
            read(text)


def test_integers_keep_their_ranges() -> None:
    for text in ("2147483648", "-2147483649", "3000000000"):
        with pytest.raises(EvaluationError, match="integer of 32 bits"):
            read_integer(text)
    assert read_long("9223372036854775807") == LONG_MAX
    assert read_long("-9223372036854775808") == LONG_MIN
    for text in ("9223372036854775808", "-9223372036854775809"):
        with pytest.raises(EvaluationError, match="integer of 64 bits"):
            read_long(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("5", 5.0), (" \t5.5\n", 5.5), ("5.", 5.0), (".5", 0.5), ("1e3", 1000.0), ("1E+2", 100.0), ("5f", 5.0), ("5.5D", 5.5),
        ("Infinity", inf), ("-Infinity", -inf), ("1e400", inf), ("-1e400", -inf), ("1e-400", 0.0), ("0x1p3", 8.0),
        ("0X1.8P-1", 0.75),
        ("0x.8p1f", 1.0), ("0x1p99999999999", inf), ("-0x1p99999999999", -inf), ("0x1p-99999999999", 0.0), ("0x0p99999999999", 0.0),
        ("0x1p5000", inf), ("0x1.p1", 2.0),
    ],
)  # fmt: skip
def test_doubles_are_read_as_java_reads_them(text: str, number: float) -> None:
    assert read_double(text) == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "1e",
        "inf",
        "nan",
        "infinity",
        "NAN",
        "1_000",
        "5dd",
        "0x10",
        "0x.p1",
        "\u0663",
        "\xa05",
        "1,5",
        "5 5",
        "e5",
        "+-5",
    ],
)
def test_other_texts_are_no_doubles(text: str) -> None:
    with pytest.raises(EvaluationError, match="is no number"):
        read_double(text)


def test_texts_above_the_size_limit_are_no_numbers() -> None:
    longest = "0" * (NUMBER_SIZE_MAX - 1) + "5"
    assert read_integer(longest) == read_long(longest) == read_double(longest) == 5
    for read in (read_integer, read_long, read_double):
        with pytest.raises(EvaluationError):
            read("0" + longest)


def test_only_the_word_true_is_true() -> None:
    assert [text for text in ("true", "TRUE", "tRuE", " true", "1", "yes", "") if read_boolean(text)] == [
        "true",
        "TRUE",
        "tRuE",
    ]


DOUBLES = [-inf, -1.5, -0.0, 0.0, 5e-324, 2.5, inf, nan]


def test_doubles_have_a_total_order_with_nan_last_and_minus_zero_below_zero() -> None:
    for i, left in enumerate(DOUBLES):
        for j, right in enumerate(DOUBLES):
            assert (compare_doubles(left, right) > 0) == (i > j), (left, right)
            assert (compare_doubles(left, right) == 0) == (i == j), (left, right)


def test_nan_beside_a_constant_counts_as_infinity() -> None:
    assert read_double_no_nan("NaN") == inf
    assert math.isnan(read_double("-NaN"))


def test_types_that_do_not_convert_order_as_smaller() -> None:
    assert compare(True, 1) == compare(1, True) == compare(5.5, True) == -1
    assert compare(True, False) == 1
    assert compare("true", True) == 0
    with pytest.raises(EvaluationError, match="boolean"):
        compare(True, "true")


def test_texts_convert_to_the_type_of_the_number() -> None:
    assert compare("5", 5) == compare(5, "5") == compare("5.0", 5.0) == compare(5.0, "5") == 0
    for left, right in (("5.0", 5), (5, "5.0"), ("3000000000", 5), ("x", 5.5)):
        with pytest.raises(EvaluationError):
            compare(left, right)
    assert compare("3000000000", 2**31) == 1
    assert compare(2**53 + 1, float(2**53)) == 0


@given(st.integers(LONG_MIN, LONG_MAX))
def test_every_long_is_read_back(number: int) -> None:
    assert read_long(str(number)) == number


@given(st.floats(allow_nan=False))
def test_every_double_is_read_back(number: float) -> None:
    assert read_double(repr(number).replace("inf", "Infinity")) == number
