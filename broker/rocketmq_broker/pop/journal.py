"""The journal of pops: what must survive a kill besides the group's offset.

It stands in queue 0 of the revive topic, whose Apache records it leaves alone (`foreign`): messages with the tag ``pop`` and one
JSON array per line,

    ["p", group, topic, queue id, from, next, pop time, invisible ms, [offsets]]       handed out, or made invisible anew
    ["s", group, topic, queue id, [offsets]]                                           settled: acknowledged or revived
    ["q", group, topic, queue id, committed, next, [[pop time, invisible ms, [offsets]], …]]   the whole state of the queue

Everything of one turn of the event loop shares a message, stored in that same turn (as the op messages of transactions are): a
kill falls between two memory copies or finds the journal complete. ``from`` says up to where the journal knew the queue before, so
that a record that does not join on is noticed and its messages are popped again. Apache writes one or two messages through its
timer for each pop and each acknowledgement.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from rocketmq_broker.pop.flights import Flight, PopQueue
from rocketmq_common.clock import Clock
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

JOURNAL_QUEUE_ID: Final = 0
JOURNAL_TAG: Final = "pop"
POPPED: Final = "p"
SETTLED: Final = "s"
SNAPSHOT: Final = "q"
# Lines that the store refuses to take for now; with more, nothing is popped.
WAITING_LINES_MAX: Final = 100_000
RECORD_SIZE_MAX: Final = 65_536
RETRY_S: Final = 1.0
_PROPERTIES: Final = b"TAGS\x01pop\x02WAIT\x01false\x02"

_encode = msgspec.json.Encoder().encode
_Lines = list[bytes]


class Journal:
    """Writes the journal. Runs on the loop only."""

    def __init__(self, store: MessageStore, clock: Clock, topic: str) -> None:
        self._store = store
        self._clock = clock
        self.topic = topic
        self._loop = asyncio.get_running_loop()
        self._lines: _Lines = []
        self._settled: dict[PopQueue, list[int]] = {}
        self._opened: dict[PopQueue, None] = {}
        self._handle: asyncio.Handle | None = None

    @property
    def is_full(self) -> bool:
        """Nothing more can be noted for now."""
        return len(self._lines) >= WAITING_LINES_MAX

    @property
    def end(self) -> int:
        """Where the next record will stand."""
        return self._store.queue(self.topic, JOURNAL_QUEUE_ID).next_offset

    def note_popped(self, flight: Flight) -> None:
        """A flight departed."""
        queue = flight.queue
        self._add(
            queue,
            (POPPED, queue.group, queue.topic, queue.queue_id, queue.journaled_next, queue.next_offset,
             flight.pop_time_ms, flight.invisible_ms, flight.offsets),
        )  # fmt: skip
        queue.journaled_next = queue.next_offset

    def note_settled(self, queue: PopQueue, offset: int) -> None:
        """A message needs no further delivery."""
        offsets = self._settled.get(queue)
        if offsets is None:
            self._settled[queue] = [offset]
            if self._handle is None:
                self._handle = self._loop.call_soon(self.flush)
        else:
            offsets.append(offset)

    def note_state(self, queue: PopQueue) -> None:
        """Write all of a queue's state; its older records are not needed any more."""
        queue.journal_first = -1
        self._close_settled()
        flights = [(flight.pop_time_ms, flight.invisible_ms, flight.unsettled()) for flight in queue.flights()]
        self._add(
            queue, (SNAPSHOT, queue.group, queue.topic, queue.queue_id, queue.committed, queue.next_offset, flights)
        )
        queue.journaled_next = queue.next_offset
        queue.snapshot_ms = self._clock.now_ms()

    def flush(self) -> bool:
        """Store what waits; False when the store refuses: tried again soon."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._close_settled()
        lines = self._lines
        while lines:
            count, body = _body(lines)
            result = self._store.append(
                NewMessage(
                    self.topic, JOURNAL_QUEUE_ID, body, _PROPERTIES, born_timestamp_ms=self._clock.now_ms()
                )
            )  # fmt: skip
            if result.status is PutStatus.MESSAGE_ILLEGAL:
                logger.error("%d bytes of the pop journal are too large for the store: %s", len(body), result.reason)
            elif result.status is not PutStatus.PUT_OK:
                logger.warning("%d lines of the pop journal cannot be stored: %s", len(lines), result.reason)
                self._handle = self._loop.call_later(RETRY_S, self.flush)
                return False
            else:
                for queue in self._opened:
                    queue.journal_first = result.queue_offset
            self._opened.clear()
            del lines[:count]
        return True

    def first_needed(self, queues: Iterable[PopQueue]) -> int | None:
        """The first record that is still needed, `end` when none is; ``None`` while lines wait for the store."""
        if not self.flush():
            return None
        first = self.end
        for queue in queues:
            if queue.is_idle:
                queue.journal_first = -1
            elif 0 <= queue.journal_first < first:
                first = queue.journal_first
        return first

    def stop(self) -> None:
        """Store what waits as far as the store still takes it, and try no more."""
        self.flush()
        self.abandon()

    def abandon(self) -> None:
        """Forget what waits: as a kill does."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._lines.clear()
        self._settled.clear()
        self._opened.clear()

    def _add(self, queue: PopQueue, line: tuple[Any, ...]) -> None:
        self._lines.append(_encode(line))
        if queue.journal_first < 0:
            self._opened[queue] = None
        if self._handle is None:
            self._handle = self._loop.call_soon(self.flush)

    def _close_settled(self) -> None:
        for queue, offsets in self._settled.items():
            self._lines.append(_encode((SETTLED, queue.group, queue.topic, queue.queue_id, offsets)))
        self._settled.clear()


def _body(lines: _Lines) -> tuple[int, bytes]:
    """As many lines as fit `RECORD_SIZE_MAX` bytes, at least one: (how many, body)."""
    size = count = 0
    for line in lines:
        size += len(line) + 1
        if count and size > RECORD_SIZE_MAX:
            break
        count += 1
    return count, b"\n".join(lines[:count])
