"""Giving a message back for another delivery, or to the dead-letter topic when it had enough of them."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from random import choice

from rocketmq_client.errors import BrokerUnavailable, ClientError
from rocketmq_client.instance import ClientInstance
from rocketmq_client.messages import MessageView
from rocketmq_client.routes import MASTER_ID
from rocketmq_common import names, sysflags
from rocketmq_common import properties as props
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.headers.send import ConsumerSendMsgBackRequestHeader, SendMessageRequestHeader

logger = logging.getLogger(__name__)

SEND_BACK_TIMEOUT_MS = 5000
RETRY_DELAY_LEVEL_FIRST = 3  # 10 s for the first repetition
_KEPT_FLAGS = sysflags.COMPRESSED | sysflags.COMPRESSION_MASK


class SendBack:
    """For one group."""

    def __init__(self, instance: ClientInstance, group: str) -> None:
        self._instance = instance
        self._group = group
        self._retry_topic = names.retry_topic(group)

    async def __call__(self, message: MessageView, *, delay_level: int, reconsume_times_max: int) -> None:
        """Have the broker deliver ``message`` again; ``delay_level`` 0 lets it choose a growing delay, < 0 means dead letter.

        Where the broker refuses or cannot be reached, the message is sent as a new one to the group's retry topic, like
        Java does. Raises ClientError when that fails too.
        """
        header = ConsumerSendMsgBackRequestHeader(
            offset=message.physical_offset,
            group=self._group,
            delay_level=delay_level,
            origin_msg_id=message.message_id,
            origin_topic=message.properties.get(props.PROPERTY_RETRY_TOPIC, message.stored.topic),
            max_reconsume_times=reconsume_times_max,
        )
        try:
            name = message.queue.broker_name
            await self._instance.request(
                self._instance.routes.master(name),
                RequestCode.CONSUMER_SEND_MSG_BACK,
                header,
                broker_name=name,
                timeout_ms=SEND_BACK_TIMEOUT_MS,
            )
        except ClientError as error:
            logger.warning("message %s not taken back, sending it anew: %s", message.message_id, error)
            await self.resend(message, reconsume_times_max=reconsume_times_max)

    async def resend(self, message: MessageView, *, reconsume_times_max: int) -> None:
        """Send a copy to the retry topic; the broker moves it to the dead letters when its count exceeds the maximum."""
        properties = dict(message.properties)
        for name in (
            props.PROPERTY_TRANSACTION_PREPARED,
            props.PROPERTY_RECONSUME_TIME,
            props.PROPERTY_MAX_RECONSUME_TIMES,
        ):
            properties.pop(name, None)
        properties.setdefault(props.PROPERTY_ORIGIN_MESSAGE_ID, message.offset_message_id)
        properties.setdefault(props.PROPERTY_RETRY_TOPIC, message.stored.topic)
        properties[props.PROPERTY_DELAY_LEVEL] = str(RETRY_DELAY_LEVEL_FIRST + message.reconsume_times)
        await send_copy(
            self._instance,
            message,
            self._retry_topic,
            properties,
            reconsume_times=message.reconsume_times + 1,
            reconsume_times_max=reconsume_times_max,
        )


async def send_copy(
    instance: ClientInstance,
    message: MessageView,
    topic: str,
    properties: Mapping[str, str],
    *,
    reconsume_times: int = 0,
    reconsume_times_max: int | None = None,
) -> MessageQueue:
    """Store the bytes of ``message`` once more, under another topic and with other properties; returns the queue chosen.

    Raises TopicNotFound, BrokerUnavailable, RequestTimeout, RequestRefused.
    """
    route = await instance.routes.get_for_send(topic)
    if not route.write_queues:
        raise BrokerUnavailable(f"no queue of {topic} can be written to", hint=f"see: rocketmq topic route {topic}")
    queue = choice(route.write_queues)
    header = SendMessageRequestHeader(
        producer_group=names.CLIENT_INNER_PRODUCER_GROUP,
        topic=topic,
        default_topic=names.DEFAULT_TOPIC,
        default_topic_queue_nums=4,
        queue_id=queue.queue_id,
        sys_flag=message.stored.sys_flag & _KEPT_FLAGS,
        born_timestamp=time.time_ns() // 1_000_000,
        flag=message.stored.flag,
        properties=props.encode_properties(properties),
        reconsume_times=reconsume_times,
        max_reconsume_times=reconsume_times_max,
        broker_name=queue.broker_name,
    )
    await instance.request(
        route.brokers[queue.broker_name].broker_addrs[MASTER_ID],
        RequestCode.SEND_MESSAGE_V2,
        header,
        message.stored.body,
        broker_name="",
        timeout_ms=SEND_BACK_TIMEOUT_MS,
    )
    return queue
