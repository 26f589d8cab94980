"""The I/O thread that has the next commit log segment ready before the append needs it.

Allocating a gigabyte and syncing its directory entry takes tens of milliseconds, which the writer thread cannot spend.
With SYNC_FLUSH the thread also zeroes blocks ahead of the append, because overwriting written blocks syncs twice as fast as
filling fresh extents. It never touches bytes that the writer may reach: see `_zero_ahead`.
"""

from __future__ import annotations

import errno
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rocketmq_common.clock import Clock
from rocketmq_store.segments import Segment

PREPARE_WAIT_S = 5.0
RETRY_INTERVAL_S = 1.0
# Conditions that pass by themselves or by an operator's hand; anything else means the disk lies.
NO_ROOM_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
ZERO_CHUNK_SIZE = 1 << 20
ZERO_AHEAD_SIZE = 64 << 20
# How much of a fresh segment is zeroed before it is handed over.
ZERO_FIRST_SIZE = 16 << 20


class ZeroTarget(Protocol):
    """The commit log, as far as zeroing ahead needs to know it."""

    def write_position(self) -> tuple[Segment, int] | None:
        """Active segment and the position of the next append in it."""
        ...

    def forbid_from(self, segment: Segment, position: int | None) -> None:
        """The writer must not pass ``position`` without waiting; ``None`` lifts this."""
        ...


class SegmentPreparer:
    """Owns at most one prepared segment. `request` and `take` are called by the writer, the rest by its own thread."""

    def __init__(
        self,
        make: Callable[[int], Segment],
        clock: Clock,
        *,
        zero_ahead: bool,
        append_size_max: int,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._make = make
        self._clock = clock
        self._zero_ahead_enabled = zero_ahead
        # Zeroing keeps at least this far ahead of the writer.
        self._margin = 2 * append_size_max
        self._fatal = fatal
        self._condition = threading.Condition()
        self._wanted: int | None = None
        # Base of the youngest segment handed out: it and all before are the log's, never again ours to make or remove.
        self._taken_base = -1
        self._making: int | None = None
        self._prepared: Segment | None = None
        self._failure: OSError | None = None
        self._failed_at = 0.0
        self._death: OSError | None = None
        self._target: ZeroTarget | None = None
        # Bounded by the batch that retention takes per round.
        self._doomed: deque[Segment] = deque()
        self._zeroing = False
        self._nudged = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="rocketmq-store-prepare", daemon=True)

    def start(self, target: ZeroTarget) -> None:
        """Run the thread; ``target`` is zeroed ahead if asked for."""
        self._target = target
        self._thread.start()

    def request(self, base: int) -> None:
        """Have the segment that starts at ``base`` made; repeated requests for it are fine."""
        with self._condition:
            self._want(base)

    def nudge(self) -> None:
        """The append moved on: look whether more should be zeroed."""
        if self._zero_ahead_enabled and not self._nudged:
            with self._condition:
                self._nudged = True
                self._condition.notify_all()

    def take(self, base: int) -> Segment:
        """The prepared segment, waiting while it is being made (5 s at most, as Java).

        Raises OSError when there is no room. It never allocates on the caller's thread; a failed attempt is repeated in the
        background once a second for as long as the writer asks.
        """
        with self._condition:
            if self._death is not None:
                raise self._death
            if self._failure is not None:
                failure = self._failure
                if self._clock.monotonic() - self._failed_at >= RETRY_INTERVAL_S:
                    self._failure = None
                    self._want(base)
                else:
                    raise failure
            prepared = self._prepared
            if prepared is None or prepared.base != base:
                self._want(base)
                ready = self._condition.wait_for(
                    lambda: (
                        self._failure is not None
                        or self._death is not None
                        or (self._prepared is not None and self._prepared.base == base)
                    ),
                    PREPARE_WAIT_S,
                )
                if not ready:
                    raise TimeoutError(f"segment at {base} was not ready after {PREPARE_WAIT_S} s")
                if self._failure is not None:
                    raise self._failure
                if self._death is not None:
                    raise self._death
                prepared = self._prepared
            assert prepared is not None
            self._prepared = None
            self._taken_base = base
            return prepared

    def dispose(self, segment: Segment) -> None:
        """Unlink an expired segment in the background."""
        with self._condition:
            if self._death is None:
                self._doomed.append(segment)
                self._condition.notify_all()

    def wait_zeroed(self) -> None:
        """Return when no zeroing is under way; the writer calls this before it passes a forbidden position."""
        with self._condition:
            self._condition.wait_for(lambda: not self._zeroing)

    def stop(self) -> None:
        """End the thread and remove a segment that was never used."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.ident is not None:
            self._thread.join()
        while self._doomed:
            self._doomed.popleft().remove()
        if self._prepared is not None:
            self._prepared.remove()
            self._prepared = None

    def _want(self, base: int) -> None:
        # One that is being made is wanted already: made twice, the second would be removed as unused, with the log's data in it.
        is_ready = self._prepared is not None and self._prepared.base == base
        if base > self._taken_base and not is_ready and self._making != base:
            self._wanted = base
            self._condition.notify_all()

    def _run(self) -> None:
        try:
            while True:
                with self._condition:
                    self._condition.wait_for(
                        lambda: self._stopping or self._wanted is not None or self._nudged or bool(self._doomed)
                    )
                    if self._stopping:
                        return
                    base, self._wanted = self._wanted, None
                    self._making = base
                    self._nudged = False
                if base is not None:
                    self._prepare(base)
                elif self._doomed:
                    self._doomed.popleft().remove()
                elif self._zero_ahead_enabled:
                    self._zero_ahead()
        except BaseException as error:  # noqa: BLE001 - an unexpected end of this thread must end the process (rule E29)
            with self._condition:
                # What was to be unlinked stays: younger segments without an older one would be a hole for the next start.
                self._doomed.clear()
                self._death = (
                    error if isinstance(error, OSError) else OSError(errno.EIO, f"segments cannot be made: {error}")
                )
                self._condition.notify_all()
            self._fatal(error)

    def _prepare(self, base: int) -> None:
        with self._condition:
            unused, self._prepared = self._prepared, None
        if unused is not None:
            # Made for a log that then began elsewhere (`CommitLog.restart_at`): a hole in the sequence if it stayed.
            unused.remove()
        segment = self._make(base)
        try:
            segment.create()
            if self._zero_ahead_enabled:
                segment.zero(0, min(segment.size, ZERO_FIRST_SIZE))
        except OSError as error:
            if error.errno not in NO_ROOM_ERRNOS:
                raise
            # A leftover of full length would pass for a durable file at the next attempt.
            segment.remove()
            with self._condition:
                self._making = None
                self._failure = error
                self._failed_at = self._clock.monotonic()
                self._condition.notify_all()
            return
        with self._condition:
            self._making = None
            self._failure = None
            self._prepared = segment
            self._condition.notify_all()

    def _zero_ahead(self) -> None:
        target = self._target
        while target is not None and not self._stopping and self._wanted is None:
            active = target.write_position()
            if active is None:
                return
            segment, position = active
            start = max(segment.zeroed_to, position + self._margin)
            end = min(start + ZERO_CHUNK_SIZE, segment.size)
            if start >= end or start - position > self._margin + ZERO_AHEAD_SIZE:
                return
            # Announce, then verify: the writer reads the barrier before each append. One that read the old barrier writes at
            # most one record, less than the margin; should it be further all the same, this chunk is left alone.
            with self._condition:
                self._zeroing = True
            target.forbid_from(segment, start)
            try:
                active = target.write_position()
                if active is None or active[0] is not segment or active[1] + self._margin // 2 > start:
                    continue
                segment.zero(start, end - start)
            finally:
                target.forbid_from(segment, None)
                with self._condition:
                    self._zeroing = False
                    self._condition.notify_all()
