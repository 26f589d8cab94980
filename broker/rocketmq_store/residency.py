"""What of the store's files is in memory, so that a read which must wait for the disk does not hold up the writer thread.

Touching a mapped page that the kernel does not have stops the whole process until the disk has delivered it. While
`Residency.is_strict`, code that is about to touch bytes which may be cold asks first (mincore); what is absent is told as `Absent`,
is read by an I/O thread (`ColdReader`), and the read is made again. What this process wrote lately is taken for present unasked.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple, TypeVar

from rocketmq_common.clock import Clock
from rocketmq_common.files import Mapping
from rocketmq_store.positions import Positions

T = TypeVar("T")

# Of the log's end: the kernel drops what was used longest ago first.
HOT_SIZE_BYTES: Final = 32 << 20
# One look at a file's pages covers this much, and is believed so long.
WINDOW_SIZE_BYTES: Final = 256 << 10
BELIEVED_S: Final = 1.0
WINDOW_COUNT_MAX: Final = 4096
# Read along with what was asked for: the next reads want what follows.
READ_AHEAD_BYTES: Final = 1 << 20
RECORD_READ_AHEAD_BYTES: Final = 16 << 10
THREAD_COUNT: Final = 4
WAITING_COUNT_MAX: Final = 4096


class Range(NamedTuple):
    """Bytes of a mapped file from ``start`` to ``end``."""

    mapping: Mapping
    start: int
    end: int


class Absent(Exception):
    """A read would have to wait for the disk: for ``ranges``, at least."""

    def __init__(self, ranges: list[Range]) -> None:
        super().__init__(f"{sum(r.end - r.start for r in ranges)} bytes are not in memory")
        self.ranges = ranges


class Residency:
    """Knows what is in memory. Used by the writer thread only."""

    def __init__(self, positions: Positions, clock: Clock) -> None:
        self._positions = positions
        self._clock = clock
        # How far each window was present when it was looked at, and until when that is believed.
        self._windows: dict[tuple[int, int], tuple[int, float]] = {}
        # Reads raise Absent instead of waiting.
        self.is_strict = False
        # What was written before this process began may never have been in memory since.
        self.written_from = 0

    def from_memory(self, read: Callable[[], T]) -> T:
        """What ``read`` of the store returns. Raises Absent where it would have to wait for the disk."""
        self.is_strict = True
        try:
            return read()
        finally:
            self.is_strict = False

    @property
    def hot_from(self) -> int:
        """Log bytes from this offset on are taken for present."""
        return max(self.written_from, self._positions.written - HOT_SIZE_BYTES)

    def present_to(self, mapping: Mapping, position: int) -> int:
        """The first byte from ``position`` on that is absent, or the end of the window that was looked at."""
        window = position // WINDOW_SIZE_BYTES
        key = (id(mapping), window)
        now = self._clock.monotonic()
        known = self._windows.get(key)
        if known is not None and known[1] > now and position < known[0]:
            return known[0]
        start = window * WINDOW_SIZE_BYTES
        end = min(start + WINDOW_SIZE_BYTES, len(mapping.buffer))
        present_to = mapping.absent_from(start, end)
        if present_to <= position:
            return mapping.absent_from(position, end)
        if len(self._windows) >= WINDOW_COUNT_MAX:
            self._windows.clear()
        self._windows[key] = (present_to, now + BELIEVED_S)
        return present_to

    def is_present(self, mapping: Mapping, start: int, end: int) -> bool:
        """All bytes from ``start`` to ``end`` are in memory."""
        position = start
        while position < end:
            present_to = self.present_to(mapping, position)
            if present_to == position:
                return False
            position = present_to
        return True

    def forget(self) -> None:
        """Look at everything again."""
        self._windows.clear()

    def require(self, mapping: Mapping, start: int, end: int, ahead_bytes: int = RECORD_READ_AHEAD_BYTES) -> None:
        """Raise Absent when strict and not all of the bytes from ``start`` to ``end`` are in memory."""
        if self.is_strict and not self.is_present(mapping, start, end):
            raise Absent([Range(mapping, start, min(max(end, start + ahead_bytes), len(mapping.buffer)))])


class ColdReader:
    """Brings bytes into memory on its own threads."""

    def __init__(self, post: Callable[[Callable[[], None]], object]) -> None:
        self._post = post
        self._threads = ThreadPoolExecutor(THREAD_COUNT, thread_name_prefix="cold-reads")
        self.waiting_count = 0
        self.read_count = 0
        self.read_bytes = 0

    def read(self, absent: Absent, then: Callable[[OSError | None], None]) -> bool:
        """Read what is absent, then call ``then`` on the writer thread with the disk's error if there was one.

        False, and nothing happens, when `WAITING_COUNT_MAX` wait already.
        """
        if self.waiting_count >= WAITING_COUNT_MAX:
            return False
        self.waiting_count += 1
        self.read_count += 1
        self.read_bytes += sum(r.end - r.start for r in absent.ranges)
        future = self._threads.submit(_load, absent.ranges)
        future.add_done_callback(lambda done: self._end(done, then))
        return True

    def stop(self) -> None:
        """Wait for reads under way, forget those that wait; their ``then`` is not called any more."""
        self._threads.shutdown(cancel_futures=True)

    def _end(self, done: Future[OSError | None], then: Callable[[OSError | None], None]) -> None:
        if not done.cancelled():
            self._post(lambda: self._tell(then, done.result()))

    def _tell(self, then: Callable[[OSError | None], None], error: OSError | None) -> None:
        self.waiting_count -= 1
        then(error)


def _load(ranges: list[Range]) -> OSError | None:
    for mapping, start, end in ranges:
        try:
            mapping.load(start, end)
        except OSError as error:
            return error
    return None
