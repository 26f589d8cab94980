"""The op topic: which half messages are done with.

An op message has the tag ``d`` and a body of half queue offsets, each followed by a comma (TransactionalMessageServiceImpl;
before 5.0: one bare offset). Ends of one turn of the event loop share an op message, which is stored in that same turn: no timer
stands between a commit and the note of it, so a kill can only fall between two memory copies, and what it leaves there is found
by the index at the next start (`replay`). Apache collects for `transactionOpBatchInterval` and commits twice after a kill.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final

from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.transactions.half_messages import HALF_QUEUE_ID
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

REMOVE_TAG: Final = "d"
# Ends that could not be noted because the store refuses; with more, ends are refused too.
WAITING_MAX: Final = 100_000
RETRY_S: Final = 1.0
_PROPERTIES: Final = b"TAGS\x01d\x02WAIT\x01false\x02"


class Operations:
    """Writes op messages, and knows which of them are still needed. Runs on the loop only."""

    def __init__(self, settings: BrokerSettings, store: MessageStore, clock: Clock) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._waiting: list[int] = []
        self._handle: asyncio.Handle | None = None
        # (op queue offset, highest half offset in it), oldest first; as many as there are op messages behind the progress.
        self._needed: deque[tuple[int, int]] = deque()

    @property
    def is_full(self) -> bool:
        """No more ends can be noted for now."""
        return len(self._waiting) >= WAITING_MAX

    @property
    def waiting_count(self) -> int:
        """Ends that are not in the log yet."""
        return len(self._waiting)

    def add(self, half_offset: int) -> None:
        """The half message at this queue offset is done with; noted in the log before the loop's turn ends."""
        self._waiting.append(half_offset)
        if self._handle is None:
            self._handle = self._loop.call_soon(self.flush)

    def flush(self) -> bool:
        """Store what waits; False when the store refuses: tried again soon."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        waiting = self._waiting
        while waiting:
            count, body = _body(waiting, self._settings.transaction_op_msg_max_size)
            result = self._store.append(
                NewMessage(
                    names.TRANS_OP_HALF_TOPIC,
                    HALF_QUEUE_ID,
                    body,
                    _PROPERTIES,
                    born_timestamp_ms=self._clock.now_ms(),
                )
            )
            if result.status is not PutStatus.PUT_OK:
                logger.warning("%d ended transactions cannot be noted: %s", len(waiting), result.reason)
                self._handle = self._loop.call_later(RETRY_S, self.flush)
                return False
            self.note(result.queue_offset, waiting[:count])
            del waiting[:count]
        return True

    def note(self, op_offset: int, half_offsets: list[int]) -> None:
        """An op message stands in the log."""
        self._needed.append((op_offset, max(half_offsets, default=-1)))

    def first_offset(self, half_progress: int, end: int) -> int:
        """The first op message that says something about half messages from ``half_progress`` on; ``end`` when none does."""
        needed = self._needed
        while needed and needed[0][1] < half_progress:
            needed.popleft()
        return needed[0][0] if needed else end

    def stop(self) -> None:
        """Store what waits as far as the store still takes it, and try no more."""
        self.flush()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


def parse_operations(body: bytes) -> list[int]:
    """The half queue offsets of an op message; parts that are no number are left out, as in Apache."""
    return [int(part) for part in body.split(b",") if part.strip().isdigit()]


def _body(offsets: list[int], size_max: int) -> tuple[int, bytes]:
    """As many offsets as fit ``size_max`` bytes, at least one: (how many, body)."""
    parts: list[bytes] = []
    size = 0
    for offset in offsets:
        part = b"%d," % offset
        size += len(part)
        if parts and size > size_max:
            break
        parts.append(part)
    return len(parts), b"".join(parts)
