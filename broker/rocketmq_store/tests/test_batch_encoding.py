"""A batch is the single appends of its messages: compared byte for byte, index and queues included."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.hashing import java_hash_from
from rocketmq_common.message_ids import pack_host
from rocketmq_store.appending import NewMessage, join_properties
from rocketmq_store.batch_arrays import encode_even
from rocketmq_store.index_keys import index_entries, key_hash
from rocketmq_store.property_columns import cut_unique_keys
from rocketmq_store.rows import ROWS_MAX, pack_rows
from rocketmq_store.statuses import PutStatus
from rocketmq_store.tags import find_value
from rocketmq_store.tests.harness import Harness

PEER = pack_host("10.0.0.7", 40000)
PEER_V6 = pack_host("::1", 40000)
STORE_V6 = pack_host("fe80::1", 10911)


unique_names = st.one_of(
    st.integers(0, 9).map(lambda number: b"7F0000010001000000000000%08X" % number),
    st.sampled_from([b"short", b"x" * 33, b"\xc3\xa9" * 16, b"UNIQ_KEY\x01" + b"a" * 23, b""]),
)
rests = st.sampled_from(
    [
        b"\x02",
        b"",
        b"\x02TAGS\x01TagA\x02",
        b"\x02TAGS\x01TagB",
        b"\x02WAIT\x01true\x02TAGS\x01TagA\x02",
        b"\x02KEYS\x01k1 k2\x02",
        b"\x02DELAY\x013\x02",
        b"TAGS\x01inside\x02TAGS\x01TagC\x02",
        b"\x02__CRC32#\x010123456789\x02",
    ]
)
usual = st.builds(lambda name, rest: b"UNIQ_KEY\x01" + name + rest, unique_names, rests)
unusual = st.sampled_from(
    [b"", b"TAGS\x01t", b"KEYS\x01k1\x02UNIQ_KEY\x01A\x02", b"NO_UNIQ_KEY\x01B\x02UNIQ_KEY\x01A\x02", b"a\x011"]
)
entries = st.builds(
    BatchEntry,
    flag=st.integers(-3, 3),
    body=st.binary(max_size=40),
    properties=st.one_of(usual, unusual),
)


@st.composite
def batches(draw: st.DrawFn) -> list[BatchEntry]:
    """Mixed entries, or many of one shape, which take another way through the encoder."""
    if draw(st.booleans()):
        return draw(st.lists(entries, min_size=1, max_size=12))
    size, rest, flag = draw(st.integers(0, 20)), draw(rests), draw(st.integers(-3, 3))
    bodies = draw(st.lists(st.binary(min_size=size, max_size=size), min_size=1, max_size=12))
    first = draw(st.integers(0, 300))
    return [
        BatchEntry(flag, body, b"UNIQ_KEY\x01%032X" % (first + number) + rest) for number, body in enumerate(bodies)
    ]


headers = st.fixed_dictionaries(
    {
        "topic": st.sampled_from(["T", "a" * 130, "SCHEDULE_TOPIC_XXXX"]),
        "queue_id": st.integers(0, 2),
        "properties": st.sampled_from(
            [b"", b"CLUSTER\x01c\x02", b"TAGS\x01all\x02", b"UNIQ_KEY\x01A\x02KEYS\x01k1\x02", b"DELAY\x012\x02"]
        ),
        "sys_flag": st.sampled_from([0, 1, 0x30]),
        "born_timestamp_ms": st.integers(0, 1 << 40),
        "born_host": st.sampled_from([PEER, PEER_V6]),
        "reconsume_times": st.integers(0, 3),
    }
)


def contents(harness: Harness) -> tuple[bytes, dict[tuple[str, int], bytes], list[bytes]]:
    """Log, queues and index, as they are on disk."""
    store = harness.store
    while store.build_index():
        pass
    queues = {
        (topic, queue_id): bytes(store.queue(topic, queue_id).units_from(0, 1000))
        for topic in store.topics()
        for queue_id in store.queue_ids(topic)
        if store.queue(topic, queue_id).end
    }
    indexes = [path.read_bytes() for path in sorted((harness.root / "index").iterdir())]
    return bytes(store.commit_log_slice(0, 1 << 30) or b""), queues, indexes


def append_singly(harness: Harness, batch: list[BatchEntry], header: dict[str, Any]) -> list[tuple[int, int]]:
    places = []
    for flag, body, own in batch:
        properties = join_properties(own, header["properties"]) if header["properties"] else own
        result = harness.store.append(NewMessage(body=body, flag=flag, **{**header, "properties": properties}))
        assert result.status is PutStatus.PUT_OK
        places.append((result.physical_offset, result.queue_offset))
    return places


EVEN = [BatchEntry(0, b"body", b"UNIQ_KEY\x01%032X\x02TAGS\x01t\x02" % number) for number in range(30)]
TOPIC_HASH = java_hash_from(0, "T#")
HEADER = {"topic": "T", "queue_id": 0, "properties": b"CLUSTER\x01c\x02", "born_host": PEER}


@settings(max_examples=120, deadline=None)
@given(
    history=st.lists(st.tuples(batches(), headers), min_size=1, max_size=4),
    with_crc=st.booleans(),
    is_v6=st.booleans(),
    index_slot_count=st.sampled_from([2, 97]),
)
@example(history=[(EVEN, HEADER)] * 3, with_crc=False, is_v6=False, index_slot_count=97)
@example(history=[(EVEN, HEADER)] * 3, with_crc=True, is_v6=True, index_slot_count=2)
def test_a_batch_writes_what_single_appends_of_its_messages_write(
    history: list[tuple[list[BatchEntry], dict[str, Any]]],
    with_crc: bool,
    is_v6: bool,
    index_slot_count: int,
) -> None:
    with TemporaryDirectory() as directory:
        both = [
            Harness(
                Path(directory) / name,
                append_record_crc=with_crc,
                index_slot_count=index_slot_count,
                # Index files fill up in between.
                index_entry_count=25,
            )
            for name in ("batch", "single")
        ]
        for harness in both:
            harness.open()
            if is_v6:
                harness.store.set_store_host(STORE_V6)
        for batch, header in history:
            result = both[0].store.append_batch(NewMessage(body=encode_batch(batch), **header))
            assert result.status is PutStatus.PUT_OK
            places = [(offset, result.queue_offset + n) for n, offset in enumerate(result.physical_offsets)]
            assert places == append_singly(both[1], batch, header)
        assert contents(both[0]) == contents(both[1])
        for harness in both:
            harness.close()


befores = st.sampled_from([b"", b"TRAN_MSG\x01true\x02PGROUP\x01g\x02", b"KEYS\x01k1 k2\x02", b"a\x011"])


@settings(max_examples=200)
@given(
    st.lists(st.builds(lambda before, one: before + one, befores, st.one_of(usual, unusual)), min_size=1, max_size=8)
)
def test_index_entries_of_many_messages_are_those_that_their_keys_say(properties: list[bytes]) -> None:
    expected = []
    for number, one in enumerate(properties):
        keys = [find_value(one, b"UNIQ_KEY\x01"), *(find_value(one, b"KEYS\x01") or b"").split(b" ")]
        expected += [(key_hash(TOPIC_HASH, key), number, number + 5) for key in keys if key]
    notes = [(number, number + 5, TOPIC_HASH, one) for number, one in enumerate(properties)]
    assert list(zip(*index_entries(notes), strict=True)) == expected


def test_unique_keys_are_cut_wherever_they_stand_if_all_have_the_usual_size() -> None:
    key = b"UNIQ_KEY\x01" + b"7" * 32
    properties = [key, b"a\x011\x02" + key + b"\x02b\x012", key + b"\x02"]
    cut = cut_unique_keys(properties)
    assert cut is not None
    assert cut.firsts == key * 3
    for unusual_key in (
        b"",
        b"X" + key,
        key + b"8",
        key[:-1],
        key[:-1] + b"\xc3",
        b"UNIQ_KEY\x01UNIQ_KEY\x01" + b"7" * 23,
    ):
        assert cut_unique_keys([*properties, unusual_key]) is None


def test_a_rest_that_ends_one_message_elsewhere_does_not_shift_the_cut() -> None:
    # Equal sizes, and the rest of the first stands in the second one byte later, reaching into the third.
    rest = b"\x02a\x01bU"
    first = b"UNIQ_KEY\x01" + b"7" * 32
    properties = [first + rest, first + b"8\x02a\x01b", first + rest]
    assert cut_unique_keys(properties) is None


@settings(max_examples=80)
@given(
    rounds=st.lists(
        st.tuples(
            headers,
            st.lists(st.tuples(batches(), st.integers(0, 2), st.integers(0, 1 << 40)), min_size=1, max_size=4),
        ),
        min_size=1,
        max_size=3,
    ),
    with_crc=st.booleans(),
    even=st.booleans(),
)
@example(rounds=[(HEADER, [(EVEN, 0, 1), (EVEN[:7], 1, 2), (EVEN, 0, 3)])] * 3, with_crc=False, even=True)
def test_batches_stored_together_are_what_they_are_one_by_one(
    rounds: list[tuple[dict[str, Any], list[tuple[list[BatchEntry], int, int]]]], with_crc: bool, even: bool
) -> None:
    with TemporaryDirectory() as directory:
        both = [
            Harness(Path(directory) / name, append_record_crc=with_crc, index_slot_count=97, index_entry_count=60)
            for name in ("together", "single")
        ]
        told: list[list[tuple[int, ...]]] = [[], []]
        for harness, heard in zip(both, told, strict=True):
            harness.open()
            for topic in {header["topic"] for header, _ in rounds}:
                for queue_id in range(3) if even else ():
                    queue = harness.store._queues.create(topic, queue_id)
                    queue.watcher = lambda queue, *what, heard=heard: heard.append((queue.queue_id, *what))
        for header, parts in rounds:
            messages = [
                NewMessage(
                    body=encode_batch(EVEN[: 1 + len(batch)] if even else batch),
                    **{**header, "queue_id": queue_id, "born_timestamp_ms": born_ms},
                )
                for batch, queue_id, born_ms in parts
            ]
            together = both[0].store.append_batches(messages)
            single = [both[1].store.append_batch(message) for message in messages]
            assert [(r.status, list(r.physical_offsets), r.queue_offset, r.end_offset) for r in together] == [
                (r.status, list(r.physical_offsets), r.queue_offset, r.end_offset) for r in single
            ]
        assert contents(both[0]) == contents(both[1])
        assert told[0] == told[1]
        for harness in both:
            harness.close()


def test_batches_of_one_shape_are_encoded_as_arrays_and_others_are_not(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.open()
    store = harness.store
    queue = store._queues.create("T", 0)

    def is_array(entries: list[BatchEntry], **fields: Any) -> bool:
        message = NewMessage(body=encode_batch(entries), **{**HEADER, **fields})
        return encode_even((message,), (queue,), store._appender, 0, 1) is not None

    assert is_array(EVEN)
    assert is_array(EVEN, properties=b"")
    assert not is_array(EVEN, properties=b"TAGS\x01t\x02")
    for entry in (
        BatchEntry(1, *EVEN[0][1:]),
        BatchEntry(0, b"longer", EVEN[0].properties),
        BatchEntry(0, b"", EVEN[0].properties),
        BatchEntry(0, b"body", EVEN[0].properties + b"a\x01b\x02"),
        BatchEntry(0, b"body", EVEN[0].properties[:-1] + b"u"),
    ):
        assert not is_array([*EVEN, entry])
    harness.close()


@pytest.mark.parametrize("byte", [3, 19, 20 + len(b"body") + 1])
def test_one_wrong_length_among_equal_entries_refuses_the_batch(tmp_path: Path, byte: int) -> None:
    harness = Harness(tmp_path)
    harness.open()
    data = bytearray(encode_batch(EVEN))
    size = len(data) // len(EVEN)
    data[7 * size + byte] += 1
    result = harness.store.append_batch(NewMessage("T", 0, bytes(data)))
    assert result.status is PutStatus.MESSAGE_ILLEGAL
    assert f"byte {7 * size}" in result.reason
    assert harness.store.positions.written == 0
    harness.close()


def test_properties_too_long_for_their_field_refuse_the_batch(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.open()
    entries = [BatchEntry(0, b"", b"a\x01" + b"x" * 32_764), BatchEntry(0, b"", b"")]
    assert harness.store.append_batch(NewMessage("T", 0, encode_batch(entries))).status is PutStatus.PUT_OK
    refused = harness.store.append_batch(NewMessage("T", 0, encode_batch(entries), b"b\x01c\x02"))
    assert refused.status is PutStatus.PROPERTIES_SIZE_EXCEEDED
    harness.close()


def test_batches_behind_noted_messages_are_indexed_in_the_order_of_the_log(tmp_path: Path) -> None:
    harness = Harness(tmp_path)
    harness.open()
    for number in range(200):
        harness.put_ok(number)
    batch = NewMessage("T", 0, encode_batch(EVEN))
    assert harness.store.append_batch(batch).status is PutStatus.PUT_OK
    assert harness.store.statistics().index_pending_count == 200 + len(EVEN), "many notes are left to the builder"
    while harness.store.build_index():
        pass
    harness.put_ok(200)
    assert harness.store.append_batch(batch).status is PutStatus.PUT_OK
    assert harness.store.statistics().index_pending_count == 0, "few are worked off with the batch"
    found = harness.store.query("T", f"{3:032X}", 10).records
    assert len(found) == 2
    harness.close()


@given(st.integers(1, 3 * ROWS_MAX))
@settings(max_examples=20)
def test_rows_of_any_number_are_packed_one_after_another(count: int) -> None:
    packed = pack_rows("qi", range(count), [7] * count)
    assert packed == b"".join(n.to_bytes(8, "big") + b"\0\0\0\x07" for n in range(count))
