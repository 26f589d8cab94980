"""The stored record: bytes that Apache's classes produced, round trips, and damage."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_common.message_ids import pack_host
from rocketmq_common.records import (
    MAGIC_V2,
    RecordError,
    StoredMessage,
    decode_message,
    decode_messages,
    encode_message,
    encoded_size,
)

JAVA_RECORD = bytes.fromhex(
    "00000066daa320a73610a686000000010000000000000000000000020000000000000003000000000000000000000004"
    "01020304000000050000000000000005"
    "0a00000100002a9f000000000000000000000000000000056"
    "8656c6c6f02743100044b015602"
)

hosts = st.sampled_from([pack_host("1.2.3.4", 5), pack_host("::1", 10911)])
text = st.text(st.characters(codec="utf-8"), max_size=40)
messages = st.builds(
    StoredMessage,
    topic=st.text("abc%-_", min_size=1, max_size=200),
    body=st.binary(max_size=300),
    properties=text,
    queue_id=st.integers(0, 2**31 - 1),
    flag=st.integers(-(2**31), 2**31 - 1),
    queue_offset=st.integers(0, 2**63 - 1),
    physical_offset=st.integers(0, 2**63 - 1),
    born_timestamp=st.integers(0, 2**62),
    store_timestamp=st.integers(0, 2**62),
    born_host=hosts,
    store_host=hosts,
    reconsume_times=st.integers(0, 100),
    prepared_offset=st.integers(0, 2**62),
)


def java_message() -> StoredMessage:
    return StoredMessage(
        topic="t1",
        body=b"hello",
        properties="K\x01V\x02",
        queue_id=1,
        queue_offset=2,
        physical_offset=3,
        born_timestamp=4,
        born_host=pack_host("1.2.3.4", 5),
        store_timestamp=5,
        store_host=pack_host("10.0.0.1", 10911),
    )


def test_encoding_equals_java_byte_for_byte() -> None:
    assert encode_message(java_message()) == JAVA_RECORD


def test_decoding_reads_what_java_wrote() -> None:
    message = decode_message(JAVA_RECORD, check_crc=True)
    assert (message.topic, message.body, message.property_map()) == ("t1", b"hello", {"K": "V"})
    assert message.body_crc == 907060870
    assert message.message_id == "0A00000100002A9F0000000000000003"
    assert message.store_address == "10.0.0.1:10911"


@given(messages)
def test_records_survive_a_round_trip(message: StoredMessage) -> None:
    record = encode_message(message)
    read = decode_message(record, check_crc=True)
    assert (
        read.size
        == len(record)
        == encoded_size(read.sys_flag, len(message.body), len(message.topic.encode()), len(message.properties.encode()))
    )
    for name in ("topic", "body", "properties", "queue_offset", "physical_offset", "born_host", "store_host", "flag"):
        assert getattr(read, name) == getattr(message, name)


@given(messages, st.data())
def test_a_truncated_record_is_an_error_not_a_message(message: StoredMessage, data: st.DataObject) -> None:
    record = encode_message(message)
    cut = data.draw(st.integers(0, len(record) - 1))
    with pytest.raises(RecordError):
        decode_message(record[:cut])


@given(st.binary(max_size=300))
def test_garbage_is_an_error_not_a_crash(garbage: bytes) -> None:
    with pytest.raises(RecordError):
        decode_message(garbage)


@given(st.integers(0, 101), st.integers(0, 255))
def test_a_flipped_byte_never_yields_a_wrong_body(position: int, value: int) -> None:
    damaged = bytearray(JAVA_RECORD)
    damaged[position] = value
    try:
        message = decode_message(damaged, check_crc=True)
    except RecordError:
        return
    assert message.body == b"hello"


def test_a_topic_beyond_127_bytes_takes_the_second_layout() -> None:
    record = encode_message(StoredMessage(topic="%RETRY%" + "g" * 130, body=b""))
    assert struct.unpack_from(">I", record, 4) == (MAGIC_V2,)
    assert decode_message(record).topic == "%RETRY%" + "g" * 130


def test_records_back_to_back_are_split() -> None:
    assert [m.body for m in decode_messages(JAVA_RECORD * 3)] == [b"hello"] * 3


def test_properties_that_do_not_fit_are_refused_by_name() -> None:
    with pytest.raises(RecordError, match="properties of 40000 bytes"):
        encode_message(StoredMessage(topic="t", body=b"", properties="x" * 40000))
