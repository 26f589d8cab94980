"""From the timer topic back to where a message belongs, or once more round: what is stored when a unit's time has
come."""

from __future__ import annotations

import logging
from typing import Final

from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.placement import TIMER_QUEUE_ID
from rocketmq_common import names
from rocketmq_common.properties import (
    PROPERTY_TIMER_DEL_UNIQUE_KEY,
    PROPERTY_TIMER_DEQUEUE_MS,
    PROPERTY_TIMER_ENQUEUE_MS,
    PROPERTY_TIMER_OUT_MS,
    PROPERTY_TIMER_ROLL_TIMES,
    PROPERTY_UNIQUE_KEY,
    append_property,
    find_property,
    remove_property,
)
from rocketmq_common.records import RecordError, decode_message, decode_messages, head_for
from rocketmq_common.sysflags import TRANSACTION_MASK
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import AppendResult, PutStatus
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

COPIES_MAX: Final = 64
# A store that answers so will never take this message.
_HOPELESS: Final = frozenset({PutStatus.MESSAGE_ILLEGAL, PutStatus.PROPERTIES_SIZE_EXCEEDED})
_SYS_FLAG_END: Final = 40


class TimerDelivery:
    """Appends to the store; False means: not now, try again."""

    def __init__(self, store: MessageStore, statistics: BrokerStatistics) -> None:
        self._store = store
        self._statistics = statistics

    def deliver(
        self, record: memoryview, properties: bytes, topic: str, queue_id: int, write_ms: int, now_ms: int
    ) -> bool:
        """Store the message of the timer topic in its real topic and queue. ``properties`` are those of ``record``."""
        # Properties stay as they are stored here, as with Apache's broker: TIMER_OUT_MS keeps it from being timed again.
        added = f"{PROPERTY_TIMER_ENQUEUE_MS}\x01{write_ms}\x02{PROPERTY_TIMER_DEQUEUE_MS}\x01{now_ms}\x02".encode()
        properties = properties + added if properties[-1:] == b"\x02" else properties + b"\x02" + added
        sys_flag = int.from_bytes(record[_SYS_FLAG_END - 4 : _SYS_FLAG_END], "big")
        head = head_for(sys_flag)
        _, _, _, _, flag, _, _, _, born_ms, born_host, _, _, times, prepared, body_size = head.unpack_from(record)
        body = bytes(record[head.size : head.size + body_size])
        if sys_flag & TRANSACTION_MASK or not self._store.append_plain(
            topic, queue_id, body, properties, flag, sys_flag, born_ms, born_host, times
        ):
            message = NewMessage(
                topic, queue_id, body, properties, flag, sys_flag, born_ms, born_host, times, prepared
            )  # fmt: skip
            result = self._store.append(message)
            if result.status is not PutStatus.PUT_OK:
                return _is_hopeless(result)
        self._statistics.topic(topic).note_put(body_size)
        return True

    def put_again(self, record: memoryview, *, is_urgent: bool = False) -> bool:
        """Store the message in the timer topic once more. ``is_urgent``: also when the disk counts as full."""
        try:
            message = decode_message(record)
        except RecordError as error:
            logger.error("a timer message cannot be read and is skipped: %s", error)
            return True
        text = message.properties
        rolls = find_property(text, PROPERTY_TIMER_ROLL_TIMES) or "0"
        text = append_property(
            remove_property(text, PROPERTY_TIMER_ROLL_TIMES),
            PROPERTY_TIMER_ROLL_TIMES,
            str(int(rolls) + 1 if rolls.isdecimal() else 1),
        )
        append = self._store.append_despite_full_disk if is_urgent else self._store.append
        result = append(
            NewMessage(
                names.TIMER_TOPIC,
                TIMER_QUEUE_ID,
                message.body,
                text.encode(),
                message.flag,
                message.sys_flag,
                message.born_timestamp,
                message.born_host,
                message.reconsume_times,
                message.prepared_offset,
            )
        )
        return result.status is PutStatus.PUT_OK or _is_hopeless(result)

    def is_stored_after(self, topic: str, properties: bytes, physical_offset: int) -> bool:
        """Whether ``topic`` holds a copy, younger than the record at that log offset, of the timer message with these
        properties.

        A recall has the unique key of its message and is told apart by what it takes back.

        Asks the index; without one (`messageIndexEnable=false`) or without a unique key the answer is no.
        """
        text = properties.decode(errors="replace")
        key, out = find_property(text, PROPERTY_UNIQUE_KEY), find_property(text, PROPERTY_TIMER_OUT_MS)
        recalled = find_property(text, PROPERTY_TIMER_DEL_UNIQUE_KEY)
        if key is None or out is None:
            return False
        return any(
            found.physical_offset > physical_offset
            and find_property(found.properties, PROPERTY_TIMER_OUT_MS) == out
            and find_property(found.properties, PROPERTY_TIMER_DEL_UNIQUE_KEY) == recalled
            for record in self._store.query(topic, key, COPIES_MAX).records
            for found in decode_messages(record)
        )


def _is_hopeless(result: AppendResult) -> bool:
    if result.status in _HOPELESS:
        logger.error("a timer message is refused for good: %s", result.reason)
        return True
    return False
