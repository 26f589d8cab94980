"""The timer log: one unit for each waiting message, chained backwards by slot.

Unit (apache/rocketmq TimerLog, 52 bytes, big-endian):

    size i32 (52) · previous unit of the slot i64 (-1 none) · magic i32 (1, |2 roll, |4 delete) · write time i64 (ms) ·
    delay i32 (slot's time less write time) · commit log offset i64 · record size i32 · Java hash of the real topic i32
    · reserved i64

The reserved word, which Apache writes as 0 and never reads, holds the exact time in ms at which the message is due:
slots are a second wide, deliveries are not. A unit never spans two segments: where fewer than 68 bytes remain, filler
(remaining i32, 0 i64, blank magic i32) ends the segment.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from rocketmq_common.files import FileSystem, Mapping
from rocketmq_common.records import MAGIC_BLANK
from rocketmq_store.segments import list_segments, segment_name

DIRECTORY: Final = "timerlog"
SIZE_KEY: Final = "mappedFileSizeTimerLog"
UNIT: Final = struct.Struct(">iqiqiqiiq")
UNIT_SIZE: Final = UNIT.size
MAGIC_DEFAULT: Final = 1
MAGIC_ROLL: Final = 2
MAGIC_DELETE: Final = 4
# What a unit becomes whose message has gone elsewhere. Apache takes it for a recall, whose record then names nothing; the bit that
# only we know tells it from a real one.
MAGIC_DONE: Final = MAGIC_DEFAULT | MAGIC_DELETE | 8
_MAGIC_MASK: Final = 0xF
_FILLER: Final = struct.Struct(">iqI")
_MAGIC_POSITION: Final = 12
_MAGIC: Final = struct.Struct(">i")
# Blocks are given to a segment in steps of this size (5041 units).
ALLOCATION_STEP: Final = 1 << 18


class Unit(NamedTuple):
    """One unit. Times are ms; ``due_ms`` is 0 in units that Apache's broker wrote."""

    size: int
    previous: int
    magic: int
    write_ms: int
    delay_ms: int
    offset: int
    record_size: int
    topic_hash: int
    due_ms: int

    @property
    def slot_ms(self) -> int:
        """A time within its slot."""
        return self.write_ms + self.delay_ms

    @property
    def is_whole(self) -> bool:
        """Whether it looks like a unit at all."""
        return self.size == UNIT_SIZE and 0 < self.magic <= _MAGIC_MASK and self.write_ms > 0 and self.record_size > 0


class TimerLog:
    """Segments of `mappedFileSizeTimerLog` bytes. Only the writer thread changes it; the mappings of `take_dirty` may
    be synced on another. Positions are bytes since the very first unit.

    Raises StoreMisconfigured or StoreCorrupt when the segments found do not fit.
    """

    def __init__(self, files: FileSystem, root: Path, segment_size: int) -> None:
        self._files = files
        self._directory = root / DIRECTORY
        self._size = segment_size
        self._bases = list_segments(files, self._directory, segment_size, SIZE_KEY)
        self._mappings: dict[int, Mapping] = {}
        self._dirty: set[int] = set()
        self._is_directory_dirty = False
        self._allocated = 0
        self.end = self.capacity
        self._view = memoryview(b"")
        self._view_base = -1

    @property
    def begin(self) -> int:
        """Position of the first unit that is still there."""
        return self._bases[0] if self._bases else self.end

    @property
    def capacity(self) -> int:
        """Position after the last segment."""
        return self._bases[-1] + self._size if self._bases else 0

    def append(
        self,
        previous: int,
        magic: int,
        write_ms: int,
        delay_ms: int,
        offset: int,
        record_size: int,
        topic_hash: int,
        due_ms: int,
    ) -> int:
        """Write a unit and return its position. Raises OSError when there is no room; nothing is changed then."""
        position = self.end
        within = position % self._size
        if within + UNIT_SIZE + _FILLER.size > self._size:
            self._map(position - within)
            _FILLER.pack_into(self._view, within, self._size - within, 0, MAGIC_BLANK)
            self._dirty.add(position - within)
            position += self._size - within
            within = 0
        self._reserve(position)
        UNIT.pack_into(
            self._view, within, UNIT_SIZE, previous, magic, write_ms, delay_ms, offset, record_size, topic_hash, due_ms
        )
        self._dirty.add(self._view_base)
        self.end = position + UNIT_SIZE
        return position

    def unit(self, position: int) -> Unit | None:
        """The unit at a position; ``None`` when its segment is gone or never was. Raises OSError."""
        if not self.begin <= position <= self.capacity - UNIT_SIZE:
            return None
        within = position % self._size
        if within + UNIT_SIZE > self._size:
            return None
        base = position - within
        if base != self._view_base:
            self._map(base)
        return Unit._make(UNIT.unpack_from(self._view, within))

    def position_before(self, position: int) -> int:
        """Position of the unit that ends at ``position``, or before the filler that does; below `begin` if none."""
        within = position % self._size
        if within:
            return position - UNIT_SIZE
        return position - self._size + (self._size - UNIT_SIZE - _FILLER.size) // UNIT_SIZE * UNIT_SIZE

    def mark_done(self, position: int) -> None:
        """The message of this unit is delivered or moved. Raises OSError."""
        within = position % self._size
        self._map(position - within)
        _MAGIC.pack_into(self._view, within + _MAGIC_POSITION, MAGIC_DONE)
        self._dirty.add(self._view_base)

    def units_from(self, position: int) -> Iterator[tuple[int, Unit]]:
        """(position, unit) from a unit's position to `end`, over filler. Stops at bytes that are no unit.

        Raises OSError.
        """
        while position < self.end:
            within = position % self._size
            if within + UNIT_SIZE + _FILLER.size > self._size:
                position += self._size - within
                continue
            unit = self.unit(position)
            if unit is None or not unit.is_whole:
                return
            yield position, unit
            position += UNIT_SIZE

    def cut(self, end: int) -> None:
        """Forget units from ``end`` on, physically. Raises OSError."""
        while len(self._bases) > 1 and self._bases[-1] >= end:
            self._remove(self._bases.pop())
        if self._bases and end < self.capacity:
            base = self._bases[-1]
            within = max(end - base, 0)
            self._map(base)
            step = ALLOCATION_STEP
            while within < self._size:
                stretch = self._view[within : within + step]
                if bytes(stretch) == bytes(len(stretch)):
                    break
                stretch[:] = bytes(len(stretch))
                within += step
            self._dirty.add(base)
        self.end = end
        self._allocated = 0

    def clear(self) -> None:
        """Remove everything; positions begin at 0 again. Raises OSError."""
        while self._bases:
            self._remove(self._bases.pop())
        self.end = self._allocated = 0

    def take_expired(self, log_min_offset: int) -> list[Path]:
        """Forget segments, never the last, whose records are all below the commit log; the caller removes the files."""
        expired = []
        while len(self._bases) > 1:
            base = self._bases[0]
            last = self.unit(self.position_before(base + self._size))
            if last is None or last.offset >= log_min_offset:
                break
            expired.append(self._forget(self._bases.pop(0)))
        return expired

    def take_dirty(self) -> list[Mapping]:
        """Mappings written since the last time; the caller syncs them and what `take_directory` names."""
        dirty, self._dirty = self._dirty, set()
        return [self._mappings[base] for base in dirty if base in self._mappings]

    def take_directory(self) -> Path | None:
        """The directory, when it names new files since the last time; the caller syncs it."""
        is_dirty, self._is_directory_dirty = self._is_directory_dirty, False
        return self._directory if is_dirty else None

    def close(self) -> None:
        """Unmap."""
        self._view, self._view_base = memoryview(b""), -1
        for mapping in self._mappings.values():
            mapping.close()
        self._mappings.clear()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _map(self, base: int) -> None:
        if base == self._view_base:
            return
        mapping = self._mappings.get(base)
        if mapping is None:
            path = self._directory / segment_name(base)
            mapping = self._mappings[base] = self._files.map_file(path, self._size, create=False)
        self._view, self._view_base = mapping.buffer, base

    def _reserve(self, position: int) -> None:
        """Have the place of a unit mapped and allocated."""
        base = position - position % self._size
        if not self._bases or base > self._bases[-1]:
            if not self._bases:
                self._files.make_directory(self._directory)
            path = self._directory / segment_name(base)
            self._mappings[base] = self._files.map_file(path, self._size, create=True, allocated=0, durable=False)
            self._bases.append(base)
            self._is_directory_dirty = True
            self._allocated = base
        self._map(base)
        if position + UNIT_SIZE > self._allocated:
            # A segment that was found at the start may have holes anywhere behind what was written.
            start = max(self._allocated, position) - base
            length = min(ALLOCATION_STEP, self._size - start)
            self._mappings[base].allocate(start, length)
            self._allocated = base + start + length

    def _remove(self, base: int) -> None:
        self._files.remove(self._forget(base))

    def _forget(self, base: int) -> Path:
        mapping = self._mappings.pop(base, None)
        if mapping is not None:
            if base == self._view_base:
                self._view, self._view_base = memoryview(b""), -1
            mapping.close()
        self._dirty.discard(base)
        return self._directory / segment_name(base)
