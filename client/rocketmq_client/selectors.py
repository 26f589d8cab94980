"""Which queue a message goes to."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from random import randrange

from rocketmq_client.latency import FaultLatencies
from rocketmq_client.messages import Message
from rocketmq_common.hashing import java_hash
from rocketmq_remoting.bodies import MessageQueue

QueueSelector = Callable[[Sequence[MessageQueue], Message], MessageQueue]
"""Chooses one of the writeable queues, which come sorted as in the route."""


def by_hash(queues: Sequence[MessageQueue], key: str) -> MessageQueue:
    """Java's SelectMessageQueueByHash: ``abs(key.hashCode() % n)``, so that clients in both languages agree."""
    return queues[abs(java_hash(key)) % len(queues)]


def hash_selector(queues: Sequence[MessageQueue], message: Message) -> MessageQueue:
    """A `QueueSelector` that keeps messages of one sharding key in one queue."""
    return by_hash(queues, message.sharding_key)


class RoundRobin:
    """One queue after another, from a random start; brokers that just failed or are slow are skipped while others are left."""

    def __init__(self, faults: FaultLatencies | None = None) -> None:
        self._faults = faults
        self._index = randrange(1 << 20)

    def select(self, queues: Sequence[MessageQueue], avoid: Collection[str] = ()) -> MessageQueue:
        """The next queue, of a broker not in ``avoid`` if there is one."""
        count = len(queues)
        faults = self._faults
        fallback: MessageQueue | None = None
        for _ in range(count):
            self._index += 1
            queue = queues[self._index % count]
            if queue.broker_name in avoid:
                continue
            if faults is None or faults.is_available(queue.broker_name):
                return queue
            fallback = fallback or queue
        if fallback is not None:
            return fallback
        self._index += 1
        return queues[self._index % count]
