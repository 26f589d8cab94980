"""Dead letters: messages that a group failed on for good, in its topic ``%DLQ%<group>``.

What was dealt with (sent again) is remembered as an offset of the tools' own group on that topic, so that whoever sends the rest
again tomorrow sends nothing twice, and no lag of the group itself grows by its dead letters.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

from rocketmq_client.admin.access import Access
from rocketmq_client.admin.messages import Messages
from rocketmq_client.admin.topics import Topics
from rocketmq_client.errors import NotFound, TopicNotFound
from rocketmq_client.messages import MessageView
from rocketmq_client.offsets import RemoteOffsets
from rocketmq_client.send_back import send_copy
from rocketmq_common import names
from rocketmq_common import properties as props
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import ResponseCode

# Traces of the way through retries; a copy starts over without them.
_TRACES = (
    props.PROPERTY_DELAY_LEVEL,
    props.PROPERTY_REAL_TOPIC,
    props.PROPERTY_REAL_QUEUE_ID,
    props.PROPERTY_RECONSUME_TIME,
    props.PROPERTY_MAX_RECONSUME_TIMES,
    props.PROPERTY_CONSUME_START_TIME,
    props.PROPERTY_MIN_OFFSET,
    props.PROPERTY_MAX_OFFSET,
    props.PROPERTY_TRANSACTION_PREPARED,
    props.PROPERTY_CLUSTER,
    props.PROPERTY_WAIT_STORE_OK,
    props.PROPERTY_POP_CK,
    props.PROPERTY_FIRST_POP_TIME,
    props.PROPERTY_DLQ_ORIGIN_TOPIC,
    props.PROPERTY_DLQ_ORIGIN_MESSAGE_ID,
)


@dataclass(frozen=True, slots=True)
class DeadLetterCount:
    """Dead letters of one group that still exist, those not yet sent again, and the ms time of the last (0: none)."""

    group: str
    count: int
    pending: int
    last_ms: int


def origin_topic(letter: MessageView) -> str:
    """The topic that the message was first sent to."""
    found = letter.properties
    return found.get(props.PROPERTY_DLQ_ORIGIN_TOPIC) or found.get(props.PROPERTY_RETRY_TOPIC) or letter.topic


class DeadLetters:
    """``admin.dead_letters``."""

    def __init__(self, access: Access, topics: Topics, messages: Messages) -> None:
        self._access = access
        self._topics = topics
        self._messages = messages

    async def groups(self) -> list[str]:
        """Groups that have a dead-letter topic."""
        prefix = names.DLQ_TOPIC_PREFIX
        return [t.removeprefix(prefix) for t in await self._topics.names(with_system=True) if names.is_dlq_topic(t)]

    async def count(self, group: str) -> DeadLetterCount:
        """How many there are; raises NotFound when the group never had any."""
        try:
            stats = await self._topics.stats(names.dlq_topic(group))
        except TopicNotFound as error:
            raise _none(group) from error
        handled = await self._handled([s.queue for s in stats])
        return DeadLetterCount(
            group,
            sum(s.max_offset - s.min_offset for s in stats),
            sum(s.max_offset - max(s.min_offset, handled.get(s.queue, 0)) for s in stats),
            max((s.last_update_ms for s in stats), default=0),
        )

    async def letters(self, group: str, *, pending_only: bool = False) -> AsyncIterator[MessageView]:
        """Every dead letter that exists now, queue by queue, the oldest first; raises NotFound, PermissionDenied.

        ``pending_only`` leaves out what was marked by `mark`.
        """
        try:
            stats = await self._topics.stats(names.dlq_topic(group))
        except TopicNotFound as error:
            raise _none(group) from error
        handled = await self._handled([s.queue for s in stats]) if pending_only else {}
        for queue_stats in stats:
            offset = max(queue_stats.min_offset, handled.get(queue_stats.queue, 0))
            while offset < queue_stats.max_offset:
                views, following = await self._messages.read(queue_stats.queue, offset)
                for view in views:
                    if view.queue_offset < queue_stats.max_offset:
                        yield view
                if following <= offset:
                    break  # nothing can be read there; the broker says no more
                offset = following

    async def mark(self, letter: MessageView) -> None:
        """Remember that ``letter`` and those before it in its queue are dealt with."""
        offsets = RemoteOffsets(self._access.instance, names.TOOLS_CONSUMER_GROUP)
        await offsets.commit({letter.queue: letter.queue_offset + 1}, wait=True)

    async def resend(self, group: str, letter: MessageView, *, topic: str | None = None) -> MessageQueue:
        """Send a dead letter again, with its deliveries counted from 0; where it went.

        Only ``group`` gets it, unless ``topic`` names a topic, for example `origin_topic`, whose groups then all get it.
        Raises TopicNotFound, BrokerUnavailable, RequestTimeout, RequestRefused.
        """
        properties = {name: value for name, value in letter.properties.items() if name not in _TRACES}
        if topic is None:
            target = names.retry_topic(group)
            properties[props.PROPERTY_RETRY_TOPIC] = origin_topic(letter)
        else:
            target = topic
            properties.pop(props.PROPERTY_RETRY_TOPIC, None)
            properties.pop(props.PROPERTY_ORIGIN_MESSAGE_ID, None)
        return await send_copy(self._access.instance, letter, target, properties)

    async def _handled(self, queues: list[MessageQueue]) -> dict[MessageQueue, int]:
        offsets = RemoteOffsets(self._access.instance, names.TOOLS_CONSUMER_GROUP)
        return {queue: await offsets.fetch(queue) or 0 for queue in queues}


def _none(group: str) -> NotFound:
    return NotFound(ResponseCode.TOPIC_NOT_EXIST, f"group {group} has no dead letters", hint="see: rocketmq dlq ls")
