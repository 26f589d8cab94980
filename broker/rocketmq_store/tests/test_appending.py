"""Appends: bytes as Apache writes them, limits, rolling, batches, time."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rocketmq_common import sysflags
from rocketmq_common.message_ids import pack_host
from rocketmq_common.properties import encode_properties
from rocketmq_common.records import MAGIC_V2, decode_message, decode_messages
from rocketmq_store.appending import NewMessage, join_properties, record_crc
from rocketmq_store.scanning import Scanned, parse
from rocketmq_store.statuses import GetStatus, PutStatus
from rocketmq_store.tests.harness import Harness, properties

# storage.md 2.11: topic TopicTest, queue 1, queue offset 5, physical offset 4096.
GOLDEN = bytes.fromhex(
    "000000a8daa320a777d1898200000001000000000000000000000005000000000000100000000000"
    "0000018bcfe568007f0000010000c3500000018bcfe5687b0a00000100002a9f0000000000000000"
    "000000000000000548656c6c6f09546f70696354657374003f554e49515f4b455901374630303030"
    "30313030303031384234414143323030303030303030303030300254414753015461674102"
    "4b455953016b31206b3202"
)
GOLDEN_PROPERTIES = encode_properties(
    {"UNIQ_KEY": "7F000001000018B4AAC2000000000000", "TAGS": "TagA", "KEYS": "k1 k2"}
).encode()


@pytest.fixture
def harness(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    yield harness
    harness.close()


def record_at(harness: Harness, offset: int) -> bytes:
    record = harness.store.message_at(offset)
    assert record is not None
    return bytes(record)


def put_golden(harness: Harness) -> bytes:
    """Bring log and queue to the golden record's place, then store it."""
    store = harness.store
    store.set_store_host(pack_host("10.0.0.1", 10911))
    # A first record that ends at 4096: it takes 91 + topic + properties + body.
    first = NewMessage("Other", 0, bytes(4096 - 91 - 5))
    assert store.append(first).end_offset == 4096
    queue = store.queue("TopicTest", 1)
    queue.start_at(5)
    harness.clock.advance(123)
    result = store.append(
        NewMessage(
            "TopicTest",
            1,
            b"Hello",
            GOLDEN_PROPERTIES,
            born_timestamp_ms=1_700_000_000_000,
            born_host=pack_host("127.0.0.1", 50000),
        )
    )
    assert (result.physical_offset, result.queue_offset) == (4096, 5)
    return record_at(harness, 4096)


def test_record_has_the_bytes_of_the_reference_vector(harness):
    assert put_golden(harness) == GOLDEN


def test_queue_entry_has_the_bytes_of_the_reference_vector(harness):
    put_golden(harness)
    queue = harness.store.queue("TopicTest", 1)
    assert bytes(queue.units_from(5, 1)).hex() == "0000000000001000000000a8000000000027a807"


def test_entries_before_the_first_message_of_a_queue_are_filler(harness):
    put_golden(harness)
    path = harness.root / "consumequeue" / "TopicTest" / "1" / "00000000000000000000"
    assert path.read_bytes()[:100].hex() == "00000000000000007fffffff0000000000000000" * 5
    assert harness.store.queue_bounds("TopicTest", 1).min_offset == 5


def test_record_crc_property_has_the_bytes_of_the_reference_vector(tmp_path):
    harness = Harness(tmp_path, append_record_crc=True)
    harness.open()
    record = put_golden_with_crc(harness)
    assert len(record) == 188
    assert record.endswith(b"__CRC32#\x010174824420\x02")
    assert record_crc(record[:-20]) == record[-20:]
    harness.close()


def put_golden_with_crc(harness: Harness) -> bytes:
    harness.store.set_store_host(pack_host("10.0.0.1", 10911))
    assert harness.store.append(NewMessage("Other", 0, bytes(4096 - 91 - 5 - 20))).end_offset == 4096
    harness.store.queue("TopicTest", 1).start_at(5)
    harness.clock.advance(123)
    harness.store.append(
        NewMessage(
            "TopicTest",
            1,
            b"Hello",
            GOLDEN_PROPERTIES + b"__CRC32#\x010000000000\x02",
            born_timestamp_ms=1_700_000_000_000,
            born_host=pack_host("127.0.0.1", 50000),
        )
    )
    return record_at(harness, 4096)


@pytest.mark.parametrize("born", ["10.1.2.3", "2001:db8::1"])
@pytest.mark.parametrize("stored", ["10.1.2.4", "2001:db8::2"])
def test_hosts_of_both_families_are_stored_and_flagged(harness, born, stored):
    harness.store.set_store_host(pack_host(stored, 10911))
    result = harness.put_ok(1, born_host=pack_host(born, 1234), sys_flag=sysflags.BORN_HOST_V6)
    message = decode_message(harness.store.message_at(result.physical_offset), check_crc=True)
    assert message.born_host == pack_host(born, 1234)
    assert message.store_host == pack_host(stored, 10911)
    assert bool(message.sys_flag & sysflags.BORN_HOST_V6) is (":" in born)
    assert isinstance(
        parse(harness.store.message_at(result.physical_offset), 0, result.physical_offset, check_crc=True), Scanned
    )


def test_a_topic_of_more_than_127_bytes_gets_the_second_magic(harness):
    result = harness.put_ok(1, topic="%RETRY%" + "g" * 200)
    record = harness.store.message_at(result.physical_offset)
    assert int.from_bytes(record[4:8], "big") == MAGIC_V2
    assert decode_message(record).topic == "%RETRY%" + "g" * 200


@pytest.mark.parametrize("topic", ["", "..", "a/b", "a\x00b", "x" * 256])
def test_a_topic_that_cannot_be_a_directory_is_illegal(harness, topic):
    assert harness.put(1, topic=topic).status is PutStatus.MESSAGE_ILLEGAL
    assert harness.put_batch(range(2), topic=topic).status is PutStatus.MESSAGE_ILLEGAL
    assert harness.store.positions.written == 0


def test_body_beyond_the_limit_is_illegal_and_takes_nothing(tmp_path):
    harness = Harness(tmp_path, message_size_max=100)
    harness.open()
    assert harness.put(1, size=101).status is PutStatus.MESSAGE_ILLEGAL
    assert harness.put_ok(2, size=100).queue_offset == 0
    harness.close()


def test_a_record_that_fits_no_segment_is_illegal(harness):
    assert harness.put(1, size=1 << 16).status is PutStatus.MESSAGE_ILLEGAL
    assert harness.put_ok(2).queue_offset == 0


def test_properties_up_to_their_length_field_are_stored(harness):
    assert harness.put(1, properties=b"p\x01" + b"v" * 32766).status is PutStatus.PROPERTIES_SIZE_EXCEEDED
    assert harness.put_ok(2, properties=b"p\x01" + b"v" * 32765).queue_offset == 0


def test_log_rolls_with_a_filler_and_keeps_every_message(harness):
    ends = [harness.put_ok(number, number % 3).end_offset for number in range(2000)]
    assert ends == sorted(ends)
    assert harness.store.statistics().segment_count > 4
    for queue_id in range(3):
        assert harness.numbers(queue_id=queue_id) == list(range(queue_id, 2000, 3))
    segment = (harness.root / "commitlog" / "00000000000000000000").read_bytes()
    filler = segment.index(bytes.fromhex("cbd43194")) - 4
    assert int.from_bytes(segment[filler : filler + 4], "big") == len(segment) - filler


@pytest.mark.parametrize("left", [8, 9, 15, 100])
def test_a_record_is_stored_when_exactly_a_filler_fits_behind_it(harness, left):
    overhead = len(bytes(harness.store.message_at(harness.put_ok(0, size=10).physical_offset))) - 10
    used = harness.store.positions.written
    first = harness.put_ok(1, size=(1 << 16) - used - left - overhead)
    assert first.end_offset == (1 << 16) - left
    assert harness.put_ok(2).physical_offset == 1 << 16
    assert harness.numbers() == [0, 1, 2]
    harness.close()
    assert harness.open().truncated_bytes == 0
    assert harness.numbers() == [0, 1, 2]


def test_a_record_goes_to_the_next_segment_when_no_filler_fits_behind_it(harness):
    overhead = len(bytes(harness.store.message_at(harness.put_ok(0, size=10).physical_offset))) - 10
    used = harness.store.positions.written
    assert harness.put_ok(1, size=(1 << 16) - used - 7 - overhead).physical_offset == 1 << 16


def test_batch_is_stored_with_consecutive_offsets(harness):
    harness.put_ok(0)
    result = harness.put_batch(range(1, 51))
    assert result.status is PutStatus.PUT_OK
    assert (result.queue_offset, len(result.physical_offsets)) == (1, 50)
    assert harness.put_ok(51).queue_offset == 51
    assert harness.numbers() == list(range(52))
    for offset, number in zip(result.physical_offsets, range(1, 51), strict=True):
        assert decode_message(harness.store.message_at(offset)).body.startswith(f"{number}:".encode())


@pytest.mark.parametrize("filled", range(64_000, 65_536, 97))
def test_batch_never_spans_segments(harness, filled):
    overhead = len(bytes(harness.store.message_at(harness.put_ok(0, size=10).physical_offset))) - 10
    used = harness.store.positions.written
    harness.put(1, size=max(10, filled - used - overhead))
    result = harness.put_batch(range(2, 8))
    assert result.status is PutStatus.PUT_OK
    assert len({offset // (1 << 16) for offset in (*result.physical_offsets, result.end_offset - 1)}) == 1
    assert harness.numbers() == list(range(8))


def test_batch_properties_are_added_to_each_message(harness):
    result = harness.put_batch(range(1))
    assert result.status is PutStatus.PUT_OK
    assert join_properties(b"a\x011\x02", b"b\x012\x02") == b"a\x011\x02b\x012\x02"
    # Clients up to 4.9 leave the last separator out.
    assert join_properties(b"a\x011", b"b\x012\x02") == b"a\x011\x02b\x012\x02"
    assert join_properties(b"", b"b\x012\x02") == b"b\x012\x02"


@settings(deadline=None)
@given(data=st.binary(max_size=200))
def test_malformed_batches_are_refused_whole(tmp_path_factory, data):
    harness = Harness(tmp_path_factory.mktemp("batch"))
    harness.open()
    result = harness.store.append_batch(NewMessage("T", 0, data))
    if result.status is not PutStatus.PUT_OK:
        assert result.status is PutStatus.MESSAGE_ILLEGAL
        assert harness.store.positions.written == 0
        assert harness.put_ok(1).queue_offset == 0
    harness.close()


def test_prepared_and_rolled_back_transactions_take_no_queue_offset(harness):
    prepared = harness.put_ok(1, sys_flag=sysflags.TRANSACTION_PREPARED)
    rolled_back = harness.put_ok(2, sys_flag=sysflags.TRANSACTION_ROLLBACK)
    committed = harness.put_ok(3, sys_flag=sysflags.TRANSACTION_COMMIT, prepared_offset=prepared.physical_offset)
    assert (prepared.queue_offset, rolled_back.queue_offset, committed.queue_offset) == (0, 0, 0)
    assert harness.numbers() == [3]
    assert decode_message(harness.store.message_at(prepared.physical_offset)).queue_offset == 0
    assert harness.find(1) == [1]
    assert harness.find(2) == []


def test_store_timestamp_never_goes_back(harness):
    harness.clock.advance(10_000)
    first = harness.put_ok(1)
    harness.clock._now_ms -= 5_000
    second = harness.put_ok(2)
    assert second.store_timestamp_ms == first.store_timestamp_ms
    harness.clock.advance(6_000)
    assert harness.put_ok(3).store_timestamp_ms == first.store_timestamp_ms + 1_000


def test_schedule_topic_entries_hold_the_delivery_time(harness):
    result = harness.put_ok(1, 2, "SCHEDULE_TOPIC_XXXX", properties=b"DELAY\x013\x02TAGS\x01TagA\x02")
    _, _, code = harness.store.queue("SCHEDULE_TOPIC_XXXX", 2).unit(0)
    assert code == result.store_timestamp_ms + 10_000
    harness.put_ok(2, 17, "SCHEDULE_TOPIC_XXXX", properties=b"DELAY\x0199\x02")
    assert harness.store.queue("SCHEDULE_TOPIC_XXXX", 17).unit(0)[2] == result.store_timestamp_ms + 7_200_000


def test_watcher_is_told_each_message_in_order_once_it_can_be_read(harness):
    seen = []

    def watch(queue, queue_offset, tags_code, store_timestamp_ms, physical_offset):
        got = harness.store.get_messages("T", 0, queue_offset, 1)
        assert got.status is GetStatus.FOUND
        seen.append((queue_offset, tags_code, physical_offset, next(decode_messages(got.buffers[0])).physical_offset))

    harness.store.queue("T", 0).watcher = watch
    harness.put_ok(0)
    harness.put_batch(range(1, 4))
    assert [s[0] for s in seen] == [0, 1, 2, 3]
    assert all(code == 2598919 and told == read for _, code, told, read in seen)


def test_appends_are_refused_with_the_reason_while_not_writeable(harness):
    harness.store.set_writeable(False, "this broker is a slave")
    result = harness.put(1)
    assert (result.status, result.reason) == (PutStatus.SERVICE_NOT_AVAILABLE, "this broker is a slave")
    assert harness.put_batch(range(2)).status is PutStatus.SERVICE_NOT_AVAILABLE
    harness.store.set_writeable(True)
    assert harness.put_ok(1).queue_offset == 0


def test_appends_to_a_store_that_is_not_open_are_refused(tmp_path):
    harness = Harness(tmp_path)
    assert harness.put(1).status is PutStatus.SERVICE_NOT_AVAILABLE
    harness.open()
    harness.close()
    assert harness.put(1).status is PutStatus.SERVICE_NOT_AVAILABLE


def test_properties_helper_builds_what_clients_send():
    assert properties(5).startswith(b"UNIQ_KEY\x017F0000010001")
