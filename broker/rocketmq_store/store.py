"""The message store of one broker: what the rest of the broker sees of it.

Composition only: the parts know their work, this module knows their order. All methods belong to the writer thread (the
event loop's) unless they say otherwise.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Callable, Container, Sequence
from pathlib import Path

from rocketmq_common.clock import Clock, SystemClock
from rocketmq_common.files import FileSystem, RealFiles
from rocketmq_store.appending import Appender, NewMessage
from rocketmq_store.batch_appending import BatchAppender
from rocketmq_store.captures import Capture, CaptureTaker
from rocketmq_store.checkpoint import Checkpoint
from rocketmq_store.commit_log import COMMIT_LOG_DIRECTORY, CommitLog
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.directory_lock import DirectoryLock
from rocketmq_store.dispatch import Dispatcher
from rocketmq_store.errors import StoreClosed, StoreCorrupt, StoreError, StoreMisconfigured
from rocketmq_store.flushing import DurableCallback, Flusher, Post
from rocketmq_store.following import LogFollower
from rocketmq_store.index import Index
from rocketmq_store.positions import Positions
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.reading import Accept, QueueReader
from rocketmq_store.recovery import Recovery, finish_truncation
from rocketmq_store.residency import ColdReader, Residency
from rocketmq_store.retention import CleanReport, DiskState, MayRemove, Retention, anything_goes
from rocketmq_store.searching import Boundary, Searcher, store_timestamp_of
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statistics import take_statistics
from rocketmq_store.statuses import (
    AppendResult,
    BatchResult,
    GetResult,
    PutStatus,
    QueryResult,
    QueueBounds,
    RecoveryReport,
    StoreStatistics,
)

_logger = logging.getLogger(__name__)

ABORT_FILE_NAME = "abort"
DEFAULT_STORE_HOST = b"\x7f\x00\x00\x01\x00\x00\x2a\x9f"
# A queue file takes two descriptors while mapped; this share of the process's limit goes to them.
MAPPED_QUEUE_COUNT_MAX = 8192
DESCRIPTOR_SHARE = 8


class MessageStore:
    """One store directory. Open it, use it from one thread, close it.

    ``post`` runs a function on the writer thread soon (``loop.call_soon_threadsafe``); ``fatal`` is called, from any thread, when
    the process must end because the disk failed. Until then every append is refused.
    """

    def __init__(
        self,
        settings: StoreSettings,
        *,
        post: Post,
        fatal: Callable[[BaseException], None],
        files: FileSystem | None = None,
        clock: Clock | None = None,
        store_host: bytes = DEFAULT_STORE_HOST,
    ) -> None:
        self.settings = settings
        self._files = files if files is not None else RealFiles()
        self._clock = clock if clock is not None else SystemClock()
        self._post = post
        self._report_fatal = fatal
        self._root = Path(settings.root)
        self._lock: DirectoryLock | None = None
        self._is_open = False
        self._poison: BaseException | None = None
        self._on_progress: Callable[[], None] | None = None
        self._refusals: dict[str, AppendResult] = {}
        self._disk_used_ratio = 0.0
        self._is_building = False

        problem = settings.problem()
        if problem:
            raise StoreMisconfigured(problem)
        is_sync = settings.is_sync_flush
        soft_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        mapped_limit = max(16, min(MAPPED_QUEUE_COUNT_MAX, soft_limit // DESCRIPTOR_SHARE))
        self.positions = Positions(is_sync=is_sync)
        self.residency = Residency(self.positions, self._clock)
        self.cold_reader = ColdReader(post)
        self._log = CommitLog(
            self._files, self._root / COMMIT_LOG_DIRECTORY, settings.commit_log_segment_size, self._clock, self.positions,
            self.residency, zero_ahead=is_sync, message_size_max=settings.message_size_max, fatal=self._fatal,
        )  # fmt: skip
        self._queues = QueueTable(self._files, self._root, settings.queue_segment_units, mapped_limit, self.residency)
        self._index = Index(self._files, self._root, settings.index_slot_count, settings.index_entry_count, self._clock)
        self._captures = CaptureTaker(self._queues, self._index, self.positions, self._clock)
        self._dispatcher = Dispatcher(
            self._queues,
            self._index,
            self.positions,
            index_enabled=settings.index_enable,
            on_index_stalled=self._on_index_stalled,
            fatal=self._fatal,
        )
        self._appender = Appender(
            self._log, self._queues, self.positions, self._dispatcher, settings, self._clock, store_host, fatal=self._fatal
        )  # fmt: skip
        # Bound methods, so that the hot calls have no layer in between.
        self.append: Callable[[NewMessage], AppendResult] = self._appender.append
        self.append_plain = self._appender.append_plain
        batches = BatchAppender(self._appender)
        self.append_batch: Callable[[NewMessage], BatchResult] = batches.append_batch
        self.append_batches: Callable[[Sequence[NewMessage]], Sequence[BatchResult]] = batches.append_batches
        # How a slave stores what its master sends.
        self.follower = LogFollower(self._log, self._queues, self.positions, self._dispatcher, settings)
        self._reader = QueueReader(self._log, self._queues, self.positions, self.residency, settings)
        self._searcher = Searcher(self._log, self.positions, self.residency, self._dispatcher)
        self._checkpoint: Checkpoint | None = None
        self._flusher: Flusher | None = None
        self._retention: Retention | None = None

    # Life.

    def open(self) -> RecoveryReport:
        """Lock the directory, recover, start the I/O threads. Blocks; call it before serving.

        Raises StoreLocked, StoreMisconfigured, StoreCorrupt, or StoreError when the disk refuses; nothing is changed that a
        later open could not finish.
        """
        if self._is_open:
            raise StoreError(f"store {self._root} is already open")
        try:
            return self._open()
        except OSError as error:
            self._release()
            raise StoreError(f"store {self._root} cannot be opened: {error}") from error
        except BaseException:
            self._release()
            raise

    def close(self) -> None:
        """Flush everything, write the checkpoint, mark the exit clean. Idempotent. Raises StoreError if the disk fails."""
        if not self._is_open:
            return
        self.refuse("closed", PutStatus.SERVICE_NOT_AVAILABLE, "store is closed")
        self._is_open = False
        flusher = self._flusher
        assert flusher is not None
        flusher.stop()
        try:
            if self._poison is None:
                flusher.sync_log()
                while self._index.pending and self._dispatcher.build_index() and self._dispatcher.index_failure is None:
                    pass
                flusher.write_checkpoint(self._captures.take_final())
                if self.positions.dispatched == self.positions.written:
                    self._files.remove(self._root / ABORT_FILE_NAME)
        except OSError as error:
            self._fatal(error)
            raise StoreError(f"store {self._root} could not be closed cleanly: {error}") from error
        finally:
            self._release()

    def abandon(self) -> None:
        """End the threads and free the directory without flushing or marking the exit clean: as after a crash.

        For tests, and for a process that must end after `fatal`. What was written stays with the kernel.
        """
        self.refuse("closed", PutStatus.SERVICE_NOT_AVAILABLE, "store is closed")
        self._is_open = False
        if self._flusher is not None:
            self._flusher.stop()
        self._release()

    # Writing. These are bound to the appenders' methods:
    # append(NewMessage) -> AppendResult: store one message. Never raises for a message or a full disk: see the status.
    # append_plain(topic, queue_id, …) -> (physical offset, queue offset): `append` without rare cases; None there: use `append`.
    # append_batch(NewMessage) -> BatchResult: store a client batch, all or nothing, with consecutive queue offsets.
    # append_batches(batches) -> results: the same for several, each on its own; batches that are alike cost much less together.

    def append_despite_full_disk(self, message: NewMessage) -> AppendResult:
        """`append`, even while a nearly full disk is the reason to refuse: for what must move so that files can go."""
        is_full = self._refusals.keys() == {"disk"}
        return self._appender.append_past_refusal(message) if is_full else self.append(message)

    def when_durable(self, end_offset: int, callback: DurableCallback) -> None:
        """Call ``callback(status)`` once the log is durable up to ``end_offset``: at once with ASYNC_FLUSH, after the sync with
        SYNC_FLUSH (PUT_OK, FLUSH_DISK_TIMEOUT after `syncFlushTimeout`, UNKNOWN_ERROR when the disk failed).
        """
        if not self.positions.is_sync:
            callback(PutStatus.PUT_OK)
            return
        if self._flusher is None:
            raise StoreClosed(f"store {self._root} is not open")
        self._flusher.wait_durable(end_offset, callback)

    def flush(self) -> None:
        """Ask the flush thread to sync soon."""
        if self._flusher is not None:
            self._flusher.request()

    def confirm(self, offset: int) -> None:
        """Bound what readers see to what replicas have: log offset ``offset``; UNBOUNDED lifts the bound."""
        self.positions.confirm(offset)
        self._dispatcher.advance()

    def build_index(self, count_max: int = 0) -> int:
        """Index some of the messages that wait for it; return how many are left. For a moment when the loop is idle."""
        return self._dispatcher.build_index(count_max)

    def set_writeable(self, is_writeable: bool, reason: str = "broker is not writeable") -> None:
        """Refuse appends with SERVICE_NOT_AVAILABLE (a slave, an operator's wish), or take them again."""
        if is_writeable:
            self._lift("broker")
        else:
            self.refuse("broker", PutStatus.SERVICE_NOT_AVAILABLE, reason)

    def refuse(self, cause: str, status: PutStatus, reason: str) -> None:
        """Answer every append with ``status`` until `lift_refusal` of the same ``cause``; other causes stand beside it."""
        self._refusals[cause] = self._appender.refusal = AppendResult(status, reason=reason)

    def lift_refusal(self, cause: str) -> None:
        """Take appends again as far as this ``cause`` goes; nothing to lift is fine."""
        self._lift(cause)

    @property
    def on_progress(self) -> Callable[[], None] | None:
        """Called on the writer thread whenever there are new log bytes that cannot vanish in the flush mode: after each append
        with ASYNC_FLUSH, after each flush with SYNC_FLUSH. It must be cheap and not append.
        """
        return self._on_progress

    @on_progress.setter
    def on_progress(self, callback: Callable[[], None] | None) -> None:
        self._on_progress = callback
        self._appender.on_append = None if self.positions.is_sync else callback

    @property
    def pending_dispatch_count(self) -> int:
        """Stored messages that are not visible yet."""
        return len(self._dispatcher.pending)

    @property
    def log_min_offset(self) -> int:
        """First byte of the log that is still there."""
        return self._log.min_offset

    def set_store_host(self, store_host: bytes) -> None:
        """Address and port that new records name as theirs."""
        self._appender.set_store_host(store_host)

    # Reading.

    def get_messages(
        self,
        topic: str,
        queue_id: int,
        offset: int,
        count_max: int,
        bytes_max: int = 1 << 30,
        tags_codes: Container[int] | None = None,
        accept: Accept | None = None,
    ) -> GetResult:
        """Messages of a queue from ``offset`` on, within Apache's transfer limits.

        ``tags_codes`` filters by queue entry alone; ``accept(tags_code, record)`` sees each record that passed.
        """
        return self._reader.get_messages(topic, queue_id, offset, count_max, bytes_max, tags_codes, accept)

    def queue(self, topic: str, queue_id: int) -> ConsumeQueue:
        """The queue, made in memory if it does not exist: for its `watcher`, `end` and `min_offset`."""
        return self._queues.create(topic, queue_id)

    def queue_bounds(self, topic: str, queue_id: int) -> QueueBounds | None:
        """First and end offset of a queue; ``None`` when nothing was ever stored in it."""
        queue = self._queues.get(topic, queue_id)
        return None if queue is None else QueueBounds(queue.min_offset, queue.end)

    def queue_ids(self, topic: str) -> list[int]:
        """Queues of a topic that the store knows, ascending."""
        return sorted(queue_id for name, queue_id in self._queues.by_key if name == topic)

    @property
    def queue_count(self) -> int:
        """Queues that the store knows."""
        return len(self._queues.by_key)

    def topics(self) -> set[str]:
        """Topics that have queues."""
        return {topic for topic, _ in self._queues.by_key}

    def message_at(self, physical_offset: int) -> memoryview | None:
        """The record at a commit log offset; ``None`` when none begins there or it is not visible."""
        return self._searcher.message_at(physical_offset)

    def query(
        self, topic: str, key: str, count_max: int, begin_ms: int = 0, end_ms: int = (1 << 63) - 1
    ) -> QueryResult:
        """Messages of a topic with this key or unique key, stored between the times, oldest first."""
        return self._searcher.query(topic, key, min(count_max, self.settings.query_count_max), begin_ms, end_ms)

    def offset_by_time(self, topic: str, queue_id: int, time_ms: int, boundary: Boundary = Boundary.LOWER) -> int:
        """LOWER: first offset stored at or after the time (the end if none); UPPER: last stored at or before it.

        Always within the queue's bounds; 0 for an unknown queue.
        """
        queue = self._queues.get(topic, queue_id)
        return 0 if queue is None else self._searcher.offset_by_time(queue, time_ms, boundary)

    def store_time(self, topic: str, queue_id: int, offset: int) -> int:
        """Store time of a message in ms; -1 when it is not there."""
        queue = self._queues.get(topic, queue_id)
        return -1 if queue is None else self._searcher.store_time(queue, offset)

    def earliest_store_time(self, topic: str | None = None, queue_id: int = 0) -> int:
        """Store time in ms of the oldest message of a queue, or of the whole log; -1 when there is none."""
        if topic is not None:
            bounds = self.queue_bounds(topic, queue_id)
            return -1 if bounds is None else self.store_time(topic, queue_id, bounds.min_offset)
        record = self._log.record_at(self._log.min_offset)
        return -1 if record is None else store_timestamp_of(record)

    def commit_log_slice(self, offset: int, size_max: int) -> memoryview | None:
        """Raw log bytes from ``offset``, written and within one segment (mqadmin, replication)."""
        return self._log.slice_from(offset, size_max)

    # Upkeep.

    def tick(self) -> None:
        """Answer FLUSH_DISK_TIMEOUT to senders whose sync takes too long. The broker calls it about once a second.

        The flush thread does so too, but not while it waits for the very sync that is slow.
        """
        if self._flusher is not None:
            self._flusher.expire()

    def delete_topic(self, topic: str) -> int:
        """Remove the queues of a topic with their files; its records expire with the log. Returns the number of queues."""
        count = self._queues.delete_topic(topic)
        self._dispatcher.forget_topic(topic)
        if count:
            # Without a checkpoint that knows, the next recovery would take the queues for lost and rebuild them.
            self._queues.has_changed = True
        return count

    def clean(self, now_ms: int, *, is_manual: bool = False, may_remove: MayRemove = anything_goes) -> CleanReport:
        """One round of retention and disk checks; the broker calls it every `cleanResourceInterval`.

        ``is_manual``: an operator asked, so expired files go whatever the hour (`deleteWhen`). ``may_remove(end)`` is asked
        before a log segment that ends there goes; False keeps it until the next round.
        """
        if self._retention is None:
            raise StoreClosed(f"store {self._root} is not open")
        report = self._retention.clean(now_ms, is_manual=is_manual, may_remove=may_remove)
        self._disk_used_ratio = report.used_percent / 100
        if report.disk_state is DiskState.FULL:
            self.refuse(
                "disk",
                PutStatus.SERVICE_NOT_AVAILABLE,
                f"disk of {self._root} is {report.used_percent} % full, "
                f"diskSpaceWarningLevelRatio is {self.settings.disk_warning_percent}",
            )
        else:
            self._lift("disk")
        if report.removed_queue_segments or report.removed_index_files:
            self._queues.has_changed = True
        return report

    def statistics(self) -> StoreStatistics:
        """A snapshot."""
        return take_statistics(
            log=self._log,
            positions=self.positions,
            queues=self._queues,
            dispatcher=self._dispatcher,
            appender=self._appender,
            reader=self._reader,
            cold_reader=self.cold_reader,
            flusher=self._flusher,
            disk_used_ratio=self._disk_used_ratio,
            earliest_store_time_ms=self.earliest_store_time(),
        )

    # Inside.

    def _open(self) -> RecoveryReport:
        files, root, settings = self._files, self._root, self.settings
        files.make_directory(root)
        self._lock = DirectoryLock(root)
        abort_path = root / ABORT_FILE_NAME
        is_unclean = abort_path in files.list(root)
        is_unclean |= finish_truncation(files, root, self._log.directory, settings.commit_log_segment_size)
        self._log.load()
        self._checkpoint = Checkpoint(files, root)
        self._queues.load()
        is_index_usable = self._index.load()
        recovery = Recovery(
            files=files,
            root=root,
            log=self._log,
            queues=self._queues,
            index=self._index,
            is_index_usable=is_index_usable,
            checkpoint=self._checkpoint,
            settings=settings,
            clock=self._clock,
            is_unclean=is_unclean,
        )
        # From here on a crash leaves work behind.
        files.replace(abort_path, str(os.getpid()).encode(), backup=False)
        try:
            report = recovery.run()
        except StoreCorrupt:
            if not is_unclean:
                # Refused, not used: the next start must judge the same state by the same rules.
                files.remove(abort_path)
            raise
        self.positions.start_at(recovery.end_offset, recovery.store_timestamp_ms)
        self.residency.written_from = recovery.end_offset
        self._flusher = Flusher(
            log=self._log, positions=self.positions, checkpoint=self._checkpoint, files=files, root=root, clock=self._clock,
            post=self._post, fatal=self._fatal, capture=self._capture,
            on_flushed=self._on_flushed, on_checkpoint=self._on_checkpoint,
            flush_interval_ms=settings.flush_interval_ms,
            checkpoint_interval_ms=settings.flush_queue_interval_ms,
            timeout_ms=settings.sync_flush_timeout_ms,
        )  # fmt: skip
        self._flusher.write_checkpoint(self._captures.take_final())
        self._log.start(recovery.end_offset)
        self._retention = Retention(files, self._clock, self._log, self._queues, self._index, self.positions, settings)
        self._flusher.start()
        self._is_open = True
        self._appender.refusal = next(iter(self._refusals.values()), None)
        for note in report.notes:
            _logger.warning("store %s: %s", root, note)
        return report

    def _release(self) -> None:
        self.cold_reader.stop()
        self._log.close()
        self._queues.close()
        self._index.close()
        if self._checkpoint is not None:
            self._checkpoint.close()
            self._checkpoint = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _capture(self) -> Capture | None:
        if self._index.pending and not self._is_building:
            self._is_building = True
            self._post(self._build_slice)
        return self._captures.take()

    def _build_slice(self) -> None:
        # A slice per turn of the loop, so that what came in since the last second is indexed without a pause.
        self._is_building = False
        if self._is_open and self._dispatcher.build_index() and self._dispatcher.index_failure is None:
            self._is_building = True
            self._post(self._build_slice)

    def _fatal(self, error: BaseException) -> None:
        """The disk failed or a thread of ours died. Any thread; the first error counts."""
        if self._poison is not None:
            return
        self._poison = error
        self.refuse("disk failed", PutStatus.UNKNOWN_ERROR, f"store failed: {error}")
        _logger.critical("store %s failed, the process must end", self._root, exc_info=error)
        flusher = self._flusher
        try:
            if flusher is not None:
                self._post(lambda: flusher.fail(error))
        finally:
            self._report_fatal(error)

    def _on_flushed(self) -> None:
        self._dispatcher.advance()
        if self._on_progress is not None and self.positions.is_sync:
            self._on_progress()

    def _on_checkpoint(self, capture: Capture) -> None:
        self._index.mark_ends(capture.index.end_ms)

    def _lift(self, cause: str) -> None:
        if self._refusals.pop(cause, None) is not None and self._is_open:
            self._appender.refusal = next(iter(self._refusals.values()), None)

    def _on_index_stalled(self, error: OSError | None) -> None:
        if error is None:
            self._lift("index")
        else:
            self.refuse("index", PutStatus.SERVICE_NOT_AVAILABLE, f"the index cannot grow: {error}")
