"""What a consumer gets and is told: statuses, next offsets, limits, filters, slices."""

from __future__ import annotations

import pytest

from rocketmq_common.hashing import java_hash
from rocketmq_common.records import decode_message, decode_messages
from rocketmq_store.searching import Boundary
from rocketmq_store.statuses import GetStatus
from rocketmq_store.tests.harness import Harness, properties


@pytest.fixture
def harness(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    yield harness
    harness.close()


def fill(harness: Harness, count: int, **fields) -> None:
    for number in range(count):
        harness.put_ok(number, **fields)


def status_and_next(harness: Harness, offset: int, topic: str = "T"):
    got = harness.store.get_messages(topic, 0, offset, 32)
    return got.status, got.next_offset


def test_each_place_of_the_offset_has_its_status_and_next_offset(harness):
    assert status_and_next(harness, 0) == (GetStatus.NO_MATCHED_LOGIC_QUEUE, 0)
    assert status_and_next(harness, 7) == (GetStatus.NO_MATCHED_LOGIC_QUEUE, 0)
    harness.store.queue("T", 0)
    assert status_and_next(harness, 0) == (GetStatus.NO_MESSAGE_IN_QUEUE, 0)
    assert status_and_next(harness, 7) == (GetStatus.NO_MESSAGE_IN_QUEUE, 0)
    fill(harness, 10)
    assert status_and_next(harness, 0) == (GetStatus.FOUND, 10)
    assert status_and_next(harness, 9) == (GetStatus.FOUND, 10)
    assert status_and_next(harness, 10) == (GetStatus.OFFSET_OVERFLOW_ONE, 10)
    assert status_and_next(harness, 11) == (GetStatus.OFFSET_OVERFLOW_BADLY, 10)
    harness.store.queue("T", 0).min_offset = 4
    assert status_and_next(harness, 3) == (GetStatus.OFFSET_TOO_SMALL, 4)
    assert status_and_next(harness, -1) == (GetStatus.OFFSET_TOO_SMALL, 4)
    assert status_and_next(harness, 4) == (GetStatus.FOUND, 10)


def test_result_carries_the_bounds_of_the_queue(harness):
    fill(harness, 10)
    got = harness.store.get_messages("T", 0, 3, 2)
    assert (got.min_offset, got.max_offset, got.message_count, got.next_offset) == (0, 10, 2, 5)


def test_count_and_bytes_limit_but_the_first_message_always_comes(harness):
    fill(harness, 50, size=1000)
    assert harness.store.get_messages("T", 0, 0, 7).message_count == 7
    size = harness.store.get_messages("T", 0, 0, 1).size_bytes
    assert harness.store.get_messages("T", 0, 0, 32, bytes_max=3 * size).message_count == 3
    assert harness.store.get_messages("T", 0, 0, 32, bytes_max=3 * size - 1).message_count == 2
    assert harness.store.get_messages("T", 0, 0, 32, bytes_max=1).message_count == 1


def test_transfer_limits_for_data_in_memory_are_apaches(harness):
    fill(harness, 90)
    assert harness.store.get_messages("T", 0, 0, 100).message_count == 32
    fill(harness, 40, topic="Big", size=20_000)
    got = harness.store.get_messages("Big", 0, 0, 32)
    assert got.message_count == 13
    assert got.size_bytes <= 262_144


def test_transfer_limits_for_data_on_disk_are_apaches(tmp_path):
    harness = Harness(tmp_path / "store", in_memory_percent_max=0)
    harness.open()
    fill(harness, 50)
    got = harness.store.get_messages("T", 0, 0, 32)
    assert (got.message_count, got.is_cold) == (8, True)
    harness.close()


def test_neighbours_in_the_log_are_one_slice(harness):
    fill(harness, 20)
    got = harness.store.get_messages("T", 0, 0, 20)
    assert len(got.buffers) == 1
    assert [m.queue_offset for m in decode_messages(got.buffers[0])] == list(range(20))
    harness.put_ok(20, topic="Other")
    fill(harness, 5)
    got = harness.store.get_messages("T", 0, 0, 32)
    assert len(got.buffers) == 2
    assert got.message_count == 25


def test_slices_stop_at_segments(harness):
    fill(harness, 200, size=2000)
    bounds = harness.store.queue_bounds("T", 0)
    offset = 0
    while offset < bounds.max_offset:
        got = harness.store.get_messages("T", 0, offset, 32)
        for buffer in got.buffers:
            places = [m.physical_offset for m in decode_messages(buffer)]
            assert len({place // (1 << 16) for place in places}) == 1
        offset = got.next_offset


def test_tags_are_filtered_on_the_queue_entry(harness):
    for number in range(60):
        harness.put_ok(number, properties=properties(number, "TagA" if number % 3 else "TagB"))
    got = harness.store.get_messages("T", 0, 0, 32, tags_codes={java_hash("TagB")})
    assert [int(m.body.split(b":")[0]) for b in got.buffers for m in decode_messages(b)] == list(range(0, 60, 3))
    assert got.next_offset == 60
    none = harness.store.get_messages("T", 0, 0, 32, tags_codes={java_hash("TagC")})
    assert (none.status, none.next_offset) == (GetStatus.NO_MATCHED_MESSAGE, 60)


def test_negative_tags_codes_are_sign_extended(harness):
    assert java_hash("TopicTest") < 0
    harness.put_ok(1, properties=properties(1, "TopicTest"))
    assert harness.store.get_messages("T", 0, 0, 32, tags_codes={java_hash("TopicTest")}).message_count == 1


def test_scan_of_a_filtered_read_is_bounded(tmp_path):
    harness = Harness(tmp_path / "store", consume_queue_segment_size=400_000)
    harness.open()
    for first in range(0, 1500, 50):
        harness.put_batch(range(first, first + 50))
    got = harness.store.get_messages("T", 0, 0, 32, tags_codes={1})
    assert (got.status, got.next_offset) == (GetStatus.NO_MATCHED_MESSAGE, 800)
    harness.close()


def test_a_read_ends_with_its_queue_segment(harness):
    fill(harness, 150)
    assert harness.store.get_messages("T", 0, 90, 32).next_offset == 100


def test_accept_sees_code_and_whole_record(harness):
    fill(harness, 10)
    seen = []

    def accept(code: int, record: memoryview) -> bool:
        seen.append((code, decode_message(record, check_crc=True).queue_offset))
        return seen[-1][1] % 2 == 0

    got = harness.store.get_messages("T", 0, 0, 32, accept=accept)
    assert [m.queue_offset for b in got.buffers for m in decode_messages(b)] == [0, 2, 4, 6, 8]
    assert seen == [(java_hash("TagA"), offset) for offset in range(10)]


def test_entries_without_their_record_are_skipped_to_the_next_segment(harness):
    fill(harness, 200, size=2000)
    harness.flush()
    harness.store._log.remove_first()
    got = harness.store.get_messages("T", 0, 0, 4)
    first_left = next(o for o in range(200) if harness.store.queue("T", 0).unit(o)[0] >= 1 << 16)
    assert (got.status, got.next_offset) == (GetStatus.FOUND, first_left + 4)
    assert next(decode_messages(got.buffers[0])).physical_offset == 1 << 16


def test_read_of_removed_messages_only_says_so(harness):
    fill(harness, 400, size=2000)
    harness.flush()
    for _ in range(10):
        harness.store._log.remove_first()
    got = harness.store.get_messages("T", 0, 0, 4)
    assert (got.status, got.next_offset) == (GetStatus.MESSAGE_WAS_REMOVING, 100)


def test_missing_queue_segment_is_found_null_and_leads_to_the_next(harness):
    fill(harness, 250)
    queue = harness.store.queue("T", 0)
    queue.unmap_all()
    (harness.root / "consumequeue/T/0/00000000000000002000").unlink()
    assert status_and_next(harness, 120) == (GetStatus.OFFSET_FOUND_NULL, 200)
    harness.store.delete_topic("T")


def test_slices_outlive_their_file(harness):
    fill(harness, 100, size=2000)
    harness.flush()
    got = harness.store.get_messages("T", 0, 0, 5)
    harness.store._log.remove_first()
    harness.wait(lambda: not (harness.root / "commitlog" / "00000000000000000000").exists())
    assert [m.queue_offset for b in got.buffers for m in decode_messages(b)] == [0, 1, 2, 3, 4]


def test_slices_outlive_the_store(tmp_path):
    harness = Harness(tmp_path / "store")
    harness.open()
    fill(harness, 3)
    got = harness.store.get_messages("T", 0, 0, 5)
    harness.close()
    assert [m.queue_offset for m in decode_messages(got.buffers[0])] == [0, 1, 2]


@pytest.mark.parametrize("offset", [-1, 1, 50, 10**12, (1 << 63) - 1])
def test_message_at_a_place_where_none_begins_is_none(harness, offset):
    fill(harness, 10)
    assert harness.store.message_at(offset) is None


def test_log_slices_stop_at_the_end_and_at_segments(harness):
    fill(harness, 100, size=2000)
    written = harness.store.positions.written
    assert bytes(harness.store.commit_log_slice(0, 1 << 30)).startswith(bytes(harness.store.message_at(0)))
    assert len(harness.store.commit_log_slice(0, 1 << 30)) == 1 << 16
    assert len(harness.store.commit_log_slice(written - 10, 100)) == 10
    assert harness.store.commit_log_slice(written, 1) is None


def test_query_finds_keys_and_unique_keys_oldest_first(harness):
    for number in range(30):
        harness.put_ok(number, number % 2, properties=properties(number, keys=f"k{number} shared"))
    found = harness.store.query("T", "shared", 64)
    assert [int(decode_message(r).body.split(b":")[0]) for r in found.records] == list(range(30))
    assert harness.find(3) == [3]
    assert [decode_message(r).queue_offset for r in harness.store.query("T", "k4", 10).records] == [2]
    assert harness.store.query("Other", "k4", 10).records == []
    assert harness.store.query("T", "k", 10).records == []
    assert found.index_last_update_physical_offset == decode_message(found.records[-1]).physical_offset


def test_query_takes_the_youngest_when_there_are_too_many(harness):
    for number in range(100):
        harness.put_ok(number, properties=properties(number, keys="shared"))
    found = harness.store.query("T", "shared", 5)
    assert [decode_message(r).queue_offset for r in found.records] == [95, 96, 97, 98, 99]
    assert len(harness.store.query("T", "shared", 1000).records) == 64


def test_query_is_bounded_by_store_time(harness):
    times = []
    for number in range(20):
        times.append(harness.put_ok(number, properties=properties(number, keys="shared")).store_timestamp_ms)
        harness.clock.advance(700)
    found = harness.store.query("T", "shared", 64, times[5], times[9])
    assert [decode_message(r).queue_offset for r in found.records] == [5, 6, 7, 8, 9]


def test_keys_that_share_a_hash_are_told_apart(harness):
    assert java_hash("Aa") == java_hash("BB")
    harness.put_ok(1, properties=properties(1, keys="Aa"))
    harness.put_ok(2, properties=properties(2, keys="BB"))
    assert [decode_message(r).queue_offset for r in harness.store.query("T", "Aa", 10).records] == [0]
    assert [decode_message(r).queue_offset for r in harness.store.query("T", "BB", 10).records] == [1]


def test_messages_without_keys_need_no_index(tmp_path):
    harness = Harness(tmp_path / "store", index_enable=False)
    harness.open()
    fill(harness, 100)
    assert harness.store.query("T", "k1", 10).records == []
    assert list((tmp_path / "store" / "index").iterdir()) == []
    assert harness.store.statistics().index_pending_count <= 1
    harness.close()


def test_offset_by_time_has_javas_two_boundaries(harness: Harness) -> None:
    times = []
    for number in range(12):
        times.append(harness.put_ok(number).store_timestamp_ms)
        if number % 3 == 2:
            harness.clock.advance(100)

    def lower(time_ms: int) -> int:
        return harness.store.offset_by_time("T", 0, time_ms, Boundary.LOWER)

    def upper(time_ms: int) -> int:
        return harness.store.offset_by_time("T", 0, time_ms, Boundary.UPPER)

    assert lower(times[3]) == 3
    assert upper(times[3]) == 5
    assert lower(times[3] + 1) == 6
    assert upper(times[3] + 1) == 5
    assert lower(times[0] - 1) == 0
    assert upper(times[0] - 1) == 0
    assert lower(times[11] + 1) == 12
    assert upper(times[11] + 1) == 11
    assert harness.store.offset_by_time("Unknown", 0, times[3]) == 0


def test_offset_by_time_stays_within_the_queue(harness):
    fill(harness, 10)
    harness.store.queue("T", 0).min_offset = 4
    assert harness.store.offset_by_time("T", 0, 0, Boundary.LOWER) == 4
    assert harness.store.offset_by_time("T", 0, 0, Boundary.UPPER) == 4


def test_store_times(harness):
    first = harness.put_ok(0).store_timestamp_ms
    harness.clock.advance(50)
    harness.put_ok(1)
    assert harness.store.store_time("T", 0, 0) == first
    assert harness.store.store_time("T", 0, 1) == first + 50
    assert harness.store.store_time("T", 0, 2) == -1
    assert harness.store.store_time("Unknown", 0, 0) == -1
    assert harness.store.earliest_store_time() == first
    assert harness.store.earliest_store_time("T", 0) == first
    assert harness.store.earliest_store_time("Unknown", 0) == -1


def test_statistics_count_reads_and_writes(harness):
    fill(harness, 10)
    harness.store.get_messages("T", 0, 0, 4)
    harness.store.get_messages("T", 0, 10, 4)
    statistics = harness.store.statistics()
    assert (statistics.put_message_count, statistics.get_message_count) == (10, 4)
    assert (statistics.get_found_count, statistics.get_missed_count) == (1, 1)
    assert statistics.is_writeable
