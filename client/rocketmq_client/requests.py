"""Request-reply over topics: a request is an ordinary message that says whom to answer, the reply comes through the broker.

A requester is found by its client id, so every broker that a request may go to must know this client first: before the first
request to a broker a heartbeat is sent and awaited (Java does the same).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterable, Mapping
from typing import Final

from rocketmq_client.errors import InvalidArgument, RequestTimeout
from rocketmq_client.instance import ClientInstance
from rocketmq_client.messages import Message, MessageView, SendReceipt
from rocketmq_client.producer import Producer
from rocketmq_client.routes import MASTER_ID, Route
from rocketmq_common import names
from rocketmq_common import properties as props
from rocketmq_remoting.bodies import MessageQueue

REPLY: Final = "reply"
# Requests of one client that wait for their replies.
REQUESTS_MAX: Final = 10_000
TIMEOUT_MS: Final = 3000


class Requester:
    """Asks through a producer.

    ```python
    async with Producer(...) as producer:
        reply = await Requester(producer).request("prices", b"AAPL")
    ```
    """

    def __init__(self, producer: Producer) -> None:
        self._producer = producer
        self._introduced: set[str] = set()

    async def request(
        self,
        topic: str,
        body: bytes | str = b"",
        *,
        tag: str = "",
        keys: str | Iterable[str] | None = None,
        properties: Mapping[str, str] | None = None,
        timeout_ms: int = TIMEOUT_MS,
    ) -> MessageView:
        """Send a request and wait for its reply.

        Raises what `Producer.send` raises; RequestTimeout when no reply came in ``timeout_ms``, which covers sending too.
        """
        instance = self._producer.instance
        loop = asyncio.get_running_loop()
        if len(instance.requests) >= REQUESTS_MAX:
            raise InvalidArgument(f"{REQUESTS_MAX} requests wait for replies", hint="ask slower")
        correlation_id = str(uuid.uuid4())
        future: asyncio.Future[MessageView] = loop.create_future()
        instance.requests[correlation_id] = future
        own = {
            props.PROPERTY_CORRELATION_ID: correlation_id,
            props.PROPERTY_REPLY_TO_CLIENT: instance.client_id,
            props.PROPERTY_TTL: str(timeout_ms),
        }
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._introduce(
                    instance, await instance.routes.get_for_send(self._producer.topic_at_brokers(topic))
                )
                await self._producer.send(
                    topic, body, tag=tag, keys=keys, properties={**(properties or {}), **own}, timeout_ms=timeout_ms
                )
                return await future
        except TimeoutError:
            raise RequestTimeout(
                f"no reply to the request to {topic} within {timeout_ms} ms",
                hint="is a consumer of the topic running that replies?",
            ) from None
        finally:
            del instance.requests[correlation_id]

    async def _introduce(self, instance: ClientInstance, route: Route) -> None:
        """Make sure that the topic's brokers know where replies go."""
        masters = {
            broker.broker_addrs[MASTER_ID] for broker in route.brokers.values() if MASTER_ID in broker.broker_addrs
        }
        if not masters <= self._introduced:
            await instance.heartbeat()
            self._introduced |= masters


async def reply(
    producer: Producer, request: MessageView, body: bytes | str, *, timeout_ms: int = TIMEOUT_MS
) -> SendReceipt:
    """Answer a consumed request through the broker that it came from.

    Raises InvalidArgument when the message is no request, RequestRefused when the requester is gone.
    """
    found = request.properties
    own = {
        name: found.get(name, "")
        for name in (props.PROPERTY_CORRELATION_ID, props.PROPERTY_REPLY_TO_CLIENT, props.PROPERTY_CLUSTER)
    }
    missing = [name for name, value in own.items() if not value]
    if missing:
        raise InvalidArgument(f"message {request.message_id} is no request: it has no {', '.join(missing)}")
    topic = f"{own.pop(props.PROPERTY_CLUSTER)}_{names.REPLY_TOPIC_POSTFIX}"
    own[props.PROPERTY_MESSAGE_TYPE] = REPLY
    if props.PROPERTY_TTL in found:
        own[props.PROPERTY_TTL] = found[props.PROPERTY_TTL]
    message = Message(topic=topic, body=body.encode() if isinstance(body, str) else body, properties=own)
    # That broker knows the requester; another one may not.
    queue = MessageQueue(topic, request.queue.broker_name, 0)
    return await producer.send(message, queue=queue, timeout_ms=timeout_ms)
