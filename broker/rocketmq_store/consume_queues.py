"""Consume queues: for each (topic, queue id) the places of its messages in the commit log, one 20-byte entry each.

Entry (apache/rocketmq ConsumeQueue, big-endian): commit log offset i64, record size i32, tags code i64. Entry n of a queue
stands at byte 20 n of the sequence of its segment files, so a queue offset is found without searching. An all-zero entry ends
the data; an entry (0, 2147483647, 0) is filler before the first message of a queue whose older messages are gone.

Files are as long as Apache's but get blocks only as they fill, and only a bounded number of them is mapped at once: a broker
may have tens of thousands of queues, of which few are busy.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path

from rocketmq_common.files import FileSystem, Mapping
from rocketmq_common.hashing import java_hash_from
from rocketmq_common.names import is_light_queue
from rocketmq_common.records import TOPIC_V1_SIZE_MAX
from rocketmq_store.residency import Residency
from rocketmq_store.rows import pack_rows
from rocketmq_store.segments import NAME_DIGITS, list_segments, segment_name

UNIT = struct.Struct(">qiq")
UNIT_SIZE = UNIT.size
BLANK_UNIT = UNIT.pack(0, 0x7FFFFFFF, 0)
# Blocks are given to a queue file in steps of this size (3276 entries).
ALLOCATION_STEP = 65_536
# Of the newest entries of a queue that this process wrote, taken for present in memory.
HOT_COUNT = 8192
# Behind every log.
UNWRITTEN = 1 << 62


def encode_units(physical_offsets: Sequence[int], sizes: Sequence[int], tags_codes: Sequence[int]) -> bytes:
    """Consecutive entries of a queue, back to back."""
    return pack_rows("qiq", physical_offsets, sizes, tags_codes)


# Called as watcher(queue, queue_offset, tags_code, store_timestamp_ms, physical_offset) on the writer thread when a message
# has become visible. It must not raise and must not append to the store itself (hand such work to the loop).
Watcher = Callable[["ConsumeQueue", int, int, int, int], None]


class MappedSegments:
    """Bounds how many queue files are mapped: each mapping costs descriptors and kernel memory.

    Second chance: a file whose queue was used since the last look is kept, the others go, oldest first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[tuple[int, int], tuple[ConsumeQueue, int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def add(self, queue: ConsumeQueue, first: int) -> None:
        """Count the mapping of the segment that starts at queue offset ``first``, making room before."""
        attempts = len(self._held)
        while len(self._held) >= self.limit and attempts:
            attempts -= 1
            key, (other, other_first, seen) = self._held.popitem(last=False)
            if other.use_mark != seen and attempts:
                self._held[key] = (other, other_first, other.use_mark)
            else:
                other.unmap(other_first)
        self._held[id(queue), first] = (queue, first, queue.use_mark)

    def discard(self, queue: ConsumeQueue, first: int) -> None:
        """The segment was unmapped."""
        self._held.pop((id(queue), first), None)


class ConsumeQueue:
    """One queue. Only the writer thread uses it, except `flush` (by paths).

    `next_offset` is what the next message gets, `end` what readers see; they differ while messages wait for their flush.
    `view` maps the segment whose first entry is `view_first`; space is allocated up to queue offset `reserved_end`.
    """

    __slots__ = (
        "_allocated_first",
        "_allocated_size",
        "_directory",
        "_files",
        "_held",
        "_mappings",
        "_residency",
        "_tail",
        "_units",
        "_unsynced_directories",
        "end",
        "flushed_end",
        "has_long_topic",
        "is_dirty",
        "is_light",
        "is_schedule",
        "min_offset",
        "next_offset",
        "queue_id",
        "read_mark",
        "reserved_end",
        "segment_firsts",
        "tail_part",
        "tail_size",
        "topic",
        "topic_hash",
        "trusted_from",
        "view",
        "view_first",
        "watcher",
    )

    def __init__(
        self,
        files: FileSystem,
        held: MappedSegments,
        root: Path,
        topic: str,
        queue_id: int,
        segment_units: int,
        residency: Residency | None = None,
    ) -> None:
        encoded = topic.encode()
        self._files = files
        self._held = held
        self._directory = root / topic / str(queue_id)
        self._units = segment_units
        self._residency = residency
        # The last entry as `load` found it: its offset, and what it says. Thousands of queues are not mapped once more for it.
        self._tail: tuple[int, tuple[int, int, int]] | None = None
        self._mappings: dict[int, Mapping] = {}
        self.topic = topic
        self.queue_id = queue_id
        # The part of a record between body and properties length.
        self.has_long_topic = len(encoded) > TOPIC_V1_SIZE_MAX
        self.tail_part = (struct.pack(">H", len(encoded)) if self.has_long_topic else bytes((len(encoded),))) + encoded
        self.tail_size = len(self.tail_part)
        # Index keys are "topic#key".
        self.topic_hash = java_hash_from(0, topic + "#")
        self.is_light = is_light_queue(topic)
        self.is_schedule = topic == "SCHEDULE_TOPIC_XXXX"
        self.segment_firsts: list[int] = []
        self.min_offset = 0
        self.next_offset = 0
        self.end = 0
        self.flushed_end = 0
        self.reserved_end = 0
        self._allocated_first = -1
        self._allocated_size = 0
        self._unsynced_directories: list[Path] = []
        self.view: memoryview = memoryview(b"")
        self.view_first = 0
        self.is_dirty = False
        self.read_mark = 0
        # Entries below were found on the disk, so that they and their records are verified when they are read.
        self.trusted_from = 0
        self.watcher: Watcher | None = None

    @property
    def use_mark(self) -> int:
        """Changes whenever the queue was written or read."""
        return self.next_offset + self.read_mark

    def load(self) -> None:
        """Find the files. Raises StoreMisconfigured or StoreCorrupt."""
        offsets = list_segments(self._files, self._directory, self._units * UNIT_SIZE, "mappedFileSizeConsumeQueue")
        self.segment_firsts = [offset // UNIT_SIZE for offset in offsets]
        self.min_offset = self.segment_firsts[0] if offsets else 0
        end, tail = self._find_end()
        self.start_at(end)
        self._tail = tail
        self.flushed_end = self.trusted_from = self.end

    def discard_files(self) -> None:
        """Remove files that `load` refused: the log has everything that they held."""
        for path in reversed(self._files.list(self._directory)):
            if len(path.name) == NAME_DIGITS and path.name.isdecimal():
                self._files.remove(path)

    def start_at(self, end: int) -> None:
        """The queue holds entries below ``end``."""
        self.end = self.next_offset = end
        self.reserved_end = 0
        self._tail = None

    def reserve(self) -> None:
        """Have the place of entry `next_offset` mapped and allocated. Raises OSError when there is no room."""
        self._reserve(self.next_offset)

    def reserve_range(self, count: int) -> None:
        """The same for the ``count`` entries from `next_offset` on, which may span segments. Raises OSError."""
        offset = self.next_offset
        stop = offset + count
        if offset < self.reserved_end:
            offset = self.reserved_end
        try:
            while offset < stop:
                self._reserve(offset)
                offset = self.reserved_end
        finally:
            # The append relies on `view` starting at or before its entry, whether this succeeded or not.
            if self.view_first > self.next_offset:
                self._reserve(self.next_offset)

    def put(self, offset: int, physical_offset: int, size: int, tags_code: int) -> None:
        """Write entry ``offset``, at or before `next_offset`; filler goes before the very first. Does not move `end`."""
        if not self.view_first <= offset < self.reserved_end:
            self._reserve(offset)
        UNIT.pack_into(self.view, (offset - self.view_first) * UNIT_SIZE, physical_offset, size, tags_code)

    def put_range(self, offset: int, entries: bytes) -> None:
        """Write consecutive encoded entries from ``offset`` on; otherwise as `put`."""
        position = 0
        while position < len(entries):
            if not self.view_first <= offset < self.reserved_end:
                self._reserve(offset)
            start = (offset - self.view_first) * UNIT_SIZE
            part = entries[position : position + (self.reserved_end - offset) * UNIT_SIZE]
            self.view[start : start + len(part)] = part
            position += len(part)
            offset += len(part) // UNIT_SIZE

    def unit(self, offset: int) -> tuple[int, int, int]:
        """(commit log offset, size, tags code) of one entry between first segment and `end`. Raises OSError."""
        first = offset - offset % self._units
        return UNIT.unpack_from(self._view_for_reading(first, offset, 1), (offset - first) * UNIT_SIZE)

    def units_from(self, offset: int, count: int) -> memoryview:
        """Entries from ``offset``, at most ``count`` and only to the end of their segment, as raw bytes. Raises OSError."""
        first = offset - offset % self._units
        self.read_mark += 1
        position = (offset - first) * UNIT_SIZE
        count = min(count, self.end - offset, first + self._units - offset)
        return self._view_for_reading(first, offset, count)[position : position + count * UNIT_SIZE]

    def next_segment_offset(self, offset: int) -> int:
        """First entry of the segment after the one that holds ``offset``."""
        return offset - offset % self._units + self._units

    def cut(self, end: int) -> None:
        """Forget entries from ``end`` on, physically: later bytes read as zeros again."""
        keep = [first for first in self.segment_firsts if first < end]
        for first in reversed(self.segment_firsts[len(keep) :]):
            self.unmap(first)
            self._files.remove(self._path(first))
        self.segment_firsts = keep
        if keep and end < keep[-1] + self._units:
            view = self._map(keep[-1]).buffer
            position = (end - keep[-1]) * UNIT_SIZE
            # Entries are written without gaps, but a power loss may have left some: clear up to a long empty stretch.
            while position < len(view):
                stop = min(position + ALLOCATION_STEP, len(view))
                if bytes(view[position:stop]) == bytes(stop - position):
                    break
                view[position:stop] = bytes(stop - position)
                position = stop
        self.start_at(end)
        self.flushed_end = min(self.flushed_end, end)
        self.trusted_from = min(self.trusted_from, end)
        self.min_offset = min(self.min_offset, end)

    def first_at_or_after(self, log_offset: int) -> int:
        """The first entry whose record starts at or behind ``log_offset``, or that was never written; `end` when there is none.

        Raises OSError.
        """
        if not self.segment_firsts:
            return self.end
        low, high = self.segment_firsts[0], self.end
        while low < high:
            middle = (low + high) // 2
            physical_offset, size, _ = self.unit(middle)
            if physical_offset < log_offset and size > 0:
                low = middle + 1
            else:
                high = middle
        return low

    @property
    def log_end(self) -> int:
        """Log offset behind the record of the last entry; `UNWRITTEN` when a power loss kept a younger file but not that entry."""
        if not self.segment_firsts or self.end <= self.segment_firsts[0]:
            return 0
        tail = self._tail
        physical_offset, size, _ = tail[1] if tail is not None and tail[0] == self.end - 1 else self.unit(self.end - 1)
        if size <= 0:
            return UNWRITTEN
        return physical_offset + size if size != 0x7FFFFFFF else 0

    def correct_min_offset(self, log_min_offset: int) -> None:
        """Move `min_offset` to the first entry whose record is still in the log (ConsumeQueue.correctMinOffset)."""
        if self.segment_firsts and not log_min_offset:
            self.min_offset = max(self.min_offset, self.segment_firsts[0])
        elif self.segment_firsts and self.end > 0:
            # Filler names log offset 0; it counts as gone even while the log still begins there.
            first, found = self.segment_firsts[0], self.first_at_or_after(log_min_offset)
            if found - first >= 2 and self.unit(found - 2)[0] >= log_min_offset:
                # A damaged entry led the search astray: entries only grow.
                found = next(offset for offset in range(first, found) if self.unit(offset)[0] >= log_min_offset)
            self.min_offset = max(self.min_offset, found)

    def remove_expired(self, log_min_offset: int) -> int:
        """Unlink segments, never the last, whose entries all point below the log; return how many."""
        removed = 0
        while len(self.segment_firsts) > 1:
            first = self.segment_firsts[0]
            if self.unit(first + self._units - 1)[0] >= log_min_offset:
                break
            self.unmap(first)
            self._files.remove(self._path(first))
            del self.segment_firsts[0]
            removed += 1
        return removed

    def take_unsynced(self, offset: int, end: int) -> list[Path]:
        """Files that hold the entries from ``offset`` to ``end``, and directories that name files for the first time.

        Creating a file syncs nothing, for that would stop the writer for milliseconds; the checkpoint does it.
        """
        directories, self._unsynced_directories = self._unsynced_directories, []
        return directories + [
            self._path(first) for first in self.segment_firsts if first < end and first + self._units > offset
        ]

    def destroy(self) -> None:
        """Remove all files and the directory."""
        self.restart(0)
        self._files.remove_directory(self._directory)

    def restart(self, offset: int) -> None:
        """Remove all files; the next entry will be ``offset``."""
        for first in reversed(self.segment_firsts):
            self.unmap(first)
            self._files.remove(self._path(first))
        self.segment_firsts = []
        self.start_at(offset)
        self.min_offset = self.flushed_end = self.trusted_from = offset

    def unmap(self, first: int) -> None:
        """Give the mapping of one segment back."""
        mapping = self._mappings.pop(first, None)
        if mapping is not None:
            self._held.discard(self, first)
            mapping.close()
            if first == self.view_first:
                self.view = memoryview(b"")
                self.reserved_end = 0

    def unmap_all(self) -> None:
        """Give all mappings back."""
        for first in list(self._mappings):
            self.unmap(first)

    def _path(self, first: int) -> Path:
        return self._directory / segment_name(first * UNIT_SIZE)

    def _map(self, first: int) -> Mapping:
        mapping = self._mappings.get(first)
        if mapping is None:
            self._held.add(self, first)
            mapping = self._files.map_file(
                self._path(first), self._units * UNIT_SIZE, create=False, is_read_ahead=False
            )
            self._mappings[first] = mapping
        return mapping

    def _view_for_reading(self, first: int, offset: int, count: int) -> memoryview:
        """The segment that begins with ``first``, for ``count`` entries from ``offset`` on. Raises OSError, Absent."""
        mapping = self._map(first)
        residency = self._residency
        if residency is not None and residency.is_strict and offset < max(self.trusted_from, self.end - HOT_COUNT):
            start = (offset - first) * UNIT_SIZE
            residency.require(mapping, start, start + count * UNIT_SIZE)
        return mapping.buffer

    def _reserve(self, offset: int) -> None:
        units = self._units
        first = offset - offset % units
        firsts = self.segment_firsts
        if firsts and first <= firsts[-1]:
            mapping = self._map(first)
        else:
            mapping = self._create_segment(first, offset)
        if first == firsts[-1]:
            self._allocate(mapping, first, (offset - first + 1) * UNIT_SIZE)
            self.reserved_end = first + self._allocated_size // UNIT_SIZE
        else:
            self.reserved_end = first + units
        self.view = mapping.buffer
        self.view_first = first

    def _create_segment(self, first: int, offset: int) -> Mapping:
        if not self.segment_firsts:
            self._files.make_directory(self._directory, durable=False)
            self._unsynced_directories = [self._directory, *self._directory.parents[:2]]
        elif not self._unsynced_directories:
            self._unsynced_directories = [self._directory]
        self._held.add(self, first)
        size = self._units * UNIT_SIZE
        mapping = self._files.map_file(
            self._path(first), size, create=True, allocated=0, durable=False, is_read_ahead=False
        )
        self._mappings[first] = mapping
        self._allocated_first = -1
        try:
            if offset > first:
                self._allocate(mapping, first, (offset - first) * UNIT_SIZE)
                mapping.buffer[: (offset - first) * UNIT_SIZE] = BLANK_UNIT * (offset - first)
        except OSError:
            self.unmap(first)
            self._files.remove(self._path(first))
            raise
        if not self.segment_firsts:
            self.min_offset = offset
        self.segment_firsts.append(first)
        return mapping

    def _allocate(self, mapping: Mapping, first: int, needed: int) -> None:
        is_known = self._allocated_first == first
        if is_known and needed <= self._allocated_size:
            return
        # After a restart it is not known how far blocks were given; giving some again costs nothing.
        start = self._allocated_size if is_known else 0
        end = min(-(-needed // ALLOCATION_STEP) * ALLOCATION_STEP, self._units * UNIT_SIZE)
        mapping.allocate(start, end - start)
        self._allocated_first = first
        self._allocated_size = end

    def _find_end(self) -> tuple[int, tuple[int, tuple[int, int, int]] | None]:
        """Where the entries end, and the last one with its offset when it is in the youngest file."""
        if not self.segment_firsts:
            return 0, None
        first = self.segment_firsts[-1]
        view = self._map(first).buffer
        # From the beginning in growing steps: most queues hold little, and each look at another page costs.
        low, high = 0, 1
        while high < self._units and UNIT.unpack_from(view, (high - 1) * UNIT_SIZE)[1] > 0:
            low, high = high, 2 * high
        high = min(high, self._units)
        while low < high:
            middle = (low + high) // 2
            physical, size, _ = UNIT.unpack_from(view, middle * UNIT_SIZE)
            if physical >= 0 and size > 0:
                low = middle + 1
            else:
                high = middle
        if not low:
            return first, None
        return first + low, (first + low - 1, UNIT.unpack_from(view, (low - 1) * UNIT_SIZE))
