"""What the send processor asks about timer messages: where they go, whether they may, and how they can be recalled."""

from __future__ import annotations

import msgspec

from rocketmq_broker.delay_levels import Placement
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.timer.placement import due_time, is_timer, place_timer, slot_of
from rocketmq_broker.timer.service import TimerService
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.properties import (
    PROPERTY_REAL_TOPIC,
    PROPERTY_TIMER_DEL_UNIQUE_KEY,
    PROPERTY_TIMER_DELIVER_MS,
    PROPERTY_UNIQUE_KEY,
    find_property,
)
from rocketmq_common.recall_handles import RecallHandle
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.errors import RemotingError


class TimerSender:
    """See the module."""

    def __init__(self, settings: BrokerSettings, timers: TimerService, clock: Clock) -> None:
        self._settings = settings
        self._timers = timers
        self._clock = clock

    def place(self, topic: str, queue_id: int, properties: str) -> Placement:
        """Where a message goes: to its own topic when it need not wait. Raises RemotingError with Apache's codes."""
        if not is_timer(properties):
            return Placement(topic, queue_id, properties)
        settings = self._settings
        if not settings.timer_wheel_enable:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, "accurate timer message is not enabled, timerWheelEnable is false"
            )
        now_ms = self._clock.now_ms()
        try:
            due_ms = due_time(properties, now_ms)
        except ValueError as error:
            raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, f"timer message illegal: {error}") from error
        if due_ms <= now_ms:
            if find_property(properties, PROPERTY_TIMER_DEL_UNIQUE_KEY):
                raise RemotingError(ResponseCode.MESSAGE_ILLEGAL, "timer message illegal: a recall in the past")
            return Placement(topic, queue_id, properties)
        if due_ms - now_ms > settings.timer_max_delay_sec * 1000:
            raise RemotingError(
                ResponseCode.MESSAGE_ILLEGAL,
                f"timer message illegal, the delay time should not be bigger than the max delay "
                f"{settings.timer_max_delay_sec * 1000}ms",
            )
        precision_ms = self._timers.precision_ms
        if self._timers.is_congested(slot_of(due_ms, precision_ms)):
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR,
                f"timer message is under flow control, slot limit: {settings.timer_congest_num_each_slot}",
            )
        return place_timer(topic, queue_id, properties, due_ms, precision_ms)

    def handle_field(self, properties: str) -> bytes:
        """The ``recallHandle`` part of the JSON answer to a message placed in the timer topic; empty without one."""
        topic = find_property(properties, PROPERTY_REAL_TOPIC)
        due = find_property(properties, PROPERTY_TIMER_DELIVER_MS)
        unique_key = find_property(properties, PROPERTY_UNIQUE_KEY)
        if topic is None or due is None or unique_key is None or names.is_retry_topic(topic):
            return b""
        handle = RecallHandle(topic, self._settings.broker_name, int(due), unique_key)
        return b',"recallHandle":' + msgspec.json.encode(handle.encode())
