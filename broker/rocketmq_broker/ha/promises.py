"""When a stored message may be answered: the one place where flush and replication meet.

Processors ask `SendPromise` and know neither. Bytes that are not flushed with SYNC_FLUSH are never pushed to slaves, so what slaves
acknowledged is flushed here, and waiting for them is waiting for both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Protocol

from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

KeptCallback = Callable[[PutStatus], None]


class Replicated(Protocol):
    """The master's replication, as far as a promise needs it."""

    @property
    def is_awaited(self) -> bool:
        """Sends ask `when_replicated` before they are answered."""
        ...

    @property
    def is_synchronous(self) -> bool:
        """They wait for slaves."""
        ...

    def when_replicated(self, end_offset: int, callback: KeptCallback) -> None:
        """See `ReplicationMaster.when_replicated`."""
        ...


class SendPromise:
    """``is_deferred`` tells the hot path whether there is anything to wait for at all.

    ``when_kept(end_offset, callback)`` calls ``callback`` once, with PUT_OK when flush and replication mode are satisfied up to log
    offset ``end_offset``, else with what was not (FLUSH_DISK_TIMEOUT, FLUSH_SLAVE_TIMEOUT): the message is stored all the same.
    It is bound to whatever waits in the mode of now, so that a send pays for no layer in between.
    """

    def __init__(self, store: MessageStore) -> None:
        self._store = store
        self._is_flush_awaited = store.settings.is_sync_flush
        self._replicated: Replicated | None = None
        self.is_deferred = self._is_flush_awaited
        self.when_kept: Callable[[int, KeptCallback], None] = store.when_durable

    def follow(self, replicated: Replicated | None) -> None:
        """From now on sends wait for these replicas as well; ``None`` for nobody."""
        if replicated is None or not replicated.is_awaited:
            self._replicated = None
            self.when_kept = self._store.when_durable
        else:
            self._replicated = replicated
            self.when_kept = self._when_both if self._is_flush_awaited else replicated.when_replicated
        self.is_deferred = self._is_flush_awaited or self._replicated is not None

    def _when_both(self, end_offset: int, callback: KeptCallback) -> None:
        assert self._replicated is not None
        self._store.flush()
        if self._replicated.is_synchronous:
            self._replicated.when_replicated(end_offset, partial(self._blame, end_offset, callback))
        else:
            self._store.when_durable(end_offset, partial(self._ask, end_offset, callback))

    def _ask(self, end_offset: int, callback: KeptCallback, status: PutStatus) -> None:
        assert self._replicated is not None
        if status is PutStatus.PUT_OK:
            self._replicated.when_replicated(end_offset, callback)
        else:
            callback(status)

    def _blame(self, end_offset: int, callback: KeptCallback, status: PutStatus) -> None:
        if status is not PutStatus.PUT_OK and self._store.positions.flushed < end_offset:
            status = PutStatus.FLUSH_DISK_TIMEOUT
        callback(status)
