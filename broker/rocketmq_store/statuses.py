"""Results of writing and reading, with the names of Java's PutMessageStatus and GetMessageStatus."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

import msgspec


class PutStatus(Enum):
    """What became of an append."""

    PUT_OK = auto()
    FLUSH_DISK_TIMEOUT = auto()
    FLUSH_SLAVE_TIMEOUT = auto()
    SLAVE_NOT_AVAILABLE = auto()
    SERVICE_NOT_AVAILABLE = auto()
    CREATE_MAPPED_FILE_FAILED = auto()
    MESSAGE_ILLEGAL = auto()
    PROPERTIES_SIZE_EXCEEDED = auto()
    OS_PAGE_CACHE_BUSY = auto()
    UNKNOWN_ERROR = auto()
    IN_SYNC_REPLICAS_NOT_ENOUGH = auto()
    LMQ_CONSUME_QUEUE_NUM_EXCEEDED = auto()

    @property
    def is_stored(self) -> bool:
        """The message is in the log, even if a stronger promise was not kept."""
        return self in _STORED


_STORED = frozenset(
    {
        PutStatus.PUT_OK,
        PutStatus.FLUSH_DISK_TIMEOUT,
        PutStatus.FLUSH_SLAVE_TIMEOUT,
        PutStatus.SLAVE_NOT_AVAILABLE,
    }
)


class GetStatus(Enum):
    """What a read of a queue found."""

    FOUND = auto()
    NO_MATCHED_MESSAGE = auto()
    MESSAGE_WAS_REMOVING = auto()
    OFFSET_FOUND_NULL = auto()
    OFFSET_OVERFLOW_BADLY = auto()
    OFFSET_OVERFLOW_ONE = auto()
    OFFSET_TOO_SMALL = auto()
    NO_MATCHED_LOGIC_QUEUE = auto()
    NO_MESSAGE_IN_QUEUE = auto()
    OFFSET_RESET = auto()


class AppendResult(msgspec.Struct, gc=False):
    """Outcome of one append. Offsets are valid only when ``status`` is PUT_OK.

    ``physical_offset`` is where the (first) record begins, ``end_offset`` the commit log byte after the (last) record: hand it to
    `MessageStore.when_durable`. ``queue_offset`` is the first message's.
    """

    status: PutStatus
    physical_offset: int = -1
    queue_offset: int = -1
    end_offset: int = -1
    store_timestamp_ms: int = 0
    reason: str = ""


class BatchResult(msgspec.Struct, gc=False):
    """Outcome of a batch append: as `AppendResult`, with the physical offset of each message in order."""

    status: PutStatus
    physical_offsets: Sequence[int] = ()
    queue_offset: int = -1
    end_offset: int = -1
    store_timestamp_ms: int = 0
    reason: str = ""


class GetResult(msgspec.Struct):
    """Messages of one queue, as slices of the mapped commit log.

    ``buffers`` hold whole records back to back; neighbours in the log are one buffer. They stay valid as long as they are
    referenced, even if retention removes the file. ``next_offset`` is where to read on.
    """

    status: GetStatus
    next_offset: int
    min_offset: int = 0
    max_offset: int = 0
    buffers: list[memoryview] = []
    message_count: int = 0
    size_bytes: int = 0
    # The reader is so far behind that its data has left memory: a slave should serve it (Java: suggestPullingFromSlave).
    is_cold: bool = False


class QueryResult(msgspec.Struct):
    """Records that carry a key, oldest first, with how far the index reaches."""

    records: list[memoryview]
    index_last_update_timestamp_ms: int
    index_last_update_physical_offset: int


class QueueBounds(msgspec.Struct, frozen=True):
    """First offset that can be read and the offset after the last one that is visible."""

    min_offset: int
    max_offset: int


class RecoveryReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `MessageStore.open` found and did."""

    mode: str  # "fresh", "clean" (no abort file) or "unclean"
    scanned_bytes: int
    truncated_bytes: int
    dispatched_count: int
    indexed_count: int
    rebuilt_queues: bool
    rebuilt_index: bool
    log_min_offset: int
    log_max_offset: int
    elapsed_ms: int
    notes: tuple[str, ...] = ()


class StoreStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """A snapshot for metrics, admin pages and tests. Offsets are commit log bytes."""

    log_min_offset: int
    written_offset: int
    flushed_offset: int
    confirmed_offset: int | None
    dispatched_offset: int
    # Everything below is durable in log, queues and index: where an unclean start begins.
    checkpoint_offset: int
    segment_count: int
    queue_count: int
    mapped_queue_segment_count: int
    put_message_count: int
    put_failed_count: int
    get_found_count: int
    get_missed_count: int
    get_message_count: int
    # Not delivered because a bad disk changed them; those that nobody asked for are not known.
    damaged_message_count: int
    # Reads that waited for the disk on an I/O thread, and their bytes.
    cold_read_count: int
    cold_read_bytes: int
    index_pending_count: int
    waiting_durable_count: int
    pending_dispatch_count: int
    flush_count: int
    last_flush_ms: float
    disk_used_ratio: float
    is_writeable: bool
    refusal_reason: str
    earliest_store_time_ms: int
