"""What a consumer asks brokers about its group: the members, its locks, whether an expression compiles."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from enum import Enum

import msgspec

from rocketmq_client.errors import ClientError, RequestRefused
from rocketmq_client.instance import ClientInstance
from rocketmq_client.routes import Route
from rocketmq_remoting import bodies
from rocketmq_remoting.bodies import (
    CheckClientRequestBody,
    ConsumerListBody,
    LockBatchRequestBody,
    LockBatchResponseBody,
    MessageQueue,
    SubscriptionData,
)
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.headers.clients import ConsumerGroupHeader

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_MS = 1000


class MessageModel(Enum):
    """Whether members share the queues or each gets everything."""

    CLUSTERING = bodies.CLUSTERING
    BROADCASTING = bodies.BROADCASTING


async def fetch_members(instance: ClientInstance, route: Route, group: str) -> list[str] | None:
    """Client ids of the group as some broker of the topic knows them; ``None`` when no broker can say."""
    header = ConsumerGroupHeader(consumer_group=group)
    try:
        answer = await instance.request(route.any_address(), RequestCode.GET_CONSUMER_LIST_BY_GROUP, header)
        return msgspec.json.decode(answer.body, type=ConsumerListBody).consumer_id_list
    except (ClientError, msgspec.MsgspecError) as error:
        logger.info("members of group %s are not known: %s", group, error)
        return None


async def check_expression(instance: ClientInstance, route: Route, group: str, data: SubscriptionData) -> None:
    """Have a broker compile a subscription's expression; raises RequestRefused when it is wrong or not allowed."""
    body = CheckClientRequestBody(client_id=instance.client_id, group=group, subscription_data=data)
    await instance.request(
        route.any_address(),
        RequestCode.CHECK_CLIENT_CONFIG,
        None,
        msgspec.json.encode(body),
        context=f"expression {data.sub_string!r} for topic {data.topic}",
    )


class QueueLocks:
    """The brokers' locks on queues, which let only one member of a group consume each in order."""

    def __init__(self, instance: ClientInstance, group: str) -> None:
        self._instance = instance
        self._group = group

    async def lock(self, queues: Iterable[MessageQueue]) -> set[MessageQueue]:
        """Take or renew locks at the masters; returns the queues now held. Brokers that do not answer grant nothing."""
        granted: set[MessageQueue] = set()

        async def ask(name: str, wanted: list[MessageQueue]) -> None:
            try:
                answer = await self._instance.request(
                    self._instance.routes.master(name),
                    RequestCode.LOCK_BATCH_MQ,
                    None,
                    self._body(wanted),
                    timeout_ms=LOCK_TIMEOUT_MS,
                )
                granted.update(msgspec.json.decode(answer.body, type=LockBatchResponseBody).lock_ok_mq_set)
            except (ClientError, msgspec.MsgspecError) as error:
                logger.warning("queues of %s at %s not locked: %s", self._group, name, error)

        await asyncio.gather(*(ask(name, wanted) for name, wanted in _by_broker(queues).items()))
        return granted

    async def unlock(self, queues: Iterable[MessageQueue]) -> None:
        """Give locks back; one that cannot be given back expires."""
        for name, held in _by_broker(queues).items():
            try:
                await self._instance.request(
                    self._instance.routes.master(name),
                    RequestCode.UNLOCK_BATCH_MQ,
                    None,
                    self._body(held),
                    timeout_ms=LOCK_TIMEOUT_MS,
                )
            except (ClientError, RequestRefused) as error:
                logger.info("queues of %s at %s not unlocked, their locks will expire: %s", self._group, name, error)

    def _body(self, queues: list[MessageQueue]) -> bytes:
        body = LockBatchRequestBody(consumer_group=self._group, client_id=self._instance.client_id, mq_set=queues)
        return msgspec.json.encode(body)


def _by_broker(queues: Iterable[MessageQueue]) -> dict[str, list[MessageQueue]]:
    result: dict[str, list[MessageQueue]] = {}
    for queue in queues:
        result.setdefault(queue.broker_name, []).append(queue)
    return result
