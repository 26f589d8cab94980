"""Long polling: pulls that wait for a message of their queue.

A queue with waiting pulls has a watcher, which the append calls once per message that becomes visible; it only asks the loop for
one look at the queue's pulls, so a burst of messages is delivered in one answer, before the loop waits for sockets again. A look
each `RECHECK_MS` covers whatever made no noise (a deleted and recreated queue).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from rocketmq_broker.filters.subscriptions import MessageFilter
from rocketmq_broker.held_requests import HeldRequest, HeldRequests
from rocketmq_broker.queue_watchers import unwatch, watch
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection
from rocketmq_remoting.headers.pull import PullMessageRequestHeader
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.store import MessageStore

HELD_PULLS_MAX: Final = 100_000
RECHECK_MS: Final = 5000

Key = tuple[str, int]


class HeldPull(HeldRequest):
    """One waiting pull. ``offset`` moves on over messages that the filter did not want, so that none is looked at twice."""

    __slots__ = ("header", "offset", "queue", "wanted")

    def __init__(
        self,
        connection: Connection,
        command: Command,
        header: PullMessageRequestHeader,
        offset: int,
        wanted: MessageFilter,
    ) -> None:
        super().__init__(connection, command)
        self.header = header
        self.offset = offset
        self.wanted = wanted
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


class HeldPulls(HeldRequests[HeldPull]):
    """The table of all waiting pulls. ``answer`` tries to answer one and says whether it did; ``give_up`` answers in any case."""

    def __init__(
        self, store: MessageStore, answer: Callable[[HeldPull], bool], give_up: Callable[[HeldPull], None]
    ) -> None:
        super().__init__()
        self._store = store
        self._answer = answer
        self._answer_anyway = give_up
        self._queues: dict[Key, QueueWaiters] = {}

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
        self._keep(pull, timeout_ms)
        if waiters.watched is None:
            self._watch(waiters)
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

    def _give_up(self, held: HeldPull) -> None:
        self._answer_anyway(held)

    def _take_out(self, held: HeldPull) -> bool:
        waiters = held.queue
        if waiters is None or waiters.pulls.pop(held, held) is held:
            return False
        if not waiters.pulls and waiters.watched is not None:
            unwatch(waiters.watched, waiters)
            waiters.watched = None
        return True
