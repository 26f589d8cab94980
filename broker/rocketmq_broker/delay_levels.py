"""Delay levels as a rewriting of messages: a delayed message is stored in the schedule topic, one queue per level, and carries
where it really belongs in REAL_TOPIC and REAL_QID (HookUtils.handleScheduleMessage, ScheduleMessageService)."""

from __future__ import annotations

from typing import NamedTuple

from rocketmq_common import names
from rocketmq_common.properties import (
    PROPERTY_DELAY_LEVEL,
    PROPERTY_REAL_QUEUE_ID,
    PROPERTY_REAL_TOPIC,
    PROPERTY_TIMER_DELAY_MS,
    PROPERTY_TIMER_DELAY_SEC,
    PROPERTY_TIMER_DELIVER_MS,
    append_property,
    find_property,
    remove_property,
)

TIMER_PROPERTIES = (PROPERTY_TIMER_DELIVER_MS, PROPERTY_TIMER_DELAY_MS, PROPERTY_TIMER_DELAY_SEC)


class Placement(NamedTuple):
    """Where a message is stored, with the properties it has there."""

    topic: str
    queue_id: int
    properties: str


def delay_level(properties: str) -> int:
    """The DELAY property; 0 without one. Raises ValueError when it is no number."""
    text = find_property(properties, PROPERTY_DELAY_LEVEL)
    if text is None:
        return 0
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{PROPERTY_DELAY_LEVEL} property {text!r} is no delay level") from None


def schedule(topic: str, queue_id: int, properties: str, level: int, level_max: int) -> Placement:
    """The place in the schedule topic of a message for (``topic``, ``queue_id``) that waits for ``level`` (> 0)."""
    level = min(level, level_max)
    for name in (PROPERTY_DELAY_LEVEL, PROPERTY_REAL_TOPIC, PROPERTY_REAL_QUEUE_ID, *TIMER_PROPERTIES):
        properties = remove_property(properties, name)
    properties = append_property(properties, PROPERTY_DELAY_LEVEL, str(level))
    properties = append_property(properties, PROPERTY_REAL_TOPIC, topic)
    properties = append_property(properties, PROPERTY_REAL_QUEUE_ID, str(queue_id))
    return Placement(names.SCHEDULE_TOPIC, level - 1, properties)
