"""Several watchers of one queue: the store calls one, and pulls and pops of different groups wait for the same queue."""

from __future__ import annotations

from rocketmq_store.consume_queues import ConsumeQueue, Watcher


class Watchers:
    """A watcher that calls others, in the order in which they came."""

    __slots__ = ("members",)

    def __init__(self, members: tuple[Watcher, ...]) -> None:
        self.members = members

    def __call__(
        self, queue: ConsumeQueue, queue_offset: int, tags_code: int, store_timestamp_ms: int, physical_offset: int
    ) -> None:
        for member in self.members:
            member(queue, queue_offset, tags_code, store_timestamp_ms, physical_offset)


def watch(queue: ConsumeQueue, watcher: Watcher) -> None:
    """Have ``watcher`` called beside whoever watches already; once, however often this is asked."""
    present = queue.watcher
    if present is None:
        queue.watcher = watcher
    elif isinstance(present, Watchers):
        if watcher not in present.members:
            queue.watcher = Watchers((*present.members, watcher))
    elif present != watcher:
        queue.watcher = Watchers((present, watcher))


def unwatch(queue: ConsumeQueue, watcher: Watcher) -> None:
    """Undo `watch`; nothing to undo is fine."""
    present = queue.watcher
    if present == watcher:
        queue.watcher = None
    elif isinstance(present, Watchers):
        left = tuple(member for member in present.members if member != watcher)
        queue.watcher = left[0] if len(left) == 1 else Watchers(left) if left else None
