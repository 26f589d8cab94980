"""A send to a topic that does not exist: create it as its template says, then send.

Creating takes a disk write and a round to the name servers. Sends to the same topic that come meanwhile wait here and are carried
out in their order, before anything that is read later.
"""

from __future__ import annotations

from collections.abc import Callable
from types import CoroutineType
from typing import Any, Final

from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicLimitReached, TopicTable
from rocketmq_common import names
from rocketmq_common.topics import FLAG_UNIT_SUB, TopicConfig
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Outcome
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.send import SendMessageRequestHeader, SendMessageRequestHeaderV1

WAITING_SENDS_MAX: Final = 65_536

SendHeader = SendMessageRequestHeader | SendMessageRequestHeaderV1
SendHandler = Callable[[Connection, Command, Any], Outcome]


class TopicCreation:
    """Topics under creation, each with the sends that wait for it."""

    def __init__(self, topics: TopicTable, statistics: BrokerStatistics) -> None:
        self._topics = topics
        self._statistics = statistics
        self._pending: dict[str, list[tuple[SendHandler, Connection, Command, SendHeader]]] = {}

    def is_pending(self, topic: str) -> bool:
        """Whether the topic is being created: it may stand in the table already, but is not durable or not known yet."""
        return topic in self._pending

    def create_then(
        self, handler: SendHandler, connection: Connection, command: Command, header: SendHeader
    ) -> Outcome:
        """The outcome of a send to a missing topic: a coroutine for the first, ``None`` (answered later) for those that wait."""
        waiting = self._pending.get(header.topic)
        if waiting is None:
            self._pending[header.topic] = []
            return self._create_and_send(handler, connection, command, header)
        if len(waiting) >= WAITING_SENDS_MAX:
            raise RemotingError(
                ResponseCode.SYSTEM_BUSY,
                f"[OVERLOAD]system busy: {len(waiting)} sends wait for topic {header.topic} to be created",
            )
        waiting.append((handler, connection, command, header))
        return None

    async def _create_and_send(
        self, handler: SendHandler, connection: Connection, command: Command, header: SendHeader
    ) -> Response | None:
        problem: RemotingError | None = RemotingError(ResponseCode.SYSTEM_BUSY, "[OVERLOAD]system busy: broker stops")
        try:
            await self._create(header)
            problem = None
        except RemotingError as error:
            problem = error
        finally:
            # Before any handler runs: it would take the topic for one that is still being created.
            waiting = self._pending.pop(header.topic)
            if problem is not None:
                for waiter in waiting:
                    _resume(*waiter, problem)
        if problem is not None:
            raise problem
        if self._topics.get(header.topic) is None:
            problem = RemotingError(ResponseCode.SYSTEM_BUSY, "[OVERLOAD]system busy: the topic was removed meanwhile")
        # Not one await from here to the last of those that waited: a send that is read meanwhile must not overtake them.
        try:
            if problem is not None:
                raise problem
            outcome = handler(connection, command, header)
        finally:
            for waiter in waiting:
                _resume(*waiter, problem)
        return await settled(outcome)

    async def _create(self, header: SendHeader) -> None:
        topic = header.topic
        if self._topics.get(topic) is not None:
            return
        if names.is_retry_topic(topic):
            flag = FLAG_UNIT_SUB if header.unit_mode else 0
            config: TopicConfig | None = TopicConfig(
                topic_name=topic, read_queue_nums=1, write_queue_nums=1, topic_sys_flag=flag
            )
        else:
            config = self._topics.inherited(
                topic, header.default_topic, header.default_topic_queue_nums, unit_mode=header.unit_mode
            )
        if config is None:
            raise RemotingError(
                ResponseCode.TOPIC_NOT_EXIST,
                f"topic[{topic}] not exist, apply first please! Create it (updateTopic), or allow autoCreateTopicEnable.",
            )
        try:
            await self._topics.update(config)
        except TopicLimitReached as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, str(error)) from error
        except OSError as error:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"topic {topic} cannot be written to disk: {error}"
            ) from error
        self._statistics.auto_created_topic_count += 1


async def settled(outcome: Outcome) -> Response | None:
    """The outcome of a send that was tried again, in the form that a coroutine may return."""
    if isinstance(outcome, bytes):
        return Response(0, outcome)
    return outcome if outcome is None or isinstance(outcome, Response) else await outcome


def _resume(
    handler: SendHandler,
    connection: Connection,
    command: Command,
    header: SendHeader,
    problem: RemotingError | None,
) -> None:
    """Answer a send that waited for its topic."""
    try:
        if problem is not None:
            raise problem
        outcome = handler(connection, command, header)
    except RemotingError as error:
        outcome = Response(error.code, remark=error.remark)
    if isinstance(outcome, bytes):
        outcome = Response(0, outcome)
    if isinstance(outcome, Response):
        connection.respond(command, outcome)
    elif isinstance(outcome, CoroutineType):
        # The topic is gone again already.
        outcome.close()
        connection.respond(
            command, Response(ResponseCode.SYSTEM_BUSY, remark="[OVERLOAD]system busy: topic was removed")
        )
