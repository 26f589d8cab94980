"""The store in numbers: one frozen snapshot for metrics, admin pages and tests."""

from __future__ import annotations

from rocketmq_store.appending import Appender
from rocketmq_store.commit_log import CommitLog
from rocketmq_store.dispatch import Dispatcher
from rocketmq_store.flushing import Flusher
from rocketmq_store.positions import UNBOUNDED, Positions
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.reading import QueueReader
from rocketmq_store.residency import ColdReader
from rocketmq_store.statuses import StoreStatistics


def take_statistics(
    *,
    log: CommitLog,
    positions: Positions,
    queues: QueueTable,
    dispatcher: Dispatcher,
    appender: Appender,
    reader: QueueReader,
    cold_reader: ColdReader,
    flusher: Flusher | None,
    disk_used_ratio: float,
    earliest_store_time_ms: int,
) -> StoreStatistics:
    """The snapshot of these parts; ``flusher`` is ``None`` before the store was opened."""
    refusal = appender.refusal
    return StoreStatistics(
        log_min_offset=log.min_offset,
        written_offset=positions.written,
        flushed_offset=positions.flushed,
        confirmed_offset=None if positions.confirmed == UNBOUNDED else positions.confirmed,
        dispatched_offset=positions.dispatched,
        segment_count=len(log.segments),
        queue_count=len(queues.by_key),
        mapped_queue_segment_count=len(queues.held),
        put_message_count=appender.put_count,
        put_failed_count=appender.failed_count,
        get_found_count=reader.found_count,
        get_missed_count=reader.missed_count,
        get_message_count=reader.message_count,
        damaged_message_count=reader.damaged_count,
        cold_read_count=cold_reader.read_count,
        cold_read_bytes=cold_reader.read_bytes,
        index_pending_count=len(dispatcher.index.pending),
        waiting_durable_count=flusher.waiting_count if flusher is not None else 0,
        pending_dispatch_count=len(dispatcher.pending),
        checkpoint_offset=flusher.checkpoint_offset if flusher is not None else 0,
        flush_count=flusher.flush_count if flusher is not None else 0,
        last_flush_ms=flusher.last_flush_ms if flusher is not None else 0.0,
        disk_used_ratio=disk_used_ratio,
        is_writeable=refusal is None,
        refusal_reason=refusal.reason if refusal is not None else "",
        earliest_store_time_ms=earliest_store_time_ms,
    )
