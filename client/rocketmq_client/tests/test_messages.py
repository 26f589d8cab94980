"""Received messages: lazily decoded, decompressed, unwrapped."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_client import Compression, DecompressionError, InvalidArgument, Message, MessageQueue, MessageView
from rocketmq_client import compression as compression_module
from rocketmq_client.compression import compress, decompress
from rocketmq_client.messages import view_messages, wire_properties
from rocketmq_common import sysflags
from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.records import RecordError, StoredMessage, encode_message


@given(st.binary(max_size=5000), st.sampled_from(list(Compression)))
def test_compression_round_trips(body: bytes, algorithm: Compression) -> None:
    assert decompress(compress(body, algorithm), algorithm.value) == body


def test_a_flag_of_old_clients_means_zlib() -> None:
    assert decompress(zlib.compress(b"x"), sysflags.COMPRESSED) == b"x"
    assert decompress(b"plain", 0) == b"plain"


@pytest.mark.parametrize("algorithm", list(Compression))
def test_damaged_and_cut_bodies_are_errors(algorithm: Compression) -> None:
    packed = compress(b"some body " * 100, algorithm)
    for damaged in (b"nonsense", packed[: len(packed) // 2], b""):
        with pytest.raises(DecompressionError):
            decompress(damaged, algorithm.value)


@pytest.mark.parametrize("algorithm", list(Compression))
def test_a_body_that_would_fill_the_memory_is_an_error(algorithm: Compression, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression_module, "BODY_SIZE_MAX", 1000)
    assert len(decompress(compress(bytes(1000), algorithm), algorithm.value)) == 1000
    with pytest.raises(DecompressionError, match="1000"):
        decompress(compress(bytes(100_000), algorithm), algorithm.value)


def test_a_view_shows_every_part_of_a_message() -> None:
    stored = StoredMessage(
        topic="orders", body=b"hi", properties="KEYS\x01a b\x02TAGS\x01t\x02UNIQ_KEY\x01ID\x02__SHARDINGKEY\x01s\x02",
        queue_id=3, queue_offset=7, physical_offset=9, born_timestamp=1, store_timestamp=2, reconsume_times=4,
        born_host=bytes((10, 0, 0, 1, 0, 0, 0, 80)), store_host=bytes((10, 0, 0, 2, 0, 0, 0x2A, 0x9F)),
    )  # fmt: skip
    (view,) = view_messages(encode_message(stored), "broker-a")
    assert view.queue == MessageQueue("orders", "broker-a", 3)
    assert (view.topic, view.body, view.tag, view.keys, view.sharding_key) == ("orders", b"hi", "t", ("a", "b"), "s")
    assert (view.queue_offset, view.physical_offset, view.reconsume_times) == (7, 9, 4)
    assert (view.born_timestamp_ms, view.store_timestamp_ms) == (1, 2)
    assert (view.born_host, view.store_host) == ("10.0.0.1:80", "10.0.0.2:10911")
    assert view.message_id == "ID"
    assert view.offset_message_id == "0A00000200002A9F0000000000000009"
    assert "broker-a:3@7" in repr(view)


def test_a_message_without_a_unique_id_is_called_by_its_place() -> None:
    view = MessageView(StoredMessage(topic="t", body=b""), MessageQueue("t", "b", 0))
    assert view.message_id == view.offset_message_id


def test_a_stored_batch_comes_out_as_its_messages() -> None:
    entries = [BatchEntry(0, b"%d" % i, f"UNIQ_KEY\x01u{i}\x02".encode()) for i in range(3)]
    stored = StoredMessage(
        topic="t", body=encode_batch(entries), properties="INNER_NUM\x013\x02INNER_BASE\x0140\x02", queue_offset=40,
        sys_flag=sysflags.INNER_BATCH | sysflags.NEED_UNWRAP,
    )  # fmt: skip
    views = list(view_messages(encode_message(stored), "b", offset_delta=100))
    assert [(v.body, v.queue_offset, v.message_id) for v in views] == [
        (b"0", 140, "u0"),
        (b"1", 141, "u1"),
        (b"2", 142, "u2"),
    ]


def test_bytes_that_are_no_record_are_an_error() -> None:
    with pytest.raises(RecordError):
        list(view_messages(b"\0" * 200, "b"))


def test_a_priority_is_a_property_and_not_negative() -> None:
    assert wire_properties(Message(topic="T", body=b"", priority=3), "id")["_SYS_MSG_PRIORITY_"] == "3"
    assert "_SYS_MSG_PRIORITY_" not in wire_properties(Message(topic="T", body=b""), "id")
    with pytest.raises(InvalidArgument):
        wire_properties(Message(topic="T", body=b"", priority=-1), "id")
