"""The flush thread: group commit, the periodic flush, and the checkpoint each second.

Everything it needs from the writer is captured before a sync begins (rule E7): a sync makes durable what was written
before it started, nothing younger. Results go back through ``post`` and are applied on the writer thread. A sync that fails
is never tried again: the kernel may have dropped the pages, so the store is poisoned and the process must end (rule E8).
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path

from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_store.captures import Capture
from rocketmq_store.checkpoint import ApacheCheckpoint, Checkpoint, RecoveryHint
from rocketmq_store.commit_log import CommitLog
from rocketmq_store.positions import Positions
from rocketmq_store.statuses import PutStatus

Post = Callable[[Callable[[], None]], object]
DurableCallback = Callable[[PutStatus], None]
WAITING_COUNT_MAX = 131_072
# More files than this are synced by one call for the whole file system.
PATH_COUNT_MANY = 256
# Recovery verifies at least this much of the log before the point up to which all was durable.
VERIFY_SIZE = 64 << 20
BOUNDARY_SPACING = 16 << 20
BOUNDARY_COUNT = 8


class Flusher:
    """Owns the flush thread. `wait_durable`, `expire` and `complete` belong to the writer thread."""

    def __init__(
        self,
        *,
        log: CommitLog,
        positions: Positions,
        checkpoint: Checkpoint,
        files: FileSystem,
        root: Path,
        clock: Clock,
        post: Post,
        fatal: Callable[[BaseException], None],
        capture: Callable[[], Capture | None],
        on_flushed: Callable[[], object],
        on_checkpoint: Callable[[Capture], None],
        flush_interval_ms: int,
        checkpoint_interval_ms: int,
        timeout_ms: int,
    ) -> None:
        self._log = log
        self._positions = positions
        self._checkpoint = checkpoint
        self._files = files
        self._root = root
        self._clock = clock
        self._post = post
        self._fatal = fatal
        self._capture = capture
        self._on_flushed = on_flushed
        self._on_checkpoint = on_checkpoint
        self._flush_interval_s = flush_interval_ms / 1000
        self._checkpoint_interval_s = checkpoint_interval_ms / 1000
        self._timeout_s = timeout_ms / 1000
        self._waiting: deque[tuple[int, float, DurableCallback]] = deque()
        self._wake = threading.Condition()
        self._requested = False
        self._captured: Capture | None = None
        self._stopping = False
        self._failed: BaseException | None = None
        # Offset that the thread has made durable; `positions.flushed` follows on the writer thread.
        self._synced = positions.flushed
        self._boundaries: deque[int] = deque([positions.flushed], maxlen=BOUNDARY_COUNT)
        self.checkpoint_offset = 0
        self.flush_count = 0
        self.last_flush_ms = 0.0
        self._thread = threading.Thread(target=self._run, name="rocketmq-store-flush", daemon=True)

    @property
    def waiting_count(self) -> int:
        """Callbacks that wait for a sync."""
        return len(self._waiting)

    def start(self) -> None:
        """Run the thread; what is written already is durable."""
        self._synced = self._positions.flushed
        self._boundaries.append(self._synced)
        self._thread.start()

    def request(self) -> None:
        """Flush soon."""
        # Read without the lock: the thread clears it before it captures what to sync, so a request is never lost.
        if not self._requested:
            with self._wake:
                self._requested = True
                self._wake.notify()

    def wait_durable(self, end_offset: int, callback: DurableCallback) -> None:
        """See `MessageStore.when_durable`."""
        if self._failed is not None:
            callback(PutStatus.UNKNOWN_ERROR)
        elif self._positions.flushed >= end_offset:
            callback(PutStatus.PUT_OK)
        elif len(self._waiting) >= WAITING_COUNT_MAX:
            callback(PutStatus.FLUSH_DISK_TIMEOUT)
        else:
            self._waiting.append((end_offset, self._clock.monotonic() + self._timeout_s, callback))
            if not self._requested:
                self.request()

    def complete(self, flushed: int) -> None:
        """Everything below ``flushed`` is durable: let readers see it, then answer who waited."""
        if self._failed is not None:
            return
        if flushed > self._positions.flushed:
            self._positions.flushed = flushed
        self._on_flushed()
        waiting = self._waiting
        while waiting and waiting[0][0] <= flushed:
            waiting.popleft()[2](PutStatus.PUT_OK)

    def expire(self) -> None:
        """Answer FLUSH_DISK_TIMEOUT to those who waited too long; the message stays stored."""
        now = self._clock.monotonic()
        waiting = self._waiting
        while waiting and waiting[0][1] <= now:
            waiting.popleft()[2](PutStatus.FLUSH_DISK_TIMEOUT)

    def fail(self, error: BaseException) -> None:
        """Poisoned: answer everybody with a failure. On the writer thread."""
        self._failed = error
        while self._waiting:
            self._waiting.popleft()[2](PutStatus.UNKNOWN_ERROR)

    def stop(self) -> None:
        """End the thread. Nothing is flushed by this; see `flush_all`."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def sync_log(self) -> None:
        """While the thread does not run: sync the log and complete who waits. Raises OSError: fatal."""
        self._sync_log()
        self.complete(self._synced)

    def write_checkpoint(self, capture: Capture) -> None:
        """While the thread does not run: sync the derived files and write the checkpoint. Raises OSError: fatal."""
        if self._captured is not None:
            # Taken before the thread stopped: its files are in no later capture.
            self._sync_paths(self._captured.paths)
            self._captured = None
        self._sync_derived(capture)
        self._on_checkpoint(capture)

    def _run(self) -> None:
        is_sync = self._positions.is_sync
        next_flush = self._clock.monotonic() + self._flush_interval_s
        next_checkpoint = self._clock.monotonic() + self._checkpoint_interval_s
        try:
            while True:
                with self._wake:
                    if not self._requested and not self._stopping and self._captured is None:
                        self._wake.wait(max(0.0, min(next_flush, next_checkpoint) - self._clock.monotonic()))
                    if self._stopping:
                        return
                    requested, self._requested = self._requested, False
                    capture, self._captured = self._captured, None
                now = self._clock.monotonic()
                if requested or is_sync or now >= next_flush:
                    next_flush = now + self._flush_interval_s
                    if self._sync_log():
                        self._post_complete(self._synced)
                        self._log.nudge_preparer()
                if capture is not None:
                    self._sync_derived(capture)
                    self._post(partial(self._on_checkpoint, capture))
                if now >= next_checkpoint:
                    next_checkpoint = now + self._checkpoint_interval_s
                    self._post(self._take_capture)
        except BaseException as error:  # noqa: BLE001 - whatever ends this thread must end the process (rules E8, E29)
            self._fatal(error)

    def _post_complete(self, flushed: int) -> None:
        self._post(lambda: self.complete(flushed))

    def _take_capture(self) -> None:
        # On the writer thread, between appends: a consistent cut through log, queues and index.
        if self._stopping or self._failed is not None:
            return
        self.expire()
        if self._captured is not None:
            return
        capture = self._capture()
        if capture is not None:
            with self._wake:
                self._captured = capture
                self._wake.notify()

    def _sync_log(self) -> bool:
        written = self._positions.written
        if written == self._synced:
            return False
        started = self._clock.monotonic()
        self._log.sync_to(self._synced, written)
        self._synced = written
        self.flush_count += 1
        self.last_flush_ms = (self._clock.monotonic() - started) * 1000
        return True

    def _sync_derived(self, capture: Capture) -> None:
        if capture.dispatched_offset > self._synced:
            # The queues name records that are not durable yet (ASYNC_FLUSH): the log goes first.
            self._sync_log()
            self._post_complete(self._synced)
        self._sync_paths(capture.paths)
        if not self._boundaries or capture.dispatched_offset - self._boundaries[-1] >= BOUNDARY_SPACING:
            self._boundaries.append(capture.dispatched_offset)
        verify_offset = max(
            (b for b in self._boundaries if b <= capture.dispatched_offset - VERIFY_SIZE),
            default=self._boundaries[0],
        )
        apache = ApacheCheckpoint(
            physic_timestamp_ms=capture.store_timestamp_ms,
            logics_timestamp_ms=capture.store_timestamp_ms,
            index_timestamp_ms=capture.index.end_ms,
            master_flushed_offset=capture.dispatched_offset,
            confirmed_offset=capture.dispatched_offset,
        )
        hint = RecoveryHint(
            consistent_offset=capture.dispatched_offset,
            verify_offset=min(verify_offset, capture.dispatched_offset),
            queue_count=capture.queue_count,
            unit_total=capture.unit_total,
            first_total=capture.first_total,
            index=capture.index,
        )
        self._checkpoint.write(apache, hint)
        self.checkpoint_offset = capture.dispatched_offset

    def _sync_paths(self, paths: list[Path]) -> None:
        distinct = dict.fromkeys(paths)
        if len(distinct) > PATH_COUNT_MANY:
            self._files.sync_all(self._root)
            return
        for path in distinct:
            self._sync_path(path)

    def _sync_path(self, path: Path) -> None:
        try:
            self._files.sync_file(path)
        except FileNotFoundError:
            # Retention or a topic deletion was faster; what is gone needs no sync.
            return
