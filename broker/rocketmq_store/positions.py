"""How far the log has come, in one place: everything that decides what a reader may see.

``readable <= written`` and ``flushed <= written`` at all times. ``dispatched <= readable`` as well, except at a slave that
recovered a log of which no master has said yet that all of it stays: nothing is read there until `confirmed` reaches what was
dispatched.
Only the writer thread changes these fields; the flush thread reads ``written`` and hands its result back through the writer's
loop. A process that serves reads from the same files needs no more than this object and the ends of the queues.
"""

from __future__ import annotations

UNBOUNDED = (1 << 63) - 1


class Positions:
    """Commit log offsets in bytes."""

    __slots__ = ("confirmed", "dispatched", "flushed", "is_immediate", "is_sync", "store_timestamp_ms", "written")

    def __init__(self, *, is_sync: bool) -> None:
        self.is_sync = is_sync
        self.written = 0
        self.flushed = 0
        self.dispatched = 0
        # Replication lowers this bound to what enough replicas have; UNBOUNDED without replication.
        self.confirmed = UNBOUNDED
        # Of the last record: never goes back, because recovery and search by time rely on its order.
        self.store_timestamp_ms = 0
        # A record may become visible within its own append: nothing stands between written and readable.
        self.is_immediate = not is_sync

    @property
    def readable(self) -> int:
        """No reader, queue or index may see bytes from here on: they could still vanish in the chosen mode."""
        bound = self.flushed if self.is_sync else self.written
        return bound if bound < self.confirmed else self.confirmed

    def confirm(self, offset: int) -> None:
        """Set the replication bound; UNBOUNDED lifts it."""
        self.confirmed = offset
        self.is_immediate = not self.is_sync and offset == UNBOUNDED

    def start_at(self, offset: int, store_timestamp_ms: int) -> None:
        """Everything below ``offset`` was recovered, is durable and dispatched."""
        self.written = self.flushed = self.dispatched = offset
        self.store_timestamp_ms = store_timestamp_ms
