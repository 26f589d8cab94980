"""Java's reading and ordering of numbers, which decides what an SQL92 filter means.

A property is text and is read as the type of the constant beside it: Integer for literals within 32 bits, Long beyond, Double
with a point or exponent. What Java's ``valueOf`` refuses, as "3000000000" for an Integer, is an error and so no match.
Values are ``int`` (Integer and Long), ``float`` (Double), ``str``, ``bool`` and ``None``.
Source: java.lang.Integer, Long and Double; org.apache.rocketmq.filter.expression.ComparisonExpression (5.5.0).
"""

from __future__ import annotations

import re
from math import copysign, inf, isnan

from rocketmq_broker.filters.errors import EvaluationError

INTEGER_MAX = 2**31 - 1
INTEGER_MIN = -(2**31)
LONG_MAX = 2**63 - 1
LONG_MIN = -(2**63)
# Longer texts are no numbers: Java reads them, at a cost that a stranger's messages must not cause for every comparison.
NUMBER_SIZE_MAX = 1024
# Short enough that no range check is needed.
_SHORT_INTEGER_DIGITS = 9

_INTEGER = re.compile(r"[+-]?\d++")
_DOUBLE = re.compile(
    r"[\x00-\x20]*+"
    r"(?:(?P<decimal>[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?)[fFdD]?"
    r"|(?P<hexadecimal>[+-]?0[xX](?:[0-9a-fA-F]++\.?[0-9a-fA-F]*+|\.[0-9a-fA-F]++)[pP])(?P<power>[+-]?[0-9]++)[fFdD]?"
    r"|(?P<sign>[+-]?)(?P<word>NaN|Infinity))"
    r"[\x00-\x20]*+"
)
# Binary exponents beyond this are infinity or zero whatever stands before: a significand has less than 2**10 digits.
_POWER_DIGITS_MAX = 8

Value = str | int | float | bool | None


def is_integer(number: int) -> bool:
    """Whether a constant is an Integer rather than a Long.

    Literals have no sign, so -2**31 arises only by negating the Long 2**31 and stays a Long.
    """
    return -INTEGER_MAX <= number <= INTEGER_MAX


def read_integer(text: str) -> int:
    """``Integer.valueOf``: an optional sign and decimal digits of any script; raises EvaluationError."""
    if len(text) <= _SHORT_INTEGER_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    number = _read_whole(text)
    if number is None or not INTEGER_MIN <= number <= INTEGER_MAX:
        raise EvaluationError(text, "integer of 32 bits")
    return number


def read_long(text: str) -> int:
    """``Long.valueOf``; raises EvaluationError."""
    number = _read_whole(text)
    if number is None or not LONG_MIN <= number <= LONG_MAX:
        raise EvaluationError(text, "integer of 64 bits")
    return number


def read_double(text: str) -> float:
    """``Double.valueOf``: decimal or hexadecimal, NaN, Infinity, blanks around, a type letter behind; raises EvaluationError."""
    match = _DOUBLE.fullmatch(text) if len(text) <= NUMBER_SIZE_MAX else None
    if match is None:
        raise EvaluationError(text, "number")
    decimal, hexadecimal, power, sign, word = match.groups()
    if decimal is not None:
        return float(decimal)
    if hexadecimal is not None:
        return _read_hexadecimal(hexadecimal, power)
    if word == "NaN":
        return float("nan")
    return -inf if sign == "-" else inf


def read_double_no_nan(text: str) -> float:
    """`read_double` for comparing with a finite constant: Java orders NaN above everything, as infinity is above the constant."""
    number = read_double(text)
    return number if number == number else inf


def read_boolean(text: str) -> bool:
    """``Boolean.valueOf``: the word true in any case; everything else is false."""
    return text.lower() == "true"


def compare_doubles(left: float, right: float) -> int:
    """``Double.compareTo``: NaN equals itself and exceeds the rest, 0.0 exceeds -0.0. Negative, zero or positive."""
    if left < right:
        return -1
    if left > right:
        return 1
    if left == right:
        return 0 if left else int(copysign(1, left) - copysign(1, right))
    return isnan(left) - isnan(right)


def compare(left: Value, right: Value) -> int:
    """Order of two present values of different or equal types: negative, zero or positive.

    Types that cannot be converted to each other order as -1, which "=" takes as different. Raises EvaluationError where Java
    throws.
    """
    if isinstance(left, bool):
        if isinstance(right, str):
            raise EvaluationError(right, "boolean: write the property on the left and the constant on the right")
        return left - right if isinstance(right, bool) else -1
    if isinstance(left, str):
        if isinstance(right, bool):
            return read_boolean(left) - right
        if isinstance(right, float):
            return compare_doubles(read_double(left), right)
        if isinstance(right, int):
            return _compare_whole(_read_as(right, left), right)
        return -1 if right is None or left < right else int(left > right)
    if isinstance(right, bool) or left is None or right is None:
        return -1
    if isinstance(right, str):
        if isinstance(left, float):
            return compare_doubles(left, read_double(right))
        return _compare_whole(left, _read_as(left, right))
    if isinstance(left, int) and isinstance(right, int):
        return _compare_whole(left, right)
    return compare_doubles(float(left), float(right))


def _compare_whole(left: int, right: int) -> int:
    return (left > right) - (left < right)


def _read_as(constant: int, text: str) -> int:
    return read_integer(text) if is_integer(constant) else read_long(text)


def _read_whole(text: str) -> int | None:
    # Java looks at UTF-16 units, so digits outside the basic plane are none.
    if len(text) > NUMBER_SIZE_MAX or _INTEGER.fullmatch(text) is None or (not text.isascii() and max(text) > "\uffff"):
        return None
    return int(text)


def _read_hexadecimal(significand: str, power: str) -> float:
    sign = "-" if significand[0] == "-" else ""
    digits = power.lstrip("+-").lstrip("0") or "0"
    if len(digits) > _POWER_DIGITS_MAX:
        is_zero = not significand.lstrip("+-")[2:-1].strip("0.")
        return float(f"{sign}inf") if not is_zero and power[0] != "-" else float(f"{sign}0")
    try:
        return float.fromhex(f"{significand}{'-' if power[0] == '-' else ''}{digits}")
    except OverflowError:
        return float(f"{sign}inf")
