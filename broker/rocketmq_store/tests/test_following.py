"""Growing a log with another one's bytes: same bytes, same queues, whatever the pieces; nothing of what is damaged."""

from __future__ import annotations

import errno
import os
import queue
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketmq_common.files import Mapping, RealFiles
from rocketmq_store.appending import NewMessage
from rocketmq_store.following import FollowError
from rocketmq_store.settings import FlushDiskType, StoreSettings
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

SEGMENT_SIZE = 1 << 14


def open_store(root: Path, *, files: RealFiles | None = None, **changes: object) -> MessageStore:
    posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    values: dict[str, object] = {
        "commit_log_segment_size": SEGMENT_SIZE,
        "consume_queue_segment_size": 2000,
        "index_slot_count": 64,
        "index_entry_count": 256,
        "message_size_max": 4096,
        **changes,
    }
    store = MessageStore(
        StoreSettings(root=str(root), **values),  # type: ignore[arg-type]
        post=posted.put,
        fatal=lambda error: pytest.fail(f"fatal: {error!r}"),
        files=files,
    )
    store.open()
    return store


def put(store: MessageStore, number: int, size: int = 100, queue_id: int = 0, topic: str = "t") -> None:
    body = (f"message {number} ".encode() * (size // 8 + 1))[:size]
    properties = f"KEYS\x01k{number}\x02TAGS\x01Tag{number % 3}\x02".encode()
    assert store.append(NewMessage(topic, queue_id, body, properties)).status is PutStatus.PUT_OK


def log_bytes(store: MessageStore, start: int | None = None) -> bytes:
    position, parts = store.log_min_offset if start is None else start, []
    while position < store.positions.written:
        part = store.commit_log_slice(position, SEGMENT_SIZE)
        assert part is not None
        parts.append(bytes(part))
        position += len(part)
    return b"".join(parts)


def entries(store: MessageStore, topic: str = "t", queue_id: int = 0) -> list[tuple[int, int, int]]:
    bounds = store.queue_bounds(topic, queue_id)
    assert bounds is not None
    return [store.queue(topic, queue_id).unit(n) for n in range(bounds.min_offset, bounds.max_offset)]


@pytest.fixture
def master(tmp_path: Path) -> Iterator[MessageStore]:
    store = open_store(tmp_path / "master")
    yield store
    store.close()


@pytest.fixture
def slave(tmp_path: Path) -> Iterator[MessageStore]:
    store = open_store(tmp_path / "slave")
    yield store
    store.close()


def test_a_followed_log_has_the_same_bytes_queues_index_and_times(master: MessageStore, slave: MessageStore) -> None:
    for n in range(200):
        put(master, n, size=50 + 13 * n % 700, queue_id=n % 3)
    assert master.positions.written > 3 * SEGMENT_SIZE
    slave.follower.append(0, log_bytes(master))
    assert slave.positions.written == master.positions.written
    assert log_bytes(slave) == log_bytes(master)
    for queue_id in range(3):
        assert entries(slave, queue_id=queue_id) == entries(master, queue_id=queue_id)
        assert slave.queue("t", queue_id).next_offset == master.queue("t", queue_id).next_offset
    assert [bytes(r) for r in slave.query("t", "k77", 10).records] == [
        bytes(r) for r in master.query("t", "k77", 10).records
    ]
    assert slave.positions.store_timestamp_ms == master.positions.store_timestamp_ms
    assert slave.follower.record_count == 200


def test_a_followed_store_opens_again_and_takes_messages_itself(tmp_path: Path, master: MessageStore) -> None:
    for n in range(100):
        put(master, n, size=300)
    slave = open_store(tmp_path / "slave")
    slave.follower.append(0, log_bytes(master))
    slave.close()
    slave = open_store(tmp_path / "slave")
    put(master, 100)
    put(slave, 100)
    assert slave.queue_bounds("t", 0) == master.queue_bounds("t", 0)
    assert slave.positions.written == master.positions.written
    slave.close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    sizes=st.lists(st.integers(0, 1500), min_size=1, max_size=60),
    cuts=st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    is_sync=st.booleans(),
)
def test_any_pieces_give_the_same_log(sizes: list[int], cuts: list[int], is_sync: bool) -> None:
    flush = FlushDiskType.SYNC_FLUSH if is_sync else FlushDiskType.ASYNC_FLUSH
    with TemporaryDirectory() as directory:
        master = open_store(Path(directory) / "master")
        slave = open_store(Path(directory) / "slave", flush_disk_type=flush)
        try:
            for n, size in enumerate(sizes):
                put(master, n, size)
            data = log_bytes(master)
            position = turn = 0
            while position < len(data):
                piece = data[position : position + cuts[turn % len(cuts)]]
                end = slave.follower.append(position, piece)
                assert end <= position + len(piece)
                assert slave.follower.received == position + len(piece)
                position += len(piece)
                turn += 1
            assert log_bytes(slave) == data
            if not is_sync:
                assert entries(slave) == entries(master)
        finally:
            slave.close()
            master.close()


def test_the_log_ends_at_a_record_while_one_is_incomplete(master: MessageStore, slave: MessageStore) -> None:
    put(master, 0)
    first_end = master.positions.written
    put(master, 1)
    data = log_bytes(master)
    assert slave.follower.append(0, data[:-1]) == first_end
    assert slave.follower.received == len(data) - 1
    slave.follower.forget_partial()
    assert slave.follower.received == first_end
    assert slave.follower.append(first_end, data[first_end:]) == len(data)


@pytest.mark.parametrize("part", ["magic", "size", "place", "body", "topic size"])
def test_a_damaged_record_is_refused_and_what_came_before_is_kept(
    master: MessageStore, slave: MessageStore, part: str
) -> None:
    put(master, 0)
    start = master.positions.written
    put(master, 1, size=64)
    data = bytearray(log_bytes(master))
    position = {"magic": 4, "size": 0, "place": 35, "body": 95, "topic size": 88 + 64}[part]
    data[start + position] ^= 0x41
    with pytest.raises(FollowError, match=f"offset {start} is damaged"):
        slave.follower.append(0, bytes(data))
    assert slave.positions.written == start
    slave.follower.forget_partial()
    assert slave.follower.append(start, log_bytes(master)[start:]) == len(data)
    assert log_bytes(slave) == log_bytes(master)


def test_bytes_at_another_offset_are_refused(master: MessageStore, slave: MessageStore) -> None:
    put(master, 0)
    put(master, 1)
    data = log_bytes(master)
    slave.follower.append(0, data)
    for offset in (0, len(data) - 1, len(data) + 1):
        with pytest.raises(FollowError, match="do not continue this log"):
            slave.follower.append(offset, data)
    assert log_bytes(slave) == data


def test_a_master_with_other_segments_is_refused(tmp_path: Path, master: MessageStore) -> None:
    for n in range(40):
        put(master, n, size=700)
    slave = open_store(tmp_path / "slave", commit_log_segment_size=2 * SEGMENT_SIZE)
    with pytest.raises(FollowError, match="are left of the segment"):
        slave.follower.append(0, log_bytes(master))
    slave.close()


def test_an_empty_log_begins_where_the_other_one_does(tmp_path: Path, master: MessageStore) -> None:
    for n in range(120):
        put(master, n, size=500, queue_id=n % 2)
    start = 2 * SEGMENT_SIZE
    slave = open_store(tmp_path / "slave")
    slave.follower.begin_at(start)
    slave.follower.append(start, log_bytes(master, start))
    assert slave.log_min_offset == start
    assert log_bytes(slave) == log_bytes(master, start)
    kept = [entry for entry in entries(master) if entry[0] >= start]
    assert entries(slave) == kept
    bounds = slave.queue_bounds("t", 0)
    assert bounds is not None
    assert bounds.max_offset == 60
    assert bounds.min_offset == 60 - len(kept)
    slave.close()
    # And again from disk.
    slave = open_store(tmp_path / "slave")
    assert slave.log_min_offset == start
    assert entries(slave) == kept
    slave.close()


def test_a_log_that_holds_something_never_begins_anew(master: MessageStore, slave: MessageStore) -> None:
    put(master, 0)
    slave.follower.append(0, log_bytes(master))
    with pytest.raises(FollowError, match="cannot begin anew"):
        slave.follower.begin_at(SEGMENT_SIZE)


def test_a_beginning_within_a_segment_is_refused(slave: MessageStore) -> None:
    with pytest.raises(FollowError, match="no start of a segment"):
        slave.follower.begin_at(SEGMENT_SIZE + 8)


def test_a_topic_that_was_deleted_and_began_anew_is_followed(master: MessageStore, slave: MessageStore) -> None:
    for n in range(5):
        put(master, n)
    slave.follower.append(0, log_bytes(master))
    end = master.positions.written
    master.delete_topic("t")
    for n in range(3):
        put(master, 10 + n)
    slave.follower.append(end, log_bytes(master, end))
    assert entries(slave) == entries(master)
    assert slave.queue_bounds("t", 0) == master.queue_bounds("t", 0)


def test_a_topic_that_began_anew_within_one_piece_is_followed(master: MessageStore, slave: MessageStore) -> None:
    for n in range(5):
        put(master, n)
    master.delete_topic("t")
    for n in range(3):
        put(master, 10 + n)
    slave.follower.append(0, log_bytes(master))
    assert entries(slave) == entries(master)


def test_prepared_messages_stand_in_the_log_only(master: MessageStore, slave: MessageStore) -> None:
    master.append(NewMessage("t", 0, b"half", b"", sys_flag=0x4))
    put(master, 1)
    slave.follower.append(0, log_bytes(master))
    assert len(entries(slave)) == 1
    assert entries(slave) == entries(master)


@pytest.mark.parametrize("host", [b"\x7f\x00\x00\x01\x00\x00\x00\x01", bytes(16) + b"\x00\x00\x00\x01"])
def test_records_of_both_host_forms_and_long_topics_are_followed(
    master: MessageStore, slave: MessageStore, host: bytes
) -> None:
    for topic in ("t", "long" * 40):
        result = master.append(NewMessage(topic, 0, b"body", b"TAGS\x01a\x02", born_host=host))
        assert result.status is PutStatus.PUT_OK
    slave.follower.append(0, log_bytes(master))
    assert log_bytes(slave) == log_bytes(master)
    for topic in ("t", "long" * 40):
        assert entries(slave, topic) == entries(master, topic)


def test_a_record_whose_topic_is_no_text_stands_in_the_log_only(master: MessageStore, slave: MessageStore) -> None:
    put(master, 0, topic="ab")
    data = log_bytes(master).replace(b"\x02ab", b"\x02\xff\xfe")
    assert slave.follower.append(0, data) == len(data)
    assert slave.topics() == set()
    put(master, 1, topic="cd")
    slave.follower.append(len(data), log_bytes(master, len(data)))
    assert entries(slave, "cd") == entries(master, "cd")
    assert slave.positions.dispatched == slave.positions.written


def test_watchers_wake_for_followed_messages(master: MessageStore, slave: MessageStore) -> None:
    seen: list[int] = []
    slave.queue("t", 0).watcher = lambda queue, offset, *rest: seen.append(offset)
    for n in range(3):
        put(master, n)
    slave.follower.append(0, log_bytes(master))
    assert seen == [0, 1, 2]


class FullDisk(RealFiles):
    """Refuses new files while `is_full`."""

    __slots__ = ("is_full",)

    def __init__(self) -> None:
        self.is_full = False

    def map_file(self, path: Path, size: int, *, create: bool, **options: Any) -> Mapping:
        if create and self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return super().map_file(path, size, create=create, **options)


def test_a_full_disk_changes_nothing_and_following_goes_on_when_there_is_room(
    tmp_path: Path, master: MessageStore
) -> None:
    for n in range(90):
        put(master, n, size=500, queue_id=n % 2)
    data = log_bytes(master)
    files = FullDisk()
    slave = open_store(tmp_path / "slave", files=files)
    slave.follower.append(0, data[:1000])
    files.is_full = True
    with pytest.raises(OSError, match="No space left"):
        slave.follower.append(slave.follower.received, data[slave.follower.received :])
    slave.follower.forget_partial()
    files.is_full = False
    written = slave.positions.written
    assert 0 < written < len(data)

    def followed() -> bool:
        try:
            slave.follower.append(slave.positions.written, data[slave.positions.written :])
        except OSError:
            slave.follower.forget_partial()
            return False
        return True

    for _ in range(200_000):
        if followed():
            break
    assert log_bytes(slave) == data
    for queue_id in range(2):
        assert entries(slave, queue_id=queue_id) == entries(master, queue_id=queue_id)
    slave.close()


def test_random_bytes_never_get_into_the_log(slave: MessageStore) -> None:
    for seed in range(200):
        data = os.urandom(64) if seed % 2 else struct.pack(">iI", 100, 0xDAA320A7) + os.urandom(100)
        with pytest.raises(FollowError):
            slave.follower.append(0, data)
        slave.follower.forget_partial()
    assert slave.positions.written == 0
