"""The property string in all the spellings that clients use."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common.properties import (
    append_property,
    encode_properties,
    find_property,
    parse_properties,
    remove_property,
)

names = st.text(st.characters(exclude_characters="\x01\x02", codec="utf-8"), min_size=1, max_size=8)
maps = st.dictionaries(names, names, max_size=6)


@given(maps)
def test_properties_survive_a_round_trip(properties: dict[str, str]) -> None:
    assert parse_properties(encode_properties(properties)) == properties


@given(maps)
def test_the_last_separator_may_be_missing(properties: dict[str, str]) -> None:
    text = encode_properties(properties)
    assert parse_properties(text[:-1]) == properties


@given(maps, names, names)
def test_appending_never_swallows_the_last_value(properties: dict[str, str], name: str, value: str) -> None:
    for text in (encode_properties(properties), encode_properties(properties)[:-1]):
        assert parse_properties(append_property(text, name, value)) == {**properties, name: value}


@given(maps)
def test_find_agrees_with_parse(properties: dict[str, str]) -> None:
    text = encode_properties(properties)
    assert {name: find_property(text, name) for name in properties} == properties


def test_find_is_not_fooled_by_a_name_that_ends_alike() -> None:
    assert find_property("X_TAGS\x01a\x02TAGS\x01b\x02", "TAGS") == "b"
    assert find_property("X_TAGS\x01a\x02", "TAGS") is None


def test_remove_keeps_the_others_and_their_order() -> None:
    assert remove_property("A\x011\x02POP_CK\x01x\x02B\x012", "POP_CK") == "A\x011\x02B\x012\x02"


def test_empty_values_and_short_pairs_vanish_as_in_java() -> None:
    assert parse_properties("A\x01\x02\x01v\x02x\x02B\x012\x02") == {"B": "2"}


def test_a_separator_in_a_value_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="'A'"):
        encode_properties({"A": "x\x02y"})
