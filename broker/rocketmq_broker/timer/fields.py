"""The properties by which the timer service knows a message."""

from __future__ import annotations

from typing import Final, NamedTuple

from rocketmq_broker.filters.record_properties import PropertyReader
from rocketmq_common import names
from rocketmq_common.properties import (
    PROPERTY_REAL_QUEUE_ID,
    PROPERTY_REAL_TOPIC,
    PROPERTY_TIMER_DEL_UNIQUE_KEY,
    PROPERTY_TIMER_DELIVER_MS,
    PROPERTY_TIMER_OUT_MS,
    PROPERTY_UNIQUE_KEY,
)

_READER: Final = PropertyReader(
    (
        PROPERTY_TIMER_OUT_MS,
        PROPERTY_TIMER_DELIVER_MS,
        PROPERTY_REAL_TOPIC,
        PROPERTY_UNIQUE_KEY,
        PROPERTY_TIMER_DEL_UNIQUE_KEY,
    )
)


class TimerFields(NamedTuple):
    """Values as stored. ``recalled``: set in a recall only, the key of what it takes back."""

    out: str | None
    deliver: str | None
    topic: str | None
    unique_key: str | None
    recalled: str | None


_PLACE: Final = PropertyReader((PROPERTY_REAL_TOPIC, PROPERTY_REAL_QUEUE_ID))


def real_place(properties: bytes) -> tuple[str, int]:
    """(topic, queue id) where a message belongs. Raises ValueError when it does not tell."""
    topic, queue = _PLACE.values(properties)
    if topic is None or queue is None or not queue.isdecimal() or topic == names.TRANS_HALF_TOPIC:
        raise ValueError(f"a timer message names no topic to go to ({topic}, {queue})")
    return topic, int(queue)


def timer_fields(properties: bytes) -> TimerFields:
    """Read them from a property string."""
    return TimerFields._make(_READER.values(properties))
