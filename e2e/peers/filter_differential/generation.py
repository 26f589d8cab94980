"""Questions for both sides: expressions by the grammar, bent ones, and nonsense; properties that fit them or just do not.

Everything follows from one ``random.Random``, so a seed names a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random
from typing import NamedTuple

MAPS_PER_EXPRESSION = 4
NESTING_MAX = 4

NAMES = ("a", "b", "c", "A", "price", "region", "$x", "_y1", "TAGS", "missing")
INTEGERS = (
    "0", "1", "2", "5", "10", "100", "5L", "7l", "2147483647", "2147483648", "2147483648L", "4294967296", "9007199254740993",
    "9223372036854775807", "9223372036854775808", "0L", "007", "99999999999999999999",
)  # fmt: skip
FLOATS = (
    "1.0", "5.5", "0.5", ".5", "5.", "1e3", "1E-3", "2.5e+2", "0.0", "1e400", "1e-400", "4.9e-324", "9007199254740992.0",
    "1.7976931348623157E308", "00.5", "1.e2", "2147483647.0", "100.0",
)  # fmt: skip
TEXTS = (
    "'x'", "'y'", "'eu'", "''", "'it''s'", "''''", "'5'", "'true'", "'TRUE'", "'é'", "'a b'", "'\U0001d518'", "'1.5'",
    "'--'", "'x\ny'",
)  # fmt: skip
VALUES = (
    "x", "y", "eu", "true", "TRUE", "True", "false", " true", "é", "it's", "'", "a b", "0", "1", "2", "5", "5", "10",
    "100", "-1", "+5", "-0", "007", " 5", "5 ", "5L", "0x10", "0x1p3", "0X1.8P-1", "0x.8p1f", "0x1p99999999999",
    "-0x1p-99999999999", "0x0p99999999999", "0x1", "2147483647", "2147483648", "-2147483648", "-2147483649",
    "4294967296", "9007199254740992", "9007199254740993", "9223372036854775807", "-9223372036854775808",
    "9223372036854775808", "1.0", "5.5", "-5.5", "5.50", ".5", "5.", ".", "1e3", "1e", "1E+2", "5f", "5.5D", "5dd",
    "NaN", "-NaN", "Infinity", "-Infinity", "inf", "nan", "infinity", "1e400", "-1e400", "1e-400", "-0.0", "0.0",
    "1_000", "\t5.5\n", "\u0663", "\u0663.\u0665", "\uff15", "\U0001d7d3", "\xa05", "\U0001d518",
    "1.7976931348623157E308", "4.9e-324", "1,5", "--5", "0" * 400 + "5", "0" * 1400 + "5",
)  # fmt: skip
SOUP = (
    *NAMES, "1", "5.5", "'x'", "TRUE", "FALSE", "NULL", "AND", "OR", "NOT", "BETWEEN", "IN", "IS", "CONTAINS",
    "STARTSWITH", "ENDSWITH", "=", "<>", "<", "<=", ">", ">=", "(", ")", ",", "+", "-", "'", "#", "--", "/*", "*/",
    "--x\n", "/* c */", "!=", "LIKE", "==", "*", "/", "\u0131", "\u212a", ".", "0", "\x00", ";", "\f", "\u00a0",
)  # fmt: skip


class Question(NamedTuple):
    """One expression and the property maps to try it on."""

    expression: str
    properties: list[dict[str, str]]


def questions(seed: int, pair_count: int) -> Iterator[Question]:
    """Questions with ``pair_count`` pairs of expression and map together."""
    random = Random(seed)
    while pair_count > 0:
        maps = [_properties(random) for _ in range(min(MAPS_PER_EXPRESSION, pair_count))]
        pair_count -= len(maps)
        yield Question(_expression(random), maps)


def _expression(random: Random) -> str:
    kind = random.random()
    if kind < 0.001:
        return _huge(random)
    if kind < 0.06:
        return _soup(random)
    text = _spaced(random, _or(random, 0))
    if kind < 0.25:
        text = _bent(random, text)
    return text


def _or(random: Random, nesting: int) -> list[str]:
    return _run(random, nesting, "OR", _and)


def _and(random: Random, nesting: int) -> list[str]:
    return _run(random, nesting, "AND", _equality)


def _run(random: Random, nesting: int, word: str, part: Callable[[Random, int], list[str]]) -> list[str]:
    words = part(random, nesting)
    while random.random() < 0.25 / (nesting + 1):
        words += [word, *part(random, nesting)]
    return words


def _equality(random: Random, nesting: int) -> list[str]:
    kind = random.random()
    if kind < 0.35:
        return [*_operand(random, nesting), random.choice(("=", "=", "<>")), *_operand(random, nesting)]
    if kind < 0.45:
        return [*_operand(random, nesting), "IS", *random.choice((("NULL",), ("NOT", "NULL")))]
    if kind < 0.48:
        return [*_equality(random, nesting + 1), random.choice(("=", "<>")), *_comparison(random, nesting)]
    return _comparison(random, nesting)


def _comparison(random: Random, nesting: int) -> list[str]:
    negated = ["NOT"] if random.random() < 0.3 else []
    kind = random.random()
    if kind < 0.35:
        return [*_operand(random, nesting), random.choice(("<", "<=", ">", ">=")), *_number_or_name(random, nesting)]
    if kind < 0.5:
        word = random.choice(("CONTAINS", "STARTSWITH", "ENDSWITH"))
        return [*_operand(random, nesting), *negated, word, random.choice(TEXTS)]
    if kind < 0.65:
        low, high = _number_or_name(random, nesting), _number_or_name(random, nesting)
        return [random.choice(NAMES), *negated, "BETWEEN", *low, "AND", *high]
    if kind < 0.8:
        members = [word for _ in range(random.randint(1, 6)) for word in (",", random.choice(TEXTS))][1:]
        return [random.choice(NAMES), *negated, "IN", "(", *members, ")"]
    return _operand(random, nesting)


def _number_or_name(random: Random, nesting: int) -> list[str]:
    kind = random.random()
    if kind < 0.3:
        return [random.choice(NAMES)]
    if kind < 0.9:
        return [
            *(("-",) if random.random() < 0.15 else ()),
            random.choice(INTEGERS if random.random() < 0.6 else FLOATS),
        ]
    return _operand(random, nesting)


def _operand(random: Random, nesting: int) -> list[str]:
    kind = random.random()
    if kind < 0.5 or nesting > NESTING_MAX:
        return [random.choice(NAMES)]
    if kind < 0.6:
        return [random.choice(INTEGERS)]
    if kind < 0.65:
        return [random.choice(FLOATS)]
    if kind < 0.75:
        return [random.choice(TEXTS)]
    if kind < 0.81:
        return [random.choice(("TRUE", "FALSE", "NULL"))]
    if kind < 0.88:
        return [random.choice(("NOT", "NOT", "-", "+")), *_operand(random, nesting + 1)]
    return ["(", *_or(random, nesting + 1), ")"]


def _spaced(random: Random, words: list[str]) -> str:
    """Join words with what may stand between them, in any case."""
    parts = []
    for word in words:
        if word.isalpha() and word.isupper() and random.random() < 0.3 and word not in NAMES:
            word = random.choice((word.lower(), word.title()))
        parts.append(word)
        kind = random.random()
        if kind < 0.94:
            parts.append(" ")
        elif kind < 0.98:
            parts.append(
                random.choice(("\t", "\n", "\r\n", "\f", "/* c */", "/***/", "/* * / **/", "-- c\n", "--\r", "  "))
            )
    return "".join(parts)


def _bent(random: Random, text: str) -> str:
    """Damage a text a little: most results are wrong, some mean something else."""
    for _ in range(random.randint(1, 2)):
        at = random.randint(0, len(text))
        kind = random.random()
        if kind < 0.4:
            text = text[:at] + text[at + random.randint(1, 4) :]
        elif kind < 0.8:
            text = text[:at] + random.choice(("", " ")) + random.choice(SOUP) + random.choice(("", " ")) + text[at:]
        else:
            text += " " + random.choice(SOUP)
    return text


def _soup(random: Random) -> str:
    return random.choice(("", " ")).join(random.choice(SOUP) for _ in range(random.randint(0, 8)))


def _huge(random: Random) -> str:
    """Around the limits of our parser; Apache's has none."""
    count = random.choice((20, 31, 33, 60, 255, 257, 400))
    kind = random.random()
    if kind < 0.3:
        return "(" * count + "a IS NULL" + ")" * count
    if kind < 0.5:
        return "NOT " * count + "(a = 'x')"
    if kind < 0.7:
        return " OR ".join(["a = 'x'"] * count)
    if kind < 0.85:
        return " AND ".join(f"p{number} IS NULL" for number in range(count))
    members = ", ".join(f"'member-{number}'" for number in range(count))
    return f"region IN ({members}, 'eu')"


def _properties(random: Random) -> dict[str, str]:
    return {name: random.choice(VALUES) for name in NAMES[:-1] if random.random() < 0.7}
