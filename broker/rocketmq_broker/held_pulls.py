"""Long polling: pulls that wait for a message of their queue.

A queue with waiting pulls has a watcher, which the append calls once per message that becomes visible; it only asks the loop for
one look at the queue's pulls, so a burst of messages is delivered in one answer, before the loop waits for sockets again. A look
each `RECHECK_MS` covers whatever made no noise (a deleted and recreated queue).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from rocketmq_broker.filters.subscriptions import MessageFilter
from rocketmq_broker.queue_watchers import unwatch, watch
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection
from rocketmq_remoting.headers.pull import PullMessageRequestHeader
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.store import MessageStore

HELD_PULLS_MAX: Final = 100_000
RECHECK_MS: Final = 5000
HOLD_MS_MAX: Final = 300_000

Key = tuple[str, int]


class HeldPull:
    """One waiting pull. ``offset`` moves on over messages that the filter did not want, so that none is looked at twice."""

    __slots__ = ("command", "connection", "header", "offset", "queue", "timer", "wanted")

    def __init__(
        self,
        connection: Connection,
        command: Command,
        header: PullMessageRequestHeader,
        offset: int,
        wanted: MessageFilter,
    ) -> None:
        self.connection = connection
        self.command = command
        self.header = header
        self.offset = offset
        self.wanted = wanted
        self.timer: asyncio.TimerHandle | None = None
        self.queue: QueueWaiters | None = None


class QueueWaiters:
    """The pulls that wait for one queue; an instance is the queue's watcher while there are any."""

    __slots__ = ("_call_soon", "_is_scheduled", "_look", "key", "pulls", "watched")

    def __init__(
        self, key: Key, call_soon: Callable[[Callable[[], None]], object], look: Callable[[QueueWaiters], None]
    ) -> None:
        self.key = key
        self.pulls: dict[HeldPull, None] = {}
        self.watched: ConsumeQueue | None = None
        self._call_soon = call_soon
        self._look = look
        self._is_scheduled = False

    def __call__(
        self, queue: ConsumeQueue, queue_offset: int, tags_code: int, store_timestamp_ms: int, physical_offset: int
    ) -> None:
        """A message became visible. Called from inside the append: must be short and must not append."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._look(self)


class HeldPulls:
    """The table of all waiting pulls. ``answer`` tries to answer one and says whether it did; ``give_up`` answers in any case."""

    def __init__(
        self, store: MessageStore, answer: Callable[[HeldPull], bool], give_up: Callable[[HeldPull], None]
    ) -> None:
        self._store = store
        self._answer = answer
        self._give_up = give_up
        self._loop = asyncio.get_running_loop()
        self._queues: dict[Key, QueueWaiters] = {}
        self._by_connection: dict[Connection, dict[HeldPull, None]] = {}
        self.count = 0

    def hold(self, pull: HeldPull, timeout_ms: int) -> bool:
        """Keep ``pull`` until a message, the timeout or the end of its connection; False when `HELD_PULLS_MAX` wait already."""
        if self.count >= HELD_PULLS_MAX:
            return False
        header = pull.header
        key = (header.topic, header.queue_id)
        waiters = self._queues.get(key)
        if waiters is None:
            waiters = self._queues[key] = QueueWaiters(key, self._loop.call_soon, self._look)
        waiters.pulls[pull] = None
        pull.queue = waiters
        self._by_connection.setdefault(pull.connection, {})[pull] = None
        self.count += 1
        if waiters.watched is None:
            self._watch(waiters)
        pull.timer = self._loop.call_later(min(max(timeout_ms, 0), HOLD_MS_MAX) / 1000, self._expire, pull)
        return True

    def recheck(self) -> None:
        """Look at every queue again, and forget those without waiting pulls."""
        for waiters in list(self._queues.values()):
            if waiters.pulls:
                self._look(waiters)
                if waiters.pulls:
                    self._watch(waiters)
            if not waiters.pulls:
                del self._queues[waiters.key]

    def wake_group(self, group: str) -> None:
        """Look at the pulls of a group, because something they must be told happened (a reset)."""
        for waiters in list(self._queues.values()):
            if any(pull.header.consumer_group == group for pull in waiters.pulls):
                self._look(waiters)

    def drop(self, connection: Connection) -> None:
        """The connection closed; its pulls are not answered."""
        for pull in self._by_connection.pop(connection, ()):
            self._remove(pull)

    def release_all(self) -> None:
        """Answer everything now."""
        for waiters in list(self._queues.values()):
            for pull in list(waiters.pulls):
                self._expire(pull)

    def _watch(self, waiters: QueueWaiters) -> None:
        queue = self._store.queue(*waiters.key)
        watch(queue, waiters)
        waiters.watched = queue

    def _look(self, waiters: QueueWaiters) -> None:
        answer = self._answer
        for pull in list(waiters.pulls):
            if answer(pull):
                self._forget(pull)

    def _expire(self, pull: HeldPull) -> None:
        self._forget(pull)
        self._give_up(pull)

    def _forget(self, pull: HeldPull) -> None:
        pulls = self._by_connection.get(pull.connection)
        if pulls is not None:
            pulls.pop(pull, None)
            if not pulls:
                del self._by_connection[pull.connection]
        self._remove(pull)

    def _remove(self, pull: HeldPull) -> None:
        if pull.timer is not None:
            pull.timer.cancel()
            pull.timer = None
        waiters = pull.queue
        if waiters is not None and waiters.pulls.pop(pull, pull) is None:
            self.count -= 1
            if not waiters.pulls and waiters.watched is not None:
                unwatch(waiters.watched, waiters)
                waiters.watched = None
