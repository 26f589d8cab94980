"""Light message queues (LMQ): queues in which messages of ordinary topics stand a second time, thousands of them at little cost.

The append notes in the message its offset in each of them (`rocketmq_common.light_queues`), so that they too can be built from the
log alone. Their entries point at the one record, which bears topic and queue of the message.
"""

from __future__ import annotations

from rocketmq_common import names
from rocketmq_common.light_queues import LIGHT_QUEUE_ID, SEPARATOR, is_dispatched, light_places
from rocketmq_common.properties import (
    PROPERTY_INNER_MULTI_DISPATCH,
    PROPERTY_INNER_MULTI_QUEUE_OFFSET,
    append_property,
    find_property,
    remove_property,
)
from rocketmq_store.consume_queues import ConsumeQueue
from rocketmq_store.queue_table import QueueTable
from rocketmq_store.scanning import Scanned, parse
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import PutStatus

DISPATCH = PROPERTY_INNER_MULTI_DISPATCH.encode()


class LightQueueRefused(Exception):
    """A message cannot stand in the light queues that it names."""

    def __init__(self, status: PutStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class LightQueues:
    """Finds the places of new messages. Used by the writer thread only."""

    def __init__(self, queues: QueueTable, settings: StoreSettings) -> None:
        self._queues = queues
        self._settings = settings
        # Not below the truth: deletions are noticed by counting again. Counted when first needed.
        self._count = settings.light_queue_count_max

    def place(self, topic: str, properties: bytes) -> tuple[bytes, list[tuple[ConsumeQueue, int]]]:
        """Where a new message will stand: properties that say so, and (queue, offset) of each. Takes nothing.

        Raises LightQueueRefused.
        """
        text = properties.decode(errors="replace")
        named = find_property(text, PROPERTY_INNER_MULTI_DISPATCH)
        if not named or not is_dispatched(topic):
            return properties, []
        places: dict[str, tuple[ConsumeQueue, int]] = {}
        offsets: list[str] = []
        for name in named.split(SEPARATOR):
            if not names.is_light_queue(name):
                # Apache has no place for it either, and a gap in the list.
                offsets.append("")
                continue
            queue = self._queue(name)
            places[name] = queue, queue.next_offset
            offsets.append(str(queue.next_offset))
        text = remove_property(text, PROPERTY_INNER_MULTI_QUEUE_OFFSET)
        text = append_property(text, PROPERTY_INNER_MULTI_QUEUE_OFFSET, SEPARATOR.join(offsets))
        return text.encode(), list(places.values())

    def _queue(self, name: str) -> ConsumeQueue:
        queue = self._queues.get(name, LIGHT_QUEUE_ID)
        if queue is not None:
            return queue
        if not self._queues.is_storable(name):
            raise LightQueueRefused(PutStatus.MESSAGE_ILLEGAL, f"light queue {name!r} cannot be stored")
        limit = self._settings.light_queue_count_max
        if self._count >= limit:
            self._count = sum(1 for queue in self._queues.by_key.values() if queue.is_light)
        if self._count >= limit:
            raise LightQueueRefused(
                PutStatus.LMQ_CONSUME_QUEUE_NUM_EXCEEDED,
                f"there are {self._count} light queues, maxLmqConsumeQueueNum is {limit}",
            )
        self._count += 1
        return self._queues.create(name, LIGHT_QUEUE_ID)


def stored_places(topic: bytes, properties: bytes) -> dict[str, int]:
    """`light_places` of the parts of a record."""
    if DISPATCH not in properties:
        return {}
    return light_places(topic.decode(errors="replace"), properties.decode(errors="replace"))


def is_light_record(view: memoryview, position: int, base: int, size: int, name: str, offset: int) -> bool:
    """Whether the record at ``position`` is whole, intact, ``size`` bytes long, and stands at ``offset`` of light queue ``name``.

    ``base`` is the log offset of the view; never raises for bad bytes.
    """
    if not 0 <= position < len(view):
        return False
    found = parse(view, position, base, check_crc=True)
    if not isinstance(found, Scanned) or found.size != size:
        return False
    return stored_places(found.topic, found.properties).get(name) == offset
