"""What a consumer holds of one assigned queue: messages delivered but not yet done, and where to go on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from rocketmq_client.messages import MessageView
from rocketmq_remoting.bodies import MessageQueue

LOCK_LIFE_MS = 30_000  # after which a lock not renewed counts as lost here; the broker keeps it for 60 s


class ProcessQueue:
    """Only the event loop touches it. ``position`` is what may be committed: everything below is done."""

    def __init__(self, queue: MessageQueue, offset: int, *, committed: int = -1) -> None:
        self.queue = queue
        self.next_offset = offset  # to pull
        self.committed = committed
        self.messages: dict[int, MessageView] = {}  # ascending, for pulls come in order
        self.started: dict[int, float] = {}  # monotonic time at which a message went to the listener
        self.bytes_held = 0
        self.is_dropped = False
        self.is_confirmed = False  # a pull was answered, so the broker accepts the offset
        self.is_at_end = False  # the last answer reached what its broker then held
        self.locked_until = 0.0
        self.last_pull_ms = 0
        self.last_consume_ms = 0
        self.room = asyncio.Event()
        self.room.set()
        self.arrived = asyncio.Event()
        self.pull_task: asyncio.Task[None] | None = None

    @property
    def position(self) -> int:
        """The lowest offset that is not done."""
        return next(iter(self.messages), self.next_offset)

    @property
    def span(self) -> int:
        """Distance of the lowest and the highest message held: how much may come twice after a crash."""
        return self.next_offset - self.position if self.messages else 0

    @property
    def is_locked(self) -> bool:
        """Whether the broker's lock is certainly held."""
        return time.monotonic() < self.locked_until

    def locked(self) -> None:
        """The broker has just confirmed the lock."""
        self.locked_until = time.monotonic() + LOCK_LIFE_MS / 1000

    def put(self, messages: Iterable[MessageView]) -> None:
        """Take pulled messages."""
        for message in messages:
            self.messages[message.queue_offset] = message
            self.bytes_held += message.size
        if self.messages:
            self.arrived.set()

    def remove(self, offset: int) -> MessageView | None:
        """A message is done; ``None`` when it was not held (any more)."""
        message = self.messages.pop(offset, None)
        self.started.pop(offset, None)
        if message is not None:
            self.bytes_held -= message.size
            self.room.set()
        return message

    def first(self) -> MessageView | None:
        """The lowest message held."""
        return next(iter(self.messages.values()), None)

    def drop(self) -> None:
        """The queue is no longer ours: end the pull, wake whoever waits."""
        self.is_dropped = True
        self.room.set()
        self.arrived.set()
        if self.pull_task is not None and self.pull_task is not asyncio.current_task():
            self.pull_task.cancel()
