"""Words of an expression, as Apache's token manager cuts them."""

from __future__ import annotations

import pytest

from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.tokens import DECIMAL, END, FLOAT, FOUND_SIZE_MAX, NAME, TEXT, Token, Tokens


def words(text: str) -> list[tuple[str, str]]:
    tokens = Tokens(text)
    found = []
    while tokens.next.kind != END:
        token = tokens.take()
        found.append((token.kind, token.image))
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a>=1", [(NAME, "a"), (">=", ">="), (DECIMAL, "1")]),
        ("a<>b", [(NAME, "a"), ("<>", "<>"), (NAME, "b")]),
        ("Not iN betWEEN", [("NOT", "Not"), ("IN", "iN"), ("BETWEEN", "betWEEN")]),
        ("$a _b1 notx", [(NAME, "$a"), (NAME, "_b1"), (NAME, "notx")]),
        ("12L 12l", [(DECIMAL, "12L"), (DECIMAL, "12l")]),
        ("007", [(DECIMAL, "0"), (DECIMAL, "0"), (DECIMAL, "7")]),
        ("0L", [(DECIMAL, "0"), (NAME, "L")]),
        ("5. .5 5e3 5.1E-2 007.5", [(FLOAT, n) for n in ("5.", ".5", "5e3", "5.1E-2", "007.5")]),
        ("5e", [(DECIMAL, "5"), (NAME, "e")]),
        ("1.2.3", [(FLOAT, "1.2"), (FLOAT, ".3")]),
        ("'it''s' ''", [(TEXT, "'it''s'"), (TEXT, "''")]),
        ("a--b\nc", [(NAME, "a"), (NAME, "c")]),
        ("a--b\rc", [(NAME, "a"), (NAME, "c")]),
        ("a--b", [(NAME, "a"), ("-", "-"), ("-", "-"), (NAME, "b")]),
        ("a/* * ** x */b/***/c", [(NAME, "a"), (NAME, "b"), (NAME, "c")]),
        (" \t\r\n\f", []),
    ],
)
def test_the_longest_fitting_word_wins(text: str, expected: list[tuple[str, str]]) -> None:
    assert words(text) == expected


@pytest.mark.parametrize("text", ["#", "/* x", "/", "!", "é", "\u212a", "\u00a0", "'", "'a", "'''", "'a''", "\x00"])
def test_a_character_that_starts_no_word_is_an_error_at_its_place(text: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        words("a " + text)
    assert caught.value.position is not None
    assert caught.value.position >= 3
    assert f"position {caught.value.position}: " in str(caught.value)


def test_open_texts_and_comments_are_named_as_such() -> None:
    with pytest.raises(ExpressionError, match="position 5: the text that begins here has no closing quote"):
        words("a = 'x")
    with pytest.raises(ExpressionError, match=r"position 3: the comment that begins here has no \*/"):
        words("a /* x")


def test_long_words_are_cut_in_messages() -> None:
    assert len(Token(NAME, "x" * 1000, 0).described()) == FOUND_SIZE_MAX
