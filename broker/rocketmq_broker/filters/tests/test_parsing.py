"""What is an expression, what is refused and with which words, and the limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.filters.errors import ExpressionError, ExpressionLimitError
from rocketmq_broker.filters.nodes import And, Comparison, Constant, Membership, Node, Not, Or, Property, Truth
from rocketmq_broker.filters.parsing import DEPTH_MAX, LENGTH_MAX, OPERANDS_MAX, PROPERTIES_MAX, parse
from rocketmq_broker.filters.tokens import KEYWORDS


def tree(text: str) -> Node:
    return parse(text).tree


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "position 1: expected a property, a literal or (, found the end"),
        ("a =", "position 4: expected a property, a literal or (, found the end"),
        ("a > 'x'", "position 5: > compares properties and numbers, here stands a text"),
        ("TRUE < a", "position 1: < compares properties and numbers, here stands TRUE"),
        ("a > 5 > 3", "position 1: > compares properties and numbers, here stands a condition"),
        ("a = NULL", "position 5: NULL cannot be compared: write IS NULL or IS NOT NULL"),
        ("NULL <> a", "position 1: NULL cannot be compared: write IS NULL or IS NOT NULL"),
        ("TRUE = 1", "position 1: TRUE or FALSE cannot be compared with another literal"),
        ("a AND 5", "position 7: a condition is expected, here stands a number"),
        ("'x' OR a", "position 1: a condition is expected, here stands a text"),
        ("-a", "position 1: a condition is expected, here stands a negated value"),
        ("NOT 5", "position 5: a condition is expected, here stands a number"),
        ("a BETWEEN 5 AND 3", "position 11: BETWEEN needs its lower end first, 5 is above 3"),
        ("a BETWEEN 5 OR 3", "position 13: expected AND between the two ends of BETWEEN, found OR"),
        ("a BETWEEN 'a' AND 'b'", "position 11: >= compares properties and numbers, here stands a text"),
        ("5 IN ('5')", "position 1: IN needs a property on its left"),
        ("a IN ()", "position 7: expected a text in quotes, found )"),
        ("a IN (5)", "position 7: expected a text in quotes, found 5"),
        ("a IN ('x'", "position 10: expected , or ) in the list of IN, found the end"),
        ("a IN 'x'", "position 6: expected ( and a list of texts after IN, found 'x'"),
        ("a CONTAINS b", "position 12: expected a text in quotes, found b"),
        ("a NOT b", "position 7: expected BETWEEN, IN, CONTAINS, STARTSWITH or ENDSWITH after NOT, found b"),
        ("a IS 5", "position 6: expected NULL or NOT NULL, found 5"),
        ("a IS NOT 5", "position 10: expected NULL, found 5"),
        ("(a = 1", "position 7: expected ), found the end"),
        (
            "a = 9223372036854775808",
            "position 5: 9223372036854775808 is above 9223372036854775807, the largest integer",
        ),
        ("a = 0.0", "position 5: 0.0 is outside the range of a number with a point (write 0 for zero)"),
        ("a = 1e400", "position 5: 1e400 is outside the range of a number with a point (write 0 for zero)"),
        ("NOT a > 1", "position 1: > compares properties and numbers, here stands a condition"),
    ],
)
def test_a_refusal_names_the_place_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(text)
    assert str(caught.value) == message
    assert message.startswith(f"position {caught.value.position}: ")


def test_or_is_looser_than_and_is_looser_than_equality() -> None:
    parsed = tree("a OR b AND c = 'x'")
    assert isinstance(parsed, Or)
    assert isinstance(parsed.operands[1], And)
    assert isinstance(parsed.operands[1].operands[1], Comparison)


def test_not_binds_tighter_than_equality() -> None:
    parsed = tree("NOT a = 1")
    assert isinstance(parsed, Comparison)
    assert isinstance(parsed.left, Not)


def test_equality_chains_to_the_left() -> None:
    parsed = tree("a = b = c")
    assert isinstance(parsed, Comparison)
    assert parsed.right == Property("c")


def test_a_plus_and_parentheses_leave_a_property_a_property() -> None:
    assert tree("+(a) IN ('x', 'it''s')") == Membership("a", frozenset({"x", "it's"}), False)


def test_a_property_alone_is_asked_for_its_truth() -> None:
    assert tree("a") == Truth(Property("a"), 2)
    assert tree("TRUE") == Constant(True)


def test_names_keep_their_case_and_come_once() -> None:
    assert parse("a = A OR b = 1 AND a = 2").names == ("a", "A", "b")


@pytest.mark.parametrize(
    ("text", "ignored"),
    [
        ("a = 1", ""),
        ("a = 1 b = 2 #", "b = 2 #"),
        ("a > 0L", "L"),
        ("a = 1 -- no line end", "-- no line end"),
        ("a = 'x' '''", "'''"),
        ("a x''y'", "x''y'"),
    ],
)
def test_text_behind_the_end_is_overlooked_as_apache_does_and_reported(text: str, ignored: str) -> None:
    assert parse(text).ignored == ignored


@pytest.mark.parametrize(
    "build",
    [
        lambda depth: "(" * depth + "a IS NULL" + ")" * depth,
        lambda depth: "NOT " * depth + "a",
        lambda depth: "a = " + "-" * depth + "1",
        lambda depth: "a = b" + " = c" * depth,
        lambda depth: "a" + " IS NULL" * depth,
        lambda depth: "a" + " CONTAINS 'x'" * depth,
        lambda depth: "(a OR (b AND " * depth + "c" + "))" * depth,
    ],
)
def test_depth_is_limited_in_every_form(build) -> None:
    parse(build(DEPTH_MAX // 2 - 3))
    for depth in (DEPTH_MAX + 1, 900):
        with pytest.raises(ExpressionLimitError):
            parse(build(depth)[:LENGTH_MAX] if depth == 900 else build(depth))


def test_the_longest_expression_is_read_and_a_longer_one_refused() -> None:
    text = "a = '" + "x" * (LENGTH_MAX - 6) + "'"
    assert len(text) == LENGTH_MAX
    parse(text)
    with pytest.raises(ExpressionLimitError, match=f"{LENGTH_MAX + 1} characters, {LENGTH_MAX} are allowed"):
        parse(text + " ")


def test_operands_and_properties_are_limited() -> None:
    parse(" OR ".join(["a=1"] * (OPERANDS_MAX // 2)))
    with pytest.raises(ExpressionLimitError, match=f"more than {OPERANDS_MAX} operands"):
        parse(" OR ".join(["a=1"] * (OPERANDS_MAX // 2 + 1)))
    parse(" AND ".join(f"p{n}" for n in range(PROPERTIES_MAX)))
    with pytest.raises(ExpressionLimitError, match=f"more than {PROPERTIES_MAX} properties"):
        parse(" AND ".join(f"p{n}" for n in range(PROPERTIES_MAX + 1)))


def test_members_of_in_lists_count_by_length_only() -> None:
    members = ", ".join(f"'{n}'" for n in range(OPERANDS_MAX + 100))
    assert isinstance(tree(f"a IN ({members})"), Membership)


WORDS = st.sampled_from(
    [*sorted(KEYWORDS), "a", "b", "1", "5.5", "'x'", "=", "<>", "<", ">=", "(", ")", ",", "+", "-", "'", "#"]
)


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=40).map(" ".join)))
def test_any_text_is_read_or_refused_with_a_place(text: str) -> None:
    refused = ""
    position = None
    try:
        refused = parse(text).ignored
    except ExpressionError as error:
        position = error.position
        refused = text[position - 1 :] if position else "no place"
    assert text.endswith(refused)
    assert position is None or 1 <= position <= len(text) + 1
