"""The commit log: one sequence of records over fixed-size segments, appended to by one thread.

`Positions.written` is the log offset of the next record. A record never spans segments: where it does not
fit (with room for a filler behind it), a filler record closes the segment and the next one, prepared by an I/O thread, is taken.
"""

from __future__ import annotations

import struct
import threading
from collections.abc import Callable
from pathlib import Path

from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.records import BLANK_SIZE, MAGIC_BLANK, MAGIC_V1, MAGIC_V2
from rocketmq_store.positions import Positions
from rocketmq_store.preparation import SegmentPreparer
from rocketmq_store.residency import READ_AHEAD_BYTES, Residency
from rocketmq_store.segments import Segment, list_segments

BLANK = struct.Struct(">iI")
_PREFIX = struct.Struct(">iI")
_LONG = struct.Struct(">q")
COMMIT_LOG_DIRECTORY = "commitlog"
RECORD_SIZE_MIN = 91
# The following segment is asked for when this part of the active one is used.
PREPARE_AT_FRACTION = 0.5
# Bound of one append even when messages are configured small: a batch of tiny messages grows when it is stored.
APPEND_SIZE_MIN = 8 << 20


class CommitLog:
    """Segments in order, the active one last. All methods but `sync_to` and `write_position` belong to the writer thread."""

    def __init__(
        self,
        files: FileSystem,
        directory: Path,
        segment_size: int,
        clock: Clock,
        positions: Positions,
        residency: Residency,
        *,
        zero_ahead: bool,
        message_size_max: int,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._files = files
        self.directory = directory
        self._positions = positions
        self._residency = residency
        self.segment_size = segment_size
        # Of one append, so that any fits a segment with a filler behind it. A client batch is one append.
        self.append_size_max = min(max(APPEND_SIZE_MIN, 2 * message_size_max), segment_size - BLANK_SIZE)
        self.segments: list[Segment] = []
        # Of the active segment, kept flat for the append. `limit` is where the append must ask `make_room`: the mark at which
        # the next segment is requested, bytes that are being zeroed, or the segment's end.
        self.view: memoryview = memoryview(b"")
        self.base = 0
        self.limit = 0
        self._active: Segment | None = None
        self._soft_limit = 0
        self._barrier: int | None = None
        # Writer and preparer both compute `limit`; the append itself only reads it.
        self._limit_lock = threading.Lock()
        self._preparer = SegmentPreparer(
            self._make_segment,
            clock,
            zero_ahead=zero_ahead,
            append_size_max=self.append_size_max,
            fatal=fatal,
        )

    def load(self) -> None:
        """Find the segments on disk. Raises StoreMisconfigured or StoreCorrupt."""
        self._files.make_directory(self.directory)
        bases = list_segments(self._files, self.directory, self.segment_size, "mappedFileSizeCommitLog")
        self.segments = [self._make_segment(base) for base in bases]

    def start(self, written: int) -> None:
        """Be ready to append at ``written``; segments from there on are gone already."""
        if self.segments and written < self.segments[-1].end:
            self._activate(self.segments[-1])
        elif not self.segments:
            self.base = written - written % self.segment_size
        self._preparer.start(self)
        if self._active is None:
            self._preparer.request(self._next_base())

    @property
    def min_offset(self) -> int:
        """First byte that is still there."""
        return self.segments[0].base if self.segments else self._positions.written

    def make_room(self, size: int) -> None:
        """Make sure that ``size`` bytes and a filler fit behind the last record; may close the segment and take the next one.

        Called when `limit` says that they do not fit. Raises OSError (or TimeoutError) when there is no next segment; nothing has
        changed then, and a later call may succeed.
        """
        active = self._active
        if active is None:
            following = self._preparer.take(self._next_base())
        else:
            position = self._positions.written - active.base
            needed = position + size + BLANK_SIZE
            if needed > self._soft_limit < active.size:
                self._preparer.request(active.end)
                with self._limit_lock:
                    self._soft_limit = active.size
                    self._compute_limit()
            if needed <= self.limit:
                return
            if needed <= active.size:
                self._preparer.wait_zeroed()
                return
            following = self._preparer.take(active.end)
            self._preparer.wait_zeroed()
            BLANK.pack_into(active.view, position, active.size - position, MAGIC_BLANK)
            self._positions.written = active.end
        self.segments.append(following)
        self._activate(following)

    def write(self, position: int, data: bytes | bytearray) -> None:
        """Write many bytes into the active segment, which has room for them. Raises OSError."""
        assert self._active is not None
        self._active.mapping.write(position, data)

    def append_raw(self, data: memoryview) -> None:
        """Put records that another log made behind the last one; ``data`` must not go beyond the end of a segment.

        Raises OSError (or TimeoutError) when there is no next segment; nothing has changed then.
        """
        active = self._active
        if active is None or self._positions.written == active.end:
            following = self._preparer.take(self._next_base())
            self.segments.append(following)
            self._activate(following)
            active = following
        position = self._positions.written - active.base
        end = position + len(data)
        if end > active.size:
            raise ValueError(f"{len(data)} bytes at {self._positions.written} go beyond the segment's end {active.end}")
        if end > self._soft_limit < active.size:
            self._preparer.request(active.end)
            with self._limit_lock:
                self._soft_limit = active.size
                self._compute_limit()
        if end > self.limit:
            self._preparer.wait_zeroed()
        active.mapping.write(position, data)
        self._positions.written = active.base + end

    def restart_at(self, offset: int) -> None:
        """Let a log that holds nothing begin at ``offset``, the start of a segment."""
        if self.min_offset != self._positions.written or offset % self.segment_size:
            raise ValueError(f"a log from {self.min_offset} to {self._positions.written} cannot begin anew at {offset}")
        for segment in self.segments:
            self._preparer.dispose(segment)
        self.segments = []
        with self._limit_lock:
            self._active = None
            self.view = memoryview(b"")
            self.base = offset
            self.limit = self._soft_limit = 0
            self._barrier = None
        self._preparer.request(offset)

    def nudge_preparer(self) -> None:
        """The log moved on; zero further ahead if that is done at all. Any thread."""
        self._preparer.nudge()

    def segment_at(self, offset: int) -> Segment | None:
        """The segment that holds ``offset``; ``None`` when it was removed or is not written yet."""
        segments = self.segments
        if not segments:
            return None
        index = (offset - segments[0].base) // self.segment_size
        if 0 <= index < len(segments):
            return segments[index]
        return None

    def slice(self, offset: int, size: int) -> memoryview | None:
        """``size`` mapped bytes from ``offset``; ``None`` when they are not there or not within one segment."""
        segment = self.segment_at(offset)
        if segment is None or offset + size > self._positions.written or offset < segment.base:
            return None
        position = offset - segment.base
        if position + size > segment.size:
            return None
        return segment.view[position : position + size]

    def slice_from(self, offset: int, size_max: int) -> memoryview | None:
        """At most ``size_max`` written bytes from ``offset``, to the end of its segment. Raises Absent."""
        segment, written = self.segment_at(offset), self._positions.written
        if segment is None or not segment.base <= offset < written:
            return None
        start = offset - segment.base
        end = start + min(size_max, segment.end - offset, written - offset)
        if self._residency.is_strict and offset < self._residency.hot_from:
            self._residency.require(segment.mapping, start, end, READ_AHEAD_BYTES)
        return segment.view[start:end]

    def record_at(self, offset: int) -> memoryview | None:
        """The record that begins at ``offset``, or ``None`` when there is none."""
        segment = self.segment_at(offset)
        if segment is None or offset < segment.base or offset + 40 > self._positions.written:
            return None
        position = offset - segment.base
        view = segment.view
        if position + 40 > segment.size:
            return None
        is_cold = self._residency.is_strict and offset < self._residency.hot_from
        if is_cold:
            self._residency.require(segment.mapping, position, position + 40)
        size, magic = _PREFIX.unpack_from(view, position)
        (physical,) = _LONG.unpack_from(view, position + 28)
        if physical != offset or magic not in (MAGIC_V1, MAGIC_V2) or size < RECORD_SIZE_MIN:
            return None
        if position + size > segment.size or offset + size > self._positions.written:
            return None
        if is_cold:
            self._residency.require(segment.mapping, position, position + size)
        return view[position : position + size]

    def sync_to(self, start: int, end: int) -> None:
        """Make the bytes from ``start`` to ``end`` durable. Called by the flush thread. Raises OSError: treat it as fatal."""
        for segment in self.segments[:]:
            if segment.base < end and segment.end > start:
                segment.sync()

    def remove_first(self) -> Segment:
        """Drop the oldest segment; never the last one."""
        if len(self.segments) < 2:
            raise ValueError("the last segment of a commit log is never removed")
        segment = self.segments.pop(0)
        # Unlinking a gigabyte takes long; slices of it that are on their way to consumers stay valid.
        self._preparer.dispose(segment)
        return segment

    def close(self) -> None:
        """Stop the preparer and unmap."""
        self._preparer.stop()
        self.view = memoryview(b"")
        for segment in self.segments:
            segment.close()

    def write_position(self) -> tuple[Segment, int] | None:
        """See `ZeroTarget`. Called by the preparer's thread."""
        segment = self._active
        if segment is None:
            return None
        position = self._positions.written - segment.base
        return (segment, position) if 0 <= position <= segment.size else None

    def forbid_from(self, segment: Segment, position: int | None) -> None:
        """See `ZeroTarget`. Called by the preparer's thread."""
        with self._limit_lock:
            if segment is self._active:
                self._barrier = position
                self._compute_limit()

    def _compute_limit(self) -> None:
        self.limit = self._soft_limit if self._barrier is None else min(self._soft_limit, self._barrier)

    def _activate(self, segment: Segment) -> None:
        with self._limit_lock:
            self.view = segment.view
            self.base = segment.base
            self._soft_limit = int(segment.size * PREPARE_AT_FRACTION)
            self._barrier = None
            self._compute_limit()
            self._active = segment

    def _next_base(self) -> int:
        return self.segments[-1].end if self.segments else self.base

    def _make_segment(self, base: int) -> Segment:
        return Segment(self._files, self.directory, base, self.segment_size)
