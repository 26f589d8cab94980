"""The consumer that pops: the broker hands out messages for a time, and takes acknowledgements one by one.

No queue belongs to anybody, so members come and go without any rebalance, and one slow message blocks nobody. Needs brokers 5.x.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Final, Self
from uuid import uuid4

from rocketmq_client import running_info
from rocketmq_client.callbacks import DirectResult
from rocketmq_client.errors import ClientClosed, ClientError, InvalidArgument
from rocketmq_client.instance import ClientInstance
from rocketmq_client.messages import MessageView
from rocketmq_client.name_servers import parse_addresses
from rocketmq_client.pop_requests import PoppedMessage, PopRequests
from rocketmq_client.send_back import SendBack
from rocketmq_client.start_offsets import ConsumeFrom
from rocketmq_client.subscriptions import ALL, Filter, checked_subscription, is_wanted
from rocketmq_common import names
from rocketmq_remoting import bodies
from rocketmq_remoting.bodies import ConsumerData, MessageQueue

logger = logging.getLogger(__name__)

COUNT_MAX: Final = 32
INVISIBLE_MS: Final = 60_000
POLL_MS: Final = 15_000
RETRY_MS: Final = 1000
_INIT_MIN, _INIT_MAX = 0, 1

Target = tuple[str, str]


class PopConsumer:
    """Pops messages of ``topics`` for ``group``; each is this consumer's for ``invisible_ms``.

    ```python
    async with PopConsumer("127.0.0.1:9876", group="mail", topics="orders") as consumer:
        async for message in consumer:
            await deliver(message)
            await consumer.ack(message)
    ```

    What is not acknowledged in time is given again, to any member, with one more of `PoppedMessage.reconsume_times`. With
    ``is_ordered`` a queue gives nothing more until all that was popped from it is acknowledged or visible again.
    """

    def __init__(
        self,
        name_servers: str | Sequence[str] | None = None,
        *,
        group: str,
        topics: str | Mapping[str, Filter],
        invisible_ms: int = INVISIBLE_MS,
        count: int = COUNT_MAX,
        consume_from: ConsumeFrom = ConsumeFrom.FIRST,
        is_ordered: bool = False,
    ) -> None:
        problem = names.group_name_problem(group)
        if problem is not None:
            raise InvalidArgument(problem)
        if not topics:
            raise InvalidArgument("a consumer that pops needs topics")
        if not 0 < count <= COUNT_MAX:
            raise InvalidArgument(f"count {count}: a pop takes 1 to {COUNT_MAX} messages")
        if invisible_ms <= 0:
            raise InvalidArgument(f"an invisible time of {invisible_ms} ms is not positive")
        if consume_from is ConsumeFrom.TIMESTAMP:
            raise InvalidArgument(
                "popping begins at the first or the last message", hint="reset the group's offset to a time"
            )
        wanted = {topics: ALL} if isinstance(topics, str) else topics
        self._addresses = parse_addresses(name_servers)
        self._group = group
        self._subscriptions = {topic: checked_subscription(topic, filter_) for topic, filter_ in wanted.items()}
        self._invisible_ms = invisible_ms
        self._count = count
        self._consume_from = consume_from
        self._is_ordered = is_ordered
        self._joined: ClientInstance | None = None
        self._requests: PopRequests | None = None
        self._targets: deque[Target] = deque()
        self._started_ms = 0
        self._is_closed = False

    # -- life --------------------------------------------------------------------------------------------------------

    @property
    def group(self) -> str:
        """The consumer group."""
        return self._group

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Join the group. Raises NameServerUnavailable, TopicNotFound."""
        if self._joined is not None or self._is_closed:
            raise ClientClosed("the consumer was started before", hint="make a new one")
        instance = ClientInstance.acquire(self._addresses, consumer_group=self._group)
        self._joined = instance
        self._started_ms = time.time_ns() // 1_000_000
        init_mode = _INIT_MIN if self._consume_from is ConsumeFrom.FIRST else _INIT_MAX
        self._requests = PopRequests(instance, self._group, is_ordered=self._is_ordered, init_mode=init_mode)
        self._send_back = SendBack(instance, self._group)
        try:
            await self._find_targets()
            instance.register_consumer(self)
            await instance.heartbeat()
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Leave the group. What was popped and not acknowledged is given to others when its time is over."""
        if self._joined is None or self._is_closed:
            return
        self._is_closed = True
        try:
            await self._joined.unregister_consumer(self)
        finally:
            await self._joined.release(consumer_group=self._group)

    # -- messages ----------------------------------------------------------------------------------------------------

    async def pop(
        self, *, count_max: int | None = None, invisible_ms: int | None = None, timeout_ms: int = POLL_MS
    ) -> list[PoppedMessage]:
        """Up to ``count_max`` messages of one broker; empty when none came within ``timeout_ms``.

        Cancelling this may leave messages popped that nobody has seen; they are given again when their time is over.
        Raises BrokerUnavailable, RequestTimeout, RequestRefused, TopicNotFound.
        """
        count = self._count if count_max is None else count_max
        if not 0 < count <= COUNT_MAX:
            raise InvalidArgument(f"count {count}: a pop takes 1 to {COUNT_MAX} messages")
        invisible_ms = self._invisible_ms if invisible_ms is None else invisible_ms
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_ms / 1000
        # The broker gives the same attempt the same batch, so an ordered pop whose answer is lost blocks nothing.
        attempt_id = uuid4().hex if self._is_ordered else None
        while True:
            await self._find_targets()
            is_alone = len(self._targets) == 1
            for _ in range(len(self._targets)):
                target = self._targets[0]
                self._targets.rotate(-1)
                wait_ms = max(int((deadline - loop.time()) * 1000), 0) if is_alone else 0
                messages = await self._pop_from(target, count, invisible_ms, wait_ms, attempt_id)
                if messages:
                    return messages
            left_ms = int((deadline - loop.time()) * 1000)
            if left_ms <= 0:
                return []
            if not is_alone:
                await self._wait_for_any(left_ms)

    async def __aiter__(self) -> AsyncIterator[PoppedMessage]:
        """Messages one by one, for ever; errors of brokers are logged and waited out."""
        while not self._is_closed:
            try:
                messages = await self.pop()
            except ClientClosed:
                return
            except ClientError as error:
                logger.warning("pop of %s failed: %s", self._group, error)
                await asyncio.sleep(RETRY_MS / 1000)
                continue
            for message in messages:
                yield message

    async def ack(self, *messages: PoppedMessage) -> None:
        """The messages are done with; several cost one request a broker. A delivery that is over is not an error here."""
        requests = self._ready
        if len(messages) == 1:
            await requests.acknowledge(messages[0])
        elif messages:
            await requests.acknowledge_all(messages)

    async def change_invisible_time(self, message: PoppedMessage, invisible_ms: int) -> None:
        """Keep ``message`` for ``invisible_ms`` from now, or with 0 have it given again at once.

        Raises RequestRefused when it was given to somebody else already.
        """
        await self._ready.change_invisible_time(message, invisible_ms)

    async def dead_letter(self, message: PoppedMessage) -> None:
        """Put ``message`` among the group's dead letters; it is not given again."""
        requests = self._ready
        await self._send_back(message, delay_level=-1, reconsume_times_max=0)
        await requests.acknowledge(message)

    # -- for the client instance -------------------------------------------------------------------------------------

    def heartbeat_data(self) -> ConsumerData:
        """See `ConsumerSide`."""
        return ConsumerData(
            group_name=self._group,
            consume_type=bodies.CONSUME_POP,
            message_model=bodies.CLUSTERING,
            consume_from_where=self._consume_from.value,
            subscription_data_set=list(self._subscriptions.values()),
        )

    def wake_rebalance(self) -> None:
        """See `ConsumerSide`: nobody owns queues here."""

    def offsets_of(self, topic: str) -> dict[MessageQueue, int]:
        """See `ConsumerSide`: the broker knows."""
        del topic
        return {}

    async def reset_offsets(self, topic: str, offsets: Mapping[MessageQueue, int]) -> None:
        """See `ConsumerSide`: the broker goes on there by itself."""

    def running_info(self) -> bytes:
        """See `ConsumerSide`."""
        return running_info.encode(
            name_servers=self._addresses,
            consume_type=bodies.CONSUME_POP,
            is_orderly=self._is_ordered,
            concurrency=1,
            started_ms=self._started_ms,
            subscriptions=list(self._subscriptions.values()),
            assigned={},
            statistics=running_info.ConsumeStatistics(),
        )

    async def consume_directly(self, message: MessageView, broker_name: str) -> DirectResult:
        """See `ConsumerSide`."""
        del message, broker_name
        return DirectResult(consume_result="CR_THROW_EXCEPTION", remark="this consumer pops; it has no listener")

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _ready(self) -> PopRequests:
        if self._requests is None or self._is_closed:
            raise ClientClosed("the consumer is not started", hint="use: async with")
        return self._requests

    async def _find_targets(self) -> None:
        """All (topic, broker) pairs, in the order in which it is their turn."""
        if self._joined is None or self._is_closed:
            raise ClientClosed("the consumer is not started", hint="use: async with")
        wanted = {
            (topic, queue.broker_name)
            for topic in self._subscriptions
            for queue in (await self._joined.routes.get(topic)).read_queues
        }
        if wanted != set(self._targets):
            kept = [target for target in self._targets if target in wanted]
            self._targets = deque(kept + sorted(wanted - set(kept)))

    async def _pop_from(
        self, target: Target, count: int, invisible_ms: int, wait_ms: int, attempt_id: str | None
    ) -> list[PoppedMessage]:
        topic, broker_name = target
        data = self._subscriptions[topic]
        messages = await self._ready.pop(
            data, broker_name, count=count, invisible_ms=invisible_ms, wait_ms=wait_ms, attempt_id=attempt_id
        )
        # The broker compares hashes of tags; what it let through by a collision is not for us.
        unwanted = [message for message in messages if not is_wanted(data, message.tag)]
        if unwanted:
            await self._ready.acknowledge_all(unwanted)
        return [message for message in messages if is_wanted(data, message.tag)]

    async def _wait_for_any(self, wait_ms: int) -> None:
        """Until some broker has something for us, or the time is over; nothing is popped, so nothing can be popped in vain."""
        requests = self._ready
        waits = [
            asyncio.create_task(requests.notified(topic, broker_name, wait_ms), name=f"notification of {topic}")
            for topic, broker_name in self._targets
        ]
        try:
            for done in asyncio.as_completed(waits):
                if await done:
                    return
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)
