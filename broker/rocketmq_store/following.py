"""Growing the log with the bytes of another one: how a slave stores what its master sends.

The bytes come in any pieces; records are taken only whole and only after everything about them was checked: place, sizes,
checksum, and that they fit a segment of this store. So the log always ends at a record, what is acknowledged was verified, and
a piece that was damaged on its way changes nothing. Queues and index follow from the records as they do for a broker's own
messages.
"""

from __future__ import annotations

import struct
from typing import Final
from zlib import crc32

from rocketmq_common.light_queues import LIGHT_QUEUE_ID, light_places
from rocketmq_common.records import BLANK_SIZE, CRC_MASK, HEAD_V4, HOST_FLAGS, MAGIC_BLANK, MAGIC_V1, MAGIC_V2
from rocketmq_store.commit_log import RECORD_SIZE_MIN, CommitLog
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.dispatch import Dispatcher, PendingDispatch
from rocketmq_store.light_queues import DISPATCH
from rocketmq_store.positions import Positions
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.recovery import FILL_COUNT_MAX
from rocketmq_store.scanning import Scanned, parse
from rocketmq_store.settings import StoreSettings
from rocketmq_store.tags import deliver_time_code, entry_code

_PREFIX: Final = struct.Struct(">iI")
_HEAD_UNPACK: Final = HEAD_V4.unpack_from
# Read in place of the head of a record that is too short for one.
_NO_HEAD: Final = (0,) * 15

# Physical offset, size, queue id, queue offset, sys flag, store timestamp ms, topic, properties.
_Record = tuple[int, int, int, int, int, int, str, bytes]


class FollowError(Exception):
    """Bytes that do not continue this log: another offset, or damaged. Nothing of the bad part was stored."""


class LogFollower:
    """Appends the records of another log. Used by the writer thread only, and only while the broker takes no messages itself."""

    def __init__(
        self, log: CommitLog, queues: QueueTable, positions: Positions, dispatcher: Dispatcher, settings: StoreSettings
    ) -> None:
        self._log = log
        self._queues = queues
        self._positions = positions
        self._dispatcher = dispatcher
        self._delay_levels_ms = settings.delay_level_ms()
        self._has_lights = settings.has_light_queues
        # The beginning of a record whose rest has not come yet, and how many bytes are needed to go on.
        self._partial = bytearray()
        self._needed = 0
        self.record_count = 0

    @property
    def received(self) -> int:
        """Log offset of the next byte that is wanted."""
        return self._positions.written + len(self._partial)

    @property
    def is_empty(self) -> bool:
        """The log holds nothing, so that it can begin anywhere."""
        return self._log.min_offset == self._positions.written and not self._partial

    def begin_at(self, offset: int) -> None:
        """Let an empty log begin at ``offset``, the start of one of the other log's segments. Raises FollowError."""
        if offset == self._positions.written:
            return
        if not self.is_empty:
            raise FollowError(f"the log ends at {self._positions.written} and cannot begin anew at {offset}")
        if offset % self._log.segment_size:
            raise FollowError(
                f"offset {offset} is no start of a segment of {self._log.segment_size} bytes: "
                "mappedFileSizeCommitLog must be the same on master and slave"
            )
        self._log.restart_at(offset)
        self._positions.start_at(offset, self._positions.store_timestamp_ms)

    def forget_partial(self) -> None:
        """The stream broke off: the rest of a record that had begun will be sent again, from its start."""
        self._partial = bytearray()
        self._needed = 0

    def append(self, offset: int, data: bytes | memoryview) -> int:
        """Store the records that ``data``, the other log's bytes from ``offset`` on, completes; return where the log ends now.

        Raises FollowError when ``offset`` is not `received` or a record is damaged (what came before it is stored), OSError when
        the disk has no room. In both cases go on with `forget_partial`.
        """
        if offset != self.received:
            raise FollowError(f"bytes at offset {offset} do not continue this log, which ends at {self.received}")
        view = memoryview(data)
        if self._partial:
            self._partial += view
            if len(self._partial) < self._needed:
                return self._positions.written
            view = memoryview(self._partial)
            self._partial = bytearray()
        segment_size = self._log.segment_size
        while len(view):
            left = segment_size - self._positions.written % segment_size
            taken = self._take(view[:left], left)
            view = view[taken:]
            if taken < left:
                break
        self._partial = bytearray(view)
        return self._positions.written

    def _take(self, view: memoryview, left: int) -> int:
        """Store the whole records at the start of ``view``, which ends with the segment at latest; return their size."""
        base = self._positions.written
        position, end = 0, len(view)
        records: list[_Record] = []
        problem = ""
        self._needed = BLANK_SIZE
        while end - position >= BLANK_SIZE:
            size, magic = _PREFIX.unpack_from(view, position)
            if magic == MAGIC_BLANK:
                is_possible = size == left - position
            else:
                is_possible = magic in (MAGIC_V1, MAGIC_V2) and RECORD_SIZE_MIN <= size <= left - position - BLANK_SIZE
            if not is_possible:
                problem = f"{size} bytes with magic {magic:#010x}, {left - position} are left of the segment"
                break
            if size > end - position:
                self._needed = size
                break
            if magic != MAGIC_BLANK:
                record = _verified(view, position, size, base)
                if record is None:
                    problem = "its place, sizes or checksum do not agree"
                    break
                records.append(record)
            position += size
        if position:
            notes = self._store(view[:position], records)
            self._dispatcher.pending.extend(notes)
            self._dispatcher.advance()
        if problem:
            raise FollowError(f"the record at offset {base + position} is damaged: {problem}")
        return position

    def _store(self, view: memoryview, records: list[_Record]) -> list[PendingDispatch]:
        """Reserve queue entries, then write; all or nothing if the disk is full. Returns what the dispatcher needs."""
        notes: list[PendingDispatch] = []
        taken: list[tuple[ConsumeQueue, int]] = []
        newest = self._positions.store_timestamp_ms
        by_key = self._queues.by_key
        try:
            for physical, size, queue_id, queue_offset, sys_flag, timestamp, topic, properties in records:
                if timestamp > newest:
                    newest = timestamp
                queue = by_key.get((topic, queue_id)) or self._queue_of(topic, queue_id)
                if queue is None:
                    continue
                transaction = sys_flag & 0xC
                if transaction in (0, 8):
                    notes = self._take_place(queue, queue_offset, notes, taken)
                    if queue.is_schedule:
                        code = deliver_time_code(properties, timestamp, self._delay_levels_ms)
                    else:
                        code = entry_code(properties)
                    notes.append((queue, queue_offset, physical, size, code, timestamp, properties, transaction))
                    if not self._has_lights or DISPATCH not in properties:
                        continue
                    for name, offset in light_places(topic, properties.decode(errors="replace")).items():
                        light = self._queue_of(name, LIGHT_QUEUE_ID)
                        if light is not None:
                            notes = self._take_place(light, offset, notes, taken)
                            notes.append((light, offset, physical, size, code, timestamp, b"", 0))
                else:
                    notes.append((queue, -1, physical, size, 0, timestamp, properties, transaction))
            self._log.append_raw(view)
        except OSError:
            for queue, next_offset in reversed(taken):
                queue.next_offset = next_offset
            raise
        self._positions.store_timestamp_ms = newest
        self.record_count += len(records)
        return notes

    def _take_place(
        self, queue: ConsumeQueue, offset: int, notes: list[PendingDispatch], taken: list[tuple[ConsumeQueue, int]]
    ) -> list[PendingDispatch]:
        """Have room for entry ``offset``; returns what `_jump` leaves of ``notes``. Raises OSError."""
        if offset != queue.next_offset:
            notes = self._jump(queue, offset, notes)
        if offset >= queue.reserved_end:
            queue.reserve()
        taken.append((queue, offset))
        queue.next_offset = offset + 1
        return notes

    def _queue_of(self, topic: str, queue_id: int) -> ConsumeQueue | None:
        """``None`` for a record that names no usable queue: it stands in the log only, as after a recovery."""
        if queue_id < 0 or not self._queues.is_storable(topic):
            return None
        return self._queues.create(topic, queue_id)

    def _jump(self, queue: ConsumeQueue, offset: int, notes: list[PendingDispatch]) -> list[PendingDispatch]:
        """The other log's queue goes on elsewhere than ours: make ours agree, for the log is the truth.

        Returns ``notes``, those of this very run, without what must no longer be dispatched.
        """
        if not queue.segment_firsts and queue.next_offset == 0:
            queue.start_at(offset)
            queue.min_offset = offset
            return notes
        gap = offset - queue.next_offset
        if 0 < gap <= FILL_COUNT_MAX:
            for missing in range(queue.next_offset, offset):
                queue.put(missing, 0, 0x7FFFFFFF, 0)
            queue.next_offset = offset
            return notes
        # The topic was deleted over there and began anew: older entries are of messages nobody can address any more.
        self._dispatcher.forget_queue(queue)
        if queue.segment_firsts and queue.segment_firsts[0] < offset < queue.end:
            queue.cut(offset)
        else:
            queue.restart(offset)
        return [note if note[0] is not queue else (queue, -1, *note[2:6], b"", note[7]) for note in notes]


def _verified(view: memoryview, position: int, size: int, base: int) -> _Record | None:
    """The record of ``size`` bytes at ``position`` of a view that starts at log offset ``base``, ``None`` when it is damaged.

    Records with IPv4 hosts and a short topic, which nearly all are, are read in one unpack; others as recovery reads them.
    """
    (_, magic, body_crc, queue_id, _, queue_offset, physical, sys_flag, _, _, timestamp, _, _, _, body_size) = (
        _HEAD_UNPACK(view, position) if size > HEAD_V4.size else _NO_HEAD
    )
    if magic != MAGIC_V1 or sys_flag & HOST_FLAGS:
        found = parse(view[: position + size], position, base, check_crc=True)
        if not isinstance(found, Scanned):
            return None
        return (
            found.physical_offset,
            found.size,
            found.queue_id,
            found.queue_offset,
            found.sys_flag,
            found.store_timestamp_ms,
            _text(found.topic),
            found.properties,
        )
    end = position + size
    body_start = position + HEAD_V4.size
    body_end = body_start + body_size
    if physical != base + position or body_size < 0 or body_end + 3 > end:
        return None
    topic_end = body_end + 1 + view[body_end]
    if topic_end + 2 > end or topic_end + 2 + (view[topic_end] << 8 | view[topic_end + 1]) != end:
        return None
    if body_size and crc32(view[body_start:body_end]) & CRC_MASK != body_crc:
        return None
    topic = _text(view[body_end + 1 : topic_end])
    return physical, size, queue_id, queue_offset, sys_flag, timestamp, topic, bytes(view[topic_end + 2 : end])


def _text(topic: bytes | memoryview) -> str:
    """Empty for what is no text: no queue can have such a topic."""
    try:
        return str(topic, "utf-8")
    except UnicodeDecodeError:
        return ""
