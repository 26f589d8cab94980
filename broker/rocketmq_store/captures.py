"""What a checkpoint will be able to say: a consistent cut through log, queues and index, taken between two appends.

The writer thread takes it, because only there nothing moves; the flush thread syncs the files it names and then writes the
checkpoint from it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from rocketmq_common.clock import Clock
from rocketmq_store.checkpoint import IndexHint
from rocketmq_store.index import Index
from rocketmq_store.positions import Positions
from rocketmq_store.queue_table import QueueTable

# Slots of the index are written at random, so that a sync of it costs more than the others; after an unclean end, what is
# younger than the last one is indexed again.
INDEX_SYNC_INTERVAL_S = 5.0
# With more dirty queues than this a checkpoint is taken only every few seconds, for each costs a sync per queue.
DIRTY_QUEUE_COUNT_MANY = 512
MANY_CHECKPOINT_INTERVAL_S = 10.0


class Capture(msgspec.Struct, frozen=True):
    """The derived files at one moment, taken on the writer thread: what to sync, and what is true once that succeeded."""

    dispatched_offset: int
    store_timestamp_ms: int
    paths: list[Path]
    queue_count: int
    unit_total: int
    first_total: int
    index: IndexHint


class CaptureTaker:
    """Remembers what earlier captures have handed out. Used by the writer thread only."""

    def __init__(self, queues: QueueTable, index: Index, positions: Positions, clock: Clock) -> None:
        self._queues = queues
        self._index = index
        self._positions = positions
        self._clock = clock
        self._last: Capture | None = None
        self._taken_at = 0.0
        self._index_synced_at = 0.0
        self._index_hint = IndexHint()

    def take(self) -> Capture | None:
        """A capture whose files the caller will sync; ``None`` when nothing has changed or it is too early."""
        queues, now = self._queues, self._clock.monotonic()
        if len(queues.dirty) > DIRTY_QUEUE_COUNT_MANY and now - self._taken_at < MANY_CHECKPOINT_INTERVAL_S:
            return None
        paths: list[Path] = []
        if queues.has_changed or now - self._index_synced_at >= INDEX_SYNC_INTERVAL_S:
            paths = self._take_index(now)
        last = self._last
        if (
            not queues.dirty
            and not queues.has_changed
            and last is not None
            and last.dispatched_offset == self._positions.dispatched
            and last.index == self._index_hint
        ):
            return None
        return self._take(paths, now)

    def take_final(self) -> Capture:
        """A capture of everything, at the start and the end of a store's life."""
        now = self._clock.monotonic()
        return self._take(self._take_index(now), now)

    def _take_index(self, now: float) -> list[Path]:
        before, after = self._index_hint, self._index.hint(self._positions.dispatched)
        self._index_synced_at = now
        self._index_hint = after
        if (before.file_name, before.count) == (after.file_name, after.count):
            return []
        return self._index.paths_changed_since(before.file_name)

    def _take(self, paths: list[Path], now: float) -> Capture:
        self._taken_at = now
        paths = paths + self._queues.take_dirty_paths()
        count, units, firsts = self._queues.totals()
        self._last = Capture(
            dispatched_offset=self._positions.dispatched,
            store_timestamp_ms=self._positions.store_timestamp_ms,
            paths=paths,
            queue_count=count,
            unit_total=units,
            first_total=firsts,
            index=self._index_hint,
        )
        return self._last
