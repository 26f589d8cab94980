"""What is in flight: messages that were handed out and are invisible until they are acknowledged or their time is over.

`PopQueue` is the state of one queue for one group, without I/O. Offsets between `committed` and `next_offset` are in flight,
revived but not yet safe on disk, or settled (acknowledged, revived, or not wanted by the filter). The group's stored offset is
`committed`: it only moves over settled messages, so whatever else is lost in a crash, no message is.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import Final

# Flights that are over stay in the heap until their time comes, or until they are more than half of it.
ENDED_FLIGHTS_MIN: Final = 1024


class Flight:
    """Messages of one queue that one pop handed out; ``count`` of them are not settled yet."""

    __slots__ = ("count", "due_ms", "invisible_ms", "offsets", "pop_time_ms", "queue")

    def __init__(self, queue: PopQueue, pop_time_ms: int, invisible_ms: int, offsets: list[int]) -> None:
        self.queue = queue
        self.pop_time_ms = pop_time_ms
        self.invisible_ms = invisible_ms
        self.due_ms = pop_time_ms + invisible_ms
        self.offsets = offsets
        self.count = len(offsets)

    def unsettled(self) -> list[int]:
        """The offsets that are still in this flight."""
        flying = self.queue.flying
        return [offset for offset in self.offsets if flying.get(offset) is self]


class PopQueue:
    """See the module. ``queue_offset``s throughout; only the loop uses it.

    ``journaled_next`` is how far the journal knows `next_offset`, ``journal_first`` the journal's first record that this queue
    still needs (-1: none), ``used_ms`` when it was last popped from.
    """

    __slots__ = (
        "committed",
        "flying",
        "group",
        "journal_first",
        "journaled_next",
        "next_offset",
        "queue_id",
        "revived",
        "snapshot_ms",
        "topic",
        "used_ms",
    )

    def __init__(self, group: str, topic: str, queue_id: int, offset: int, now_ms: int = 0) -> None:
        self.group = group
        self.topic = topic
        self.queue_id = queue_id
        self.committed = offset
        self.next_offset = offset
        self.journaled_next = offset
        self.journal_first = -1
        self.snapshot_ms = now_ms
        self.used_ms = now_ms
        self.flying: dict[int, Flight] = {}
        # Queue offset → log offset up to which the log must be safe before the stored offset may pass the message.
        self.revived: dict[int, int] = {}

    @property
    def is_idle(self) -> bool:
        """Everything handed out is settled."""
        return not self.flying and not self.revived

    def depart(self, flight: Flight, next_offset: int) -> None:
        """Messages were handed out; ``next_offset`` is where the next pop reads."""
        for offset in flight.offsets:
            self.flying[offset] = flight
        if next_offset > self.next_offset:
            self.next_offset = next_offset

    def skip_to(self, next_offset: int) -> None:
        """Messages up to here are not wanted by the filter."""
        if next_offset > self.next_offset:
            self.next_offset = next_offset
            self.advance()

    def land(self, offset: int, pop_time_ms: int) -> Flight | None:
        """Take a message out of the flight that the holder of a handle means; ``None`` when the handle is not valid any more."""
        flight = self.flying.get(offset)
        if flight is None or flight.pop_time_ms != pop_time_ms:
            return None
        del self.flying[offset]
        flight.count -= 1
        return flight

    def advance(self) -> bool:
        """Move `committed` over settled messages; whether it moved."""
        committed, end, flying, revived = self.committed, self.next_offset, self.flying, self.revived
        while committed < end and committed not in flying and committed not in revived:
            committed += 1
        if committed == self.committed:
            return False
        self.committed = committed
        return True

    def move_to(self, offset: int, *, restarts: bool = False) -> None:
        """The group's offset was set from outside.

        What a consumer that pulls committed within the range handed out is settled below ``offset``. Elsewhere, and with
        ``restarts``, everything begins anew there.
        """
        if not restarts and self.committed <= offset <= self.next_offset:
            gone = [flying for flying in self.flying if flying < offset]
        else:
            gone = list(self.flying)
            self.next_offset = offset
            self.revived.clear()
        for flying in gone:
            self.flying.pop(flying).count -= 1
        for revived in [revived for revived in self.revived if revived < offset]:
            del self.revived[revived]
        self.committed = offset
        self.advance()

    def forget_revived(self, safe_offset: int) -> None:
        """The log is safe up to ``safe_offset``: revived messages before it need no protection any more."""
        for offset in [offset for offset, end in self.revived.items() if end <= safe_offset]:
            del self.revived[offset]

    def flights(self) -> list[Flight]:
        """The flights that are still under way."""
        return list(dict.fromkeys(self.flying.values()))


class DueFlights:
    """Flights by the time when they are over."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Flight]] = []
        self._number = 0

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, flight: Flight, due_ms: int | None = None) -> bool:
        """Remember ``flight``; whether it is the next one now."""
        heap = self._heap
        self._number += 1
        entry = (flight.due_ms if due_ms is None else due_ms, self._number, flight)
        heappush(heap, entry)
        if self._number % ENDED_FLIGHTS_MIN == 0:
            live = [entry for entry in heap if entry[2].count]
            if 2 * len(live) < len(heap):
                heap[:] = live
                heapify(heap)
        return bool(heap) and heap[0] is entry

    def next_due_ms(self) -> int | None:
        """When the next flight is over; ``None`` without any."""
        heap = self._heap
        while heap and not heap[0][2].count:
            heappop(heap)
        return heap[0][0] if heap else None

    def pop_due(self, now_ms: int) -> Flight | None:
        """The next flight that is over by ``now_ms``."""
        due_ms = self.next_due_ms()
        return heappop(self._heap)[2] if due_ms is not None and due_ms <= now_ms else None
