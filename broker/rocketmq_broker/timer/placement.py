"""Timer messages as a rewriting: a message with a due time is stored in the timer topic and carries where it really
belongs, as with delay levels (HookUtils.transformTimerMessage).

TIMER_OUT_MS is what Apache's broker knows of the time: the start of the slot before which it must not be delivered. The
exact time is kept in TIMER_DELIVER_MS, whatever property the sender used.
"""

from __future__ import annotations

from typing import Final

from rocketmq_broker.delay_levels import TIMER_PROPERTIES, Placement
from rocketmq_common import names
from rocketmq_common.properties import (
    PROPERTY_REAL_QUEUE_ID,
    PROPERTY_REAL_TOPIC,
    PROPERTY_TIMER_DELAY_MS,
    PROPERTY_TIMER_DELAY_SEC,
    PROPERTY_TIMER_DELIVER_MS,
    PROPERTY_TIMER_OUT_MS,
    append_property,
    find_property,
    remove_property,
)

TIMER_QUEUE_ID: Final = 0
PRECISIONS_MS: Final = (1000, 500, 200, 100)
_TIME_MAX: Final = (1 << 63) - 1


def precision_of(configured_ms: int) -> int:
    """Width of a slot in ms: the largest that Apache knows and that is not above the setting."""
    return next((precision for precision in PRECISIONS_MS if precision <= configured_ms), PRECISIONS_MS[-1])


def is_timer(properties: str) -> bool:
    """Whether a message wants to wait; one that has waited already (TIMER_OUT_MS) does not."""
    return any(find_property(properties, name) for name in TIMER_PROPERTIES) and not find_property(
        properties, PROPERTY_TIMER_OUT_MS
    )


def due_time(properties: str, now_ms: int) -> int:
    """The time in ms at which a timer message is due. Raises ValueError naming the property that is no number."""
    for name, unit_ms in (
        (PROPERTY_TIMER_DELAY_SEC, 1000),
        (PROPERTY_TIMER_DELAY_MS, 1),
        (PROPERTY_TIMER_DELIVER_MS, 0),
    ):
        text = find_property(properties, name)
        if text is not None:
            try:
                value = int(text)
            except ValueError:
                raise ValueError(f"property {name}: {text!r} is no number") from None
            due_ms = now_ms + value * unit_ms if unit_ms else value
            return min(due_ms, _TIME_MAX)
    raise ValueError("no timer property")


def slot_of(due_ms: int, precision_ms: int) -> int:
    """TIMER_OUT_MS of a message that is due then: the slot's start, strictly before the time (Apache's rounding)."""
    return (due_ms - 1) // precision_ms * precision_ms


def place_timer(topic: str, queue_id: int, properties: str, due_ms: int, precision_ms: int) -> Placement:
    """The place in the timer topic of a message for (``topic``, ``queue_id``)."""
    for name in (PROPERTY_TIMER_DELIVER_MS, PROPERTY_REAL_TOPIC, PROPERTY_REAL_QUEUE_ID):
        properties = remove_property(properties, name)
    for name, value in (
        (PROPERTY_TIMER_DELIVER_MS, due_ms),
        (PROPERTY_TIMER_OUT_MS, slot_of(due_ms, precision_ms)),
        (PROPERTY_REAL_TOPIC, topic),
        (PROPERTY_REAL_QUEUE_ID, queue_id),
    ):
        properties = append_property(properties, name, str(value))
    return Placement(names.TIMER_TOPIC, TIMER_QUEUE_ID, properties)


def exact_due(out_ms: int, deliver: str | None, precision_ms: int) -> int:
    """The due time of a message in the timer topic: its TIMER_DELIVER_MS if within its slot, else the slot's end."""
    if deliver is not None and deliver.isdecimal() and out_ms < int(deliver) <= out_ms + precision_ms:
        return int(deliver)
    return out_ms + precision_ms


def recall_key(topic: str, unique_key: str) -> str:
    """TIMER_DEL_UNIQKEY of the message that takes back another one."""
    return f"{topic}+{unique_key}"
