"""Reads of what has left memory: told instead of waited for, fetched, and then answered as ever."""

from __future__ import annotations

import os

import pytest

from rocketmq_common.files import RealFiles
from rocketmq_store.residency import READ_AHEAD_BYTES, Absent
from rocketmq_store.statuses import GetStatus
from rocketmq_store.tests.harness import Harness, unique_key
from rocketmq_testkit.cold_files import ColdFiles

COUNT = 200


@pytest.fixture
def cold(tmp_path):
    """A store that was just opened, with nothing of it in memory."""
    files = ColdFiles()
    harness = Harness(tmp_path / "store", files=files)
    harness.open()
    for number in range(COUNT):
        harness.put_ok(number, number % 2, size=1000)
    harness.close()
    harness.open()
    files.evict()
    yield harness
    files.is_disk_ready.set()
    harness.close()


def read_through(harness: Harness, read):
    """What ``read`` gives once everything that it asks for was fetched, and how often it had to be."""
    for attempt in range(500):
        try:
            return harness.store.residency.from_memory(read), attempt
        except Absent as absent:
            told: list[OSError | None] = []
            harness.store.cold_reader.read(absent, told.append)
            harness.wait(lambda: told == [None])  # noqa: B023 - waited for at once
    raise AssertionError("what was fetched is asked for again and again")


def test_a_pull_of_cold_messages_is_told_and_complete_once_they_were_fetched(cold):
    offset, found, fetches = 0, 0, 0
    while offset < COUNT // 2:
        got, attempts = read_through(cold, lambda: cold.store.get_messages("T", 0, offset, 32))  # noqa: B023
        assert got.status is GetStatus.FOUND
        offset, found, fetches = got.next_offset, found + got.message_count, fetches + attempts
    assert found == COUNT // 2
    assert 0 < fetches < 20
    assert cold.store.statistics().cold_read_count == fetches
    assert cold.store.statistics().cold_read_bytes > COUNT * 500


def test_without_the_wish_not_to_wait_cold_messages_are_read_as_ever(cold):
    assert len(cold.numbers()) == COUNT // 2
    assert cold.store.statistics().cold_read_count == 0


def test_what_a_filter_leaves_out_is_not_fetched_and_what_it_took_is_answered_first(cold):
    seen: list[int] = []

    def accept(code: int, record: memoryview) -> bool:
        seen.append(len(record))
        return True

    with pytest.raises(Absent):
        cold.store.residency.from_memory(lambda: cold.store.get_messages("T", 0, 0, 32, accept=accept))
    assert not seen
    assert read_through(cold, lambda: cold.store.get_messages("T", 0, 0, 32, tags_codes=frozenset({7})))[0].status is (
        GetStatus.NO_MATCHED_MESSAGE
    )


def test_queries_by_key_place_and_time_fetch_what_they_touch(cold):
    query, fetches = read_through(cold, lambda: cold.store.query("T", unique_key(7), 32))
    assert fetches >= 3  # slot, entry, record
    assert [bytes(record) for record in query.records] == [
        bytes(record) for record in cold.store.query("T", unique_key(7), 32).records
    ]
    cold.files.evict()
    cold.store.residency.forget()
    stored = cold.store.store_time("T", 0, 50)
    assert read_through(cold, lambda: cold.store.offset_by_time("T", 0, stored)) >= (0, 1)
    cold.files.evict()
    cold.store.residency.forget()
    place = cold.store.log_min_offset
    record, fetches = read_through(cold, lambda: cold.store.message_at(place))
    assert record is not None
    assert fetches >= 1


def test_what_this_process_just_wrote_is_read_without_asking(cold):
    cold.put_ok(COUNT, 0)
    got = cold.store.residency.from_memory(lambda: cold.store.get_messages("T", 0, COUNT // 2, 32))
    assert got.message_count == 1


def test_a_disk_that_fails_is_told_and_too_many_waits_are_refused(cold, monkeypatch):
    with pytest.raises(Absent) as caught:
        cold.store.residency.from_memory(lambda: cold.store.get_messages("T", 0, 0, 32))
    cold.files.is_failing = True
    told: list[OSError | None] = []
    assert cold.store.cold_reader.read(caught.value, told.append)
    cold.wait(lambda: bool(told))
    assert isinstance(told[0], OSError)
    monkeypatch.setattr("rocketmq_store.residency.WAITING_COUNT_MAX", 0)
    assert not cold.store.cold_reader.read(caught.value, told.append)


def test_the_kernel_is_asked_what_is_in_memory_and_brings_it(tmp_path):
    path, size = tmp_path / "file", 4 * READ_AHEAD_BYTES
    path.write_bytes(os.urandom(size))
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    mapping = RealFiles().map_file(path, size, create=False)
    try:
        if mapping.absent_from(0, size) == size:
            pytest.skip("this file system keeps its files in memory")
        mapping.load(1000, READ_AHEAD_BYTES)
        assert mapping.absent_from(1000, READ_AHEAD_BYTES) == READ_AHEAD_BYTES
        assert mapping.absent_from(size - 10, size) == size - 10
        mapping.load(0, size)
        assert mapping.absent_from(5, size) == size
    finally:
        mapping.close()
    with pytest.raises(OSError, match="descriptor"):
        mapping.load(0, 10)
