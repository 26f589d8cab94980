"""Recall: code 370 takes a timer message back before it is due (RecallMessageProcessor).

The recall is a message itself: stored in the timer topic for the same slot, it survives whatever its target survives.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.put_answers import RESPONSE_CODES, refusal
from rocketmq_broker.settings import BrokerRole, BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.placement import recall_key
from rocketmq_broker.timer.sending import TimerSender
from rocketmq_broker.topics import TopicTable
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.properties import (
    PROPERTY_BORN_TIMESTAMP,
    PROPERTY_PRODUCER_GROUP,
    PROPERTY_TAGS,
    PROPERTY_TIMER_DEL_UNIQUE_KEY,
    PROPERTY_TIMER_DELIVER_MS,
    PROPERTY_UNIQUE_KEY,
    encode_properties,
)
from rocketmq_common.recall_handles import decode_recall_handle
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Outcome, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.recall import RecallMessageRequestHeader, RecallMessageResponseHeader
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

RECALL_TAG: Final = "_RECALL_TAG_"
_BODY: Final = b"0"
_STORED: Final = frozenset(
    {PutStatus.PUT_OK, PutStatus.FLUSH_DISK_TIMEOUT, PutStatus.FLUSH_SLAVE_TIMEOUT, PutStatus.SLAVE_NOT_AVAILABLE}
)


class RecallProcessor:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        statistics: BrokerStatistics,
        clock: Clock,
        promise: SendPromise,
        timers: TimerSender,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._statistics = statistics
        self._clock = clock
        self._promise = promise
        self._timers = timers

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [Route(RequestCode.RECALL_MESSAGE, RecallMessageRequestHeader, self.recall)]

    def recall(self, connection: Connection, command: Command, header: RecallMessageRequestHeader) -> Outcome:
        """Store the recall; its message is not delivered, unless it was already."""
        message, unique_key = self._message(connection, header)
        result = self._store.append(message)
        counters = self._statistics.topic(names.TIMER_TOPIC)
        if result.status is not PutStatus.PUT_OK:
            counters.put_failed += 1
            raise refusal(result.status, result.reason)
        counters.note_put(len(_BODY))
        answer = RecallMessageResponseHeader(msg_id=unique_key)
        if self._promise.is_deferred:
            self._promise.when_kept(result.end_offset, partial(_answer, connection, command, answer))
            return None
        return Response(ResponseCode.SUCCESS, answer)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _message(self, connection: Connection, header: RecallMessageRequestHeader) -> tuple[NewMessage, str]:
        """The recall as a message, and the unique key that it takes back. Raises RemotingError, with Apache's codes."""
        settings = self._settings
        now_ms = self._clock.now_ms()
        if not settings.recall_message_enable:
            raise RemotingError(
                ResponseCode.NO_PERMISSION, "recall failed, operation is forbidden: recallMessageEnable is false"
            )
        if settings.broker_role is BrokerRole.SLAVE:
            raise RemotingError(ResponseCode.SLAVE_NOT_AVAILABLE, "recall failed, this broker is a slave")
        if now_ms < settings.start_accept_send_request_time_stamp:
            raise RemotingError(ResponseCode.SERVICE_NOT_AVAILABLE, "recall failed, broker service not available")
        topic = header.topic
        if self._topics.get(topic) is None:
            raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"recall failed, the topic[{topic}] not exist")
        try:
            handle = decode_recall_handle(header.recall_handle)
        except ValueError as error:
            raise RemotingError(ResponseCode.ILLEGAL_OPERATION, str(error)) from error
        if handle.topic != topic:
            raise RemotingError(ResponseCode.ILLEGAL_OPERATION, f"recall failed, topic not match: {handle.topic}")
        if handle.broker_name != settings.broker_name:
            raise RemotingError(
                ResponseCode.ILLEGAL_OPERATION, f"recall failed, the message waits at broker {handle.broker_name}"
            )
        left_ms = handle.due_ms - now_ms
        if not 0 < left_ms < settings.timer_max_delay_sec * 1000:
            raise RemotingError(ResponseCode.ILLEGAL_OPERATION, f"recall failed, timestamp invalid: {left_ms} ms left")
        properties = encode_properties(
            {
                PROPERTY_TAGS: RECALL_TAG,
                PROPERTY_TIMER_DEL_UNIQUE_KEY: recall_key(topic, handle.unique_key),
                PROPERTY_UNIQUE_KEY: handle.unique_key,
                PROPERTY_TIMER_DELIVER_MS: str(handle.due_ms),
                PROPERTY_BORN_TIMESTAMP: str(now_ms),
                PROPERTY_PRODUCER_GROUP: header.producer_group or "",
            }
        )
        place = self._timers.place(topic, 0, properties)
        message = NewMessage(
            place.topic, place.queue_id, _BODY, place.properties.encode(), 0, 0, now_ms, connection.peer_host, 0
        )
        return message, handle.unique_key


def _answer(connection: Connection, command: Command, answer: RecallMessageResponseHeader, status: PutStatus) -> None:
    """Stored is good enough: the recall works from then on, whatever the replicas say."""
    if status in _STORED:
        connection.respond(command, Response(ResponseCode.SUCCESS, answer))
    else:
        connection.respond(
            command,
            Response(RESPONSE_CODES.get(status, ResponseCode.SYSTEM_ERROR), None, f"recall failed: {status.name}"),
        )
