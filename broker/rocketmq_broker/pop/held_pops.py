"""Long polling: pops and notifications that wait for a message.

Requests that want the same thing (group, queue, filter) stand in one line, and the first is served first: one message wakes one of
a thousand waiting consumers, not all. The queues of a topic and of its pop retry topics stay watched until a recheck finds nobody
waiting, because consumers that keep up come back at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from rocketmq_broker.held_requests import HeldRequest, HeldRequests
from rocketmq_broker.queue_watchers import unwatch, watch
from rocketmq_broker.settings import BrokerSettings
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection
from rocketmq_store.consume_queues import ConsumeQueue

# What a request wants: (kind, group, queue id, expression type, expression, ordered).
Line = tuple[str, str, int, str | None, str | None, bool]


class HeldPop(HeldRequest):
    """One waiting request. ``answer`` tries to serve it and says whether it did; ``give_up`` answers in any case."""

    __slots__ = ("answer", "give_up", "line", "waiters")

    def __init__(
        self,
        connection: Connection,
        command: Command,
        line: Line,
        answer: Callable[[], bool],
        give_up: Callable[[], None],
    ) -> None:
        super().__init__(connection, command)
        self.line = line
        self.answer = answer
        self.give_up = give_up
        self.waiters: TopicWaiters | None = None


class TopicWaiters:
    """Whatever waits for a topic; an instance watches its queues."""

    __slots__ = ("_call_soon", "_is_scheduled", "_look", "alarm", "lines", "queues", "topic")

    def __init__(
        self, topic: str, call_soon: Callable[[Callable[[], None]], object], look: Callable[[TopicWaiters], None]
    ) -> None:
        self.topic = topic
        self.lines: dict[Line, dict[HeldPop, None]] = {}
        self.queues: dict[ConsumeQueue, None] = {}
        self.alarm: asyncio.TimerHandle | None = None
        self._call_soon = call_soon
        self._look = look
        self._is_scheduled = False

    def __call__(
        self, queue: ConsumeQueue, queue_offset: int, tags_code: int, store_timestamp_ms: int, physical_offset: int
    ) -> None:
        """A message became visible. Called from inside the append: must be short and must not append."""
        self.wake()

    def wake(self) -> None:
        """Look at the lines before the loop waits for sockets again."""
        if self.lines and not self._is_scheduled:
            self._is_scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        self._is_scheduled = False
        self._look(self)


class HeldPops(HeldRequests[HeldPop]):
    """The table of all waiting requests."""

    def __init__(self, settings: BrokerSettings) -> None:
        super().__init__()
        self._settings = settings
        self._topics: dict[str, TopicWaiters] = {}

    def hold(self, held: HeldPop, topic: str, queues: Iterable[ConsumeQueue], timeout_ms: float) -> bool:
        """Keep a request until there is a message in one of ``queues``, the timeout, or the end of its connection.

        False when too many wait already (`popPollingSize` in the same line, `maxPopPollingSize` in all).
        """
        settings = self._settings
        waiters = self._topics.get(topic)
        if waiters is None:
            waiters = self._topics[topic] = TopicWaiters(topic, self._loop.call_soon, self._look)
        line = waiters.lines.setdefault(held.line, {})
        if len(line) >= settings.pop_polling_size or self.count >= settings.max_pop_polling_size:
            if not line:
                del waiters.lines[held.line]
            return False
        line[held] = None
        held.waiters = waiters
        self._keep(held, timeout_ms)
        for queue in queues:
            if queue not in waiters.queues:
                waiters.queues[queue] = None
                watch(queue, waiters)
        return True

    def waiting_count(self, group: str, topic: str, queue_id: int) -> int:
        """Requests of the group that wait for this queue id (-1: for any queue)."""
        waiters = self._topics.get(topic)
        if waiters is None:
            return 0
        return sum(len(line) for key, line in waiters.lines.items() if key[1] == group and key[2] == queue_id)

    def wake(self, topic: str) -> None:
        """Something other than an append made messages available."""
        waiters = self._topics.get(topic)
        if waiters is not None:
            waiters.wake()

    def wake_at(self, topic: str, wait_ms: float) -> None:
        """Look at the topic in ``wait_ms``: an ordered queue is free then."""
        waiters = self._topics.get(topic)
        if waiters is not None:
            due = self._loop.time() + max(wait_ms, 0) / 1000
            if waiters.alarm is None or waiters.alarm.when() > due or waiters.alarm.when() < self._loop.time():
                if waiters.alarm is not None:
                    waiters.alarm.cancel()
                waiters.alarm = self._loop.call_at(due, waiters.wake)

    def recheck(self) -> None:
        """Look at everything again (a deleted and recreated queue makes no noise), and leave topics that nobody waits for."""
        for topic, waiters in list(self._topics.items()):
            if waiters.lines:
                for queue in waiters.queues:
                    watch(queue, waiters)
                self._look(waiters)
            else:
                self._leave(waiters)
                del self._topics[topic]

    def release_all(self) -> None:
        """Answer everything now."""
        for waiters in list(self._topics.values()):
            for line in list(waiters.lines.values()):
                for held in list(line):
                    self._expire(held)
            self._leave(waiters)
        self._topics.clear()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _leave(self, waiters: TopicWaiters) -> None:
        for queue in waiters.queues:
            unwatch(queue, waiters)
        if waiters.alarm is not None:
            waiters.alarm.cancel()

    def _look(self, waiters: TopicWaiters) -> None:
        for line in list(waiters.lines.values()):
            while line:
                held = next(iter(line))
                if not held.answer():
                    # Those behind want the same.
                    break
                self._forget(held)

    def _give_up(self, held: HeldPop) -> None:
        held.give_up()

    def _take_out(self, held: HeldPop) -> bool:
        waiters = held.waiters
        if waiters is None or held not in (line := waiters.lines.get(held.line, {})):
            return False
        del line[held]
        if not line:
            del waiters.lines[held.line]
        return True
