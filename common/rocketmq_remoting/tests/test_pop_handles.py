"""Receipt handles and the texts of pop answers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_remoting.pop_handles import (
    BIT_SET_TEXT_SIZE_MAX,
    Handle,
    HandleError,
    decode_bits,
    encode_bits,
    parse_handle,
    parse_message_offsets,
    parse_order_counts,
    parse_start_offsets,
    pop_retry_topic,
    real_topic,
)


def test_a_handle_is_eight_parts_and_the_proxys_ninth_is_left_out() -> None:
    text = "7 1700000000000 60000 3 1 broker-a 2 9"
    handle = parse_handle(f"{text} 123456")
    assert handle == Handle(7, 1700000000000, 60000, 3, "1", "broker-a", 2, 9)
    assert str(handle) == text
    assert handle.due_ms == 1700000060000
    assert not handle.is_ordered
    assert handle._replace(revive_queue_id=999).is_ordered


@pytest.mark.parametrize("text", ["", "1 2 3", "a 1 1 0 0 b 0 0", "1 1 1 0 0 b x 0"])
def test_what_is_no_handle_is_refused(text: str) -> None:
    with pytest.raises(HandleError):
        parse_handle(text)


def test_retry_topics_have_an_old_and_a_new_form() -> None:
    assert pop_retry_topic("g", "t", "1") == "%RETRY%g_t"
    assert pop_retry_topic("g", "t", "2") == "%RETRY%g+t"
    assert real_topic("g", "t", "0") == "t"
    assert real_topic("g", "t", "2") == "%RETRY%g+t"
    # The Java client names the real topic already.
    assert real_topic("g", "%RETRY%g_t", "1") == "%RETRY%g_t"


def test_texts_of_an_answer_are_read_by_retry_flag_and_queue() -> None:
    assert parse_start_offsets("0 3 7;1 0 2") == {("0", 3): 7, ("1", 0): 2}
    assert parse_message_offsets("0 3 7,9;1 0 2") == {("0", 3): [7, 9], ("1", 0): [2]}
    assert parse_order_counts("0 3 0;0 qo3%7 2;0 qo3%x 1") == {(3, 7): 2}
    for text in ("0 3", "0 x 7", "0 3 x"):
        with pytest.raises(HandleError):
            parse_start_offsets(text)
        with pytest.raises(HandleError):
            parse_message_offsets(text)


def test_bits_are_javas() -> None:
    # Recorded from java.util.BitSet of 5.5.0: {0, 9}.
    assert encode_bits([0, 9]) == "AQI="
    assert decode_bits("AQI=") == [0, 9]


@given(st.sets(st.integers(0, 500)))
def test_bits_survive_the_way_there_and_back(bits: set[int]) -> None:
    assert decode_bits(encode_bits(bits)) == sorted(bits)


@pytest.mark.parametrize("text", ["!", "AQI", "A" * (BIT_SET_TEXT_SIZE_MAX + 4)])
def test_bits_that_cannot_be_read_or_are_too_many_are_refused(text: str) -> None:
    with pytest.raises(HandleError):
        decode_bits(text)
