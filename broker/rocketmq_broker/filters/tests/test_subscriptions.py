"""Filters of subscriptions over stored records: the same verdict as over the decoded properties."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.record_properties import SEARCHED_NAMES_MAX, PropertyReader, properties_bytes
from rocketmq_broker.filters.subscriptions import SqlFilter, filter_for, message_filter
from rocketmq_broker.filters.tags import TAGS_MAX, tag_codes
from rocketmq_common.hashing import java_hash
from rocketmq_common.properties import encode_properties, parse_properties
from rocketmq_common.records import StoredMessage, encode_message
from rocketmq_remoting.bodies import SubscriptionData

HOSTS = {"v4": b"\x7f\x00\x00\x01\x00\x00\x2a\x9f", "v6": b"\x00" * 15 + b"\x01\x00\x00\x2a\x9f"}


def record(properties: dict[str, str] | str, **fields) -> memoryview:
    text = properties if isinstance(properties, str) else encode_properties(properties)
    return memoryview(encode_message(StoredMessage(**{"topic": "T", "body": b"body", **fields}, properties=text)))


def sql(expression: str) -> SqlFilter:
    found = filter_for(SubscriptionData(topic="T", sub_string=expression, expression_type="SQL92"))
    assert isinstance(found, SqlFilter)
    return found


def test_a_tag_filter_decides_on_the_code_alone() -> None:
    wanted = filter_for(SubscriptionData(topic="T", sub_string="TagA || TagB"))
    assert wanted.tags_codes == frozenset({java_hash("TagA"), java_hash("TagB")})
    assert wanted.accept is None
    for tag, expected in (("TagA", True), ("TagB", True), ("TagC", False)):
        assert wanted.accepts_tags_code(java_hash(tag)) is expected
        assert wanted.accepts_record(java_hash(tag), record({})) is expected
    assert not wanted.accepts_tags_code(0)


@pytest.mark.parametrize("expression_type", ["TAG", None, ""])
@pytest.mark.parametrize("expression", ["*", "", None])
def test_everything_is_wanted_without_restriction(expression: str | None, expression_type: str | None) -> None:
    wanted = message_filter(expression, expression_type)
    assert wanted.tags_codes is None
    assert wanted.accept is None
    assert wanted.accepts_tags_code(12345)
    assert wanted.accepts_record(0, record({}))


def test_tags_are_trimmed_as_java_trims() -> None:
    assert tag_codes("\x01 a \t|| \u00a0b||  ") == frozenset({java_hash("a"), java_hash("\u00a0b")})


def test_a_subscription_of_too_many_or_no_tags_is_refused() -> None:
    with pytest.raises(ExpressionError, match="names no tag"):
        tag_codes(" || ")
    with pytest.raises(ExpressionError, match=f"{TAGS_MAX} are allowed"):
        tag_codes("||".join(f"t{n}" for n in range(TAGS_MAX + 1)))


@pytest.mark.parametrize("born", ["v4", "v6"])
@pytest.mark.parametrize("stored", ["v4", "v6"])
@pytest.mark.parametrize("topic", ["T", "T" * 127, "T" * 128, "T" * 200])
def test_an_sql_filter_finds_properties_in_every_record_layout(born: str, stored: str, topic: str) -> None:
    wanted = sql("region = 'eu' AND amount > 100")
    fields = {"born_host": HOSTS[born], "store_host": HOSTS[stored], "topic": topic, "body": b"x" * 300}
    assert wanted.accept is not None
    assert wanted.tags_codes is None
    assert wanted.accepts_tags_code(0)
    assert wanted.accept(0, record({"region": "eu", "amount": "101"}, **fields))
    assert not wanted.accept(0, record({"region": "eu", "amount": "100"}, **fields))
    assert not wanted.accept(0, record({"region": "eu", "amount": "many"}, **fields))
    assert not wanted.accept(0, record({"region": "eu"}, **fields))
    assert not wanted.accept(0, record({}, **fields))


def test_a_record_in_a_larger_mapping_is_read_up_to_its_own_end() -> None:
    one = bytes(record({"a": "1"}))
    two = bytes(record({"a": "2"}))
    mapping = memoryview(one + two)
    assert properties_bytes(mapping[: len(one)]) == b"a\x011\x02"
    assert properties_bytes(mapping[len(one) :]) == b"a\x012\x02"


@pytest.mark.parametrize(
    "text",
    [
        "a\x01x\x02", "a\x01x", "ba\x01y\x02a\x01x\x02", "a\x01y\x02a\x01x\x02", "a\x01x\x02a\x01\x02", "a\x01x\x02a\x02",
        "a\x01x\x01y\x02",
        "\x02\x02a\x01x\x02", "\x01a\x01x\x02", "b\x01a\x01x\x02", "a\x01é\x02", "", "a", "a\x01", "\x02",
    ],
)  # fmt: skip
def test_reading_single_properties_equals_reading_all(text: str) -> None:
    assert PropertyReader(["a"]).values(text.encode()) == [parse_properties(text).get("a")]


@given(st.text(alphabet="ab\x01\x02", max_size=24), st.integers(1, SEARCHED_NAMES_MAX + 2))
def test_any_property_string_is_read_alike_by_both_ways(text: str, count: int) -> None:
    names = ["a", "b", "ab", "ba", "aa", "bb", "aab"][:count]
    assert PropertyReader(names).values(text.encode()) == [parse_properties(text).get(name) for name in names]


def test_properties_that_are_no_utf8_do_not_stop_a_filter() -> None:
    assert PropertyReader(["a"]).values(b"a\x01\xff\xfe\x02") == ["\ufffd\ufffd"]


def test_unknown_expression_types_and_empty_expressions_are_refused() -> None:
    with pytest.raises(ExpressionError, match="'GROOVY' is unknown"):
        message_filter("x", "GROOVY")
    for empty in ("", None):
        with pytest.raises(ExpressionError, match="is empty"):
            message_filter(empty, "SQL92")
    with pytest.raises(ExpressionError, match="position 5"):
        message_filter("a > 'x'", "SQL92")
