"""What a broker does by the clock: writing tables, indexing behind the append, retention, forgetting silent clients."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.locks import QueueLocks
from rocketmq_broker.clients.producers import Producers
from rocketmq_common.clock import Clock
from rocketmq_common.tasks import TaskRegistry
from rocketmq_store.retention import MayRemove
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

EXPIRY_SCAN_MS: Final = 10_000
# Index notes are worked off in slices, so that no send notices: small ones (50 µs) while few are there, because then each send is
# waited for; about as long as the work of one read (0.3 ms) when many come.
INDEX_IDLE_TICK_S: Final = 0.1
INDEX_BUSY_TICK_S: Final = 0.005
INDEX_SLICE: Final = 96
INDEX_SMALL_SLICE: Final = 24
INDEX_FEW: Final = 128


def forgiving(action: Callable[[], Awaitable[None]], what: str) -> Callable[[], Awaitable[None]]:
    """``action``, with a failing disk logged instead of ending the broker: the next round tries again."""

    async def attempt() -> None:
        try:
            await action()
        except OSError as error:
            logger.error("%s cannot be written: %s; tried again at the next interval", what, error)

    return attempt


class ClientExpiry:
    """Closes connections whose clients have been silent; closing is what unregisters them."""

    def __init__(self, producers: Producers, consumers: Consumers, locks: QueueLocks) -> None:
        self._producers = producers
        self._consumers = consumers
        self._locks = locks

    def scan(self) -> None:
        """One round."""
        for member in (*self._producers.expired(), *self._consumers.expired()):
            if not member.connection.is_closed:
                logger.warning(
                    "client %s at %s sent no heartbeat, its connection is closed", member.client_id, member.address
                )
                member.connection.close("no heartbeat")
            self._producers.drop(member.connection)
            self._consumers.drop(member.connection)
        self._locks.remove_expired()


class IndexBuilder:
    """Works off the store's index notes between other work, and measures on its ticks how late the loop is."""

    def __init__(self, store: MessageStore, on_lag: Callable[[float], None], tasks: TaskRegistry) -> None:
        self._store = store
        self._on_lag = on_lag
        self._tasks = tasks

    def start(self) -> None:
        """Begin; a failure of the index ends the broker."""
        self._tasks.start(self._run(), "index builder", critical=True)

    async def _run(self) -> None:
        store, tick_s = self._store, INDEX_IDLE_TICK_S
        while True:
            due = monotonic() + tick_s
            await asyncio.sleep(tick_s)
            self._on_lag((monotonic() - due) * 1000)
            left = store.build_index(INDEX_SMALL_SLICE)
            # While messages come, little and often: a heap of notes would be worked off in one go, and sends would wait.
            tick_s = INDEX_BUSY_TICK_S if left else INDEX_IDLE_TICK_S
            state = (0, 0)
            while left and state != (left, store.positions.written):
                # Sockets and timers get their turn between two slices. A full disk leaves notes and log where they are.
                state = (left, store.positions.written)
                await asyncio.sleep(0)
                left = store.build_index(INDEX_SLICE if left > INDEX_FEW else INDEX_SMALL_SLICE)


class Retention:
    """Asks the store to remove what has expired and to look at the disk."""

    def __init__(self, store: MessageStore, clock: Clock, may_remove: MayRemove) -> None:
        self._store = store
        self._clock = clock
        self._may_remove = may_remove

    def round(self, *, is_manual: bool = False) -> None:
        """One round; an operator's does not wait for the hour of `deleteWhen`."""
        report = self._store.clean(self._clock.now_ms(), is_manual=is_manual, may_remove=self._may_remove)
        if report.removed_segments:
            logger.info("retention removed %d commit log segments", report.removed_segments)
