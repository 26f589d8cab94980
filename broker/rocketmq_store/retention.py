"""What is deleted and when sends are refused: expiry by age, by the hour and by how full the disk is.

Segments go from the oldest, never the last one, a bounded number per round. The decision is `plan`, without effects; queues
and index follow once the log has moved on. Rules: apache/rocketmq CleanCommitLogService (storage.md section 7).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from enum import IntEnum

import msgspec

from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_store.commit_log import CommitLog
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.index import Index
from rocketmq_store.positions import Positions
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.settings import StoreSettings

_logger = logging.getLogger(__name__)

HOUR_MS = 3_600_000
# The wall clock may gain this much on the monotonic one between two rounds before expiry by age pauses for an hour.
CLOCK_JUMP_MS = HOUR_MS
# Queues brought up to date per round, so that tens of thousands of them do not stop the writer.
QUEUE_COUNT_PER_ROUND = 2000


MayRemove = Callable[[int], bool]


def anything_goes(_: int) -> bool:
    """Nobody needs the segment that ends at this log offset."""
    return True


class DiskState(IntEnum):
    """How full the disk is, each level including the measures of those before."""

    NORMAL = 0
    CLEAN_EXPIRED = 1
    CLEAN_FORCIBLY = 2
    FULL = 3


class CleanReport(msgspec.Struct, frozen=True):
    """What one round of cleaning did."""

    disk_state: DiskState
    used_percent: int
    removed_segments: int = 0
    removed_bytes: int = 0
    removed_queue_segments: int = 0
    removed_index_files: int = 0
    # Segments that went although they were not old enough, because the disk demanded it.
    removed_unexpired: int = 0


def used_percent(total: int, available: int) -> int:
    """Share of the disk in use, rounded up to a percent."""
    return 0 if total <= 0 else -(-100 * (total - available) // total)


def disk_state(percent: int, settings: StoreSettings) -> DiskState:
    """The state at ``percent``; the settings are clamped to Apache's ranges."""
    if percent > min(max(settings.disk_warning_percent, 35), 90):
        return DiskState.FULL
    if percent > min(max(settings.disk_clean_forcibly_percent, 30), 85):
        return DiskState.CLEAN_FORCIBLY
    if percent > min(max(settings.disk_max_used_percent, 10), 95):
        return DiskState.CLEAN_EXPIRED
    return DiskState.NORMAL


def is_cleaning_hour(delete_when: str, now_ms: int) -> bool:
    """The local hour is one of those in ``delete_when`` (two digits, separated by ``;``)."""
    hour = time.localtime(now_ms / 1000).tm_hour
    return any(word.strip().isdecimal() and int(word) == hour for word in delete_when.split(";"))


def plan(
    modified_ms: list[int],
    settings: StoreSettings,
    state: DiskState,
    now_ms: int,
    *,
    by_age: bool,
    is_manual: bool = False,
) -> tuple[int, int]:
    """(segments to remove from the oldest, how many of them are not expired) given all segments' modification times.

    ``is_manual``: an operator asked for it, so the hour does not matter.
    """
    reserved_ms = settings.file_reserved_hours * HOUR_MS
    is_hour = is_manual or is_cleaning_hour(settings.delete_when, now_ms)
    is_due = by_age and (is_hour or state >= DiskState.CLEAN_EXPIRED)
    is_forced = state >= DiskState.CLEAN_FORCIBLY and settings.clean_file_forcibly_enable
    count = unexpired = 0
    for modified in modified_ms[:-1][: settings.delete_file_batch_max]:
        is_expired = now_ms - modified >= reserved_ms
        if not (is_due and is_expired) and not is_forced:
            break
        count += 1
        unexpired += not is_expired
    return count, unexpired


class Retention:
    """Executes `plan`. Used by the writer thread only."""

    def __init__(
        self,
        files: FileSystem,
        clock: Clock,
        log: CommitLog,
        queues: QueueTable,
        index: Index,
        positions: Positions,
        settings: StoreSettings,
    ) -> None:
        self._files = files
        self._clock = clock
        self._log = log
        self._queues = queues
        self._index = index
        self._positions = positions
        self._settings = settings
        self._cleaned_min_offset = log.min_offset
        self._unvisited: Iterator[ConsumeQueue] | None = None
        self._last_wall_ms = clock.now_ms()
        self._last_monotonic = clock.monotonic()
        self._age_paused_until = 0.0

    def clean(self, now_ms: int, *, is_manual: bool, may_remove: MayRemove) -> CleanReport:
        """One round. Raises OSError when files cannot be removed."""
        total, available = self._files.usage(self._log.directory)
        percent = used_percent(total, available)
        state = disk_state(percent, self._settings)
        by_age = self._is_clock_steady(now_ms)
        removed, removed_bytes, unexpired = self._clean_log(
            state, now_ms, by_age=by_age, is_manual=is_manual, may_remove=may_remove
        )
        removed_queue_segments, removed_index_files = self._follow()
        return CleanReport(
            disk_state=state,
            used_percent=percent,
            removed_segments=removed,
            removed_bytes=removed_bytes,
            removed_queue_segments=removed_queue_segments,
            removed_index_files=removed_index_files,
            removed_unexpired=unexpired,
        )

    def _clean_log(
        self, state: DiskState, now_ms: int, *, by_age: bool, is_manual: bool, may_remove: MayRemove
    ) -> tuple[int, int, int]:
        log = self._log
        durable = [s for s in log.segments if s.end <= min(self._positions.flushed, self._positions.dispatched)]
        candidates = [*durable[: self._settings.delete_file_batch_max], None]
        modified = [self._files.modified_ms(s.path) if s is not None else now_ms for s in candidates]
        count, unexpired = plan(modified, self._settings, state, now_ms, by_age=by_age, is_manual=is_manual)
        count = max(min(count, len(log.segments) - 1), 0)
        for number in range(count):
            if not may_remove(log.segments[0].end):
                count = number
                break
            segment = log.remove_first()
            _logger.info(
                "removed commit log segment %s: %s, disk state %s", segment.path, _reason(state, unexpired), state.name
            )
        return count, count * log.segment_size, min(unexpired, count)

    def _follow(self) -> tuple[int, int]:
        log_min_offset = self._log.min_offset
        removed_index_files = 0
        if self._unvisited is None and log_min_offset > self._cleaned_min_offset:
            self._cleaned_min_offset = log_min_offset
            self._unvisited = iter(list(self._queues.by_key.values()))
            removed_index_files = self._index.remove_expired(log_min_offset)
        removed = 0
        if self._unvisited is not None:
            for _ in range(QUEUE_COUNT_PER_ROUND):
                queue = next(self._unvisited, None)
                if queue is None:
                    self._unvisited = None
                    break
                if self._queues.by_key.get((queue.topic, queue.queue_id)) is queue:
                    queue.correct_min_offset(log_min_offset)
                    removed += queue.remove_expired(log_min_offset)
        return removed, removed_index_files

    def _is_clock_steady(self, now_ms: int) -> bool:
        # A clock that jumps ahead by days would make everything look expired at once (rule E15).
        monotonic = self._clock.monotonic()
        gained_ms = (now_ms - self._last_wall_ms) - (monotonic - self._last_monotonic) * 1000
        self._last_wall_ms, self._last_monotonic = now_ms, monotonic
        if gained_ms > CLOCK_JUMP_MS:
            self._age_paused_until = monotonic + HOUR_MS / 1000
            _logger.warning("the clock jumped ahead by %d s: expiry by age pauses for an hour", gained_ms // 1000)
        return monotonic >= self._age_paused_until


def _reason(state: DiskState, unexpired: int) -> str:
    return f"disk nearly full ({unexpired} of this round not expired)" if unexpired else "expired"
