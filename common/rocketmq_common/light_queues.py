"""Where a message stands beside its own queue: light message queues (LMQ; apache/rocketmq LmqDispatch, MixAll).

The property INNER_MULTI_DISPATCH names light queues, separated by commas; INNER_MULTI_QUEUE_OFFSET, which the broker adds, has the
message's offset in each, in the same order. Each is queue 0 of its name, and names begin with ``%LMQ%``.
"""

from __future__ import annotations

from rocketmq_common import names
from rocketmq_common.properties import PROPERTY_INNER_MULTI_DISPATCH, PROPERTY_INNER_MULTI_QUEUE_OFFSET, find_property

LIGHT_QUEUE_ID = 0
SEPARATOR = ","


def is_dispatched(topic: str) -> bool:
    """Whether messages of ``topic`` go to light queues: those in topics of the broker's own go there when they are delivered."""
    return not names.is_retry_topic(topic) and not names.is_system_topic(topic)


def light_places(topic: str, properties: str) -> dict[str, int]:
    """Offset by light queue of a stored message; empty for one that stands in none, or whose properties do not agree."""
    named = find_property(properties, PROPERTY_INNER_MULTI_DISPATCH)
    if not named or not is_dispatched(topic):
        return {}
    queues = named.split(SEPARATOR)
    offsets = (find_property(properties, PROPERTY_INNER_MULTI_QUEUE_OFFSET) or "").split(SEPARATOR)
    if len(queues) != len(offsets):
        return {}
    return {
        queue: int(offset)
        for queue, offset in zip(queues, offsets, strict=True)
        if names.is_light_queue(queue) and offset.isdecimal() and len(offset) <= 19
    }
