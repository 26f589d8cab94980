"""The consumer for applications that ask for messages when they want them (DefaultLitePullConsumer)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from rocketmq_client import running_info
from rocketmq_client.allocation import AllocationStrategy
from rocketmq_client.callbacks import DirectResult
from rocketmq_client.errors import InvalidArgument
from rocketmq_client.group_consumer import QUEUE_BYTES_MAX, QUEUE_COUNT_MAX, GroupConsumer
from rocketmq_client.instance import ClientInstance
from rocketmq_client.membership import MessageModel
from rocketmq_client.messages import MessageView, light_queue_topic
from rocketmq_client.offsets import OffsetStore
from rocketmq_client.process_queue import ProcessQueue
from rocketmq_client.pulling import PullResult
from rocketmq_client.start_offsets import ConsumeFrom
from rocketmq_client.subscriptions import ALL, Filter, subscription
from rocketmq_common import names
from rocketmq_common.light_queues import LIGHT_QUEUE_ID
from rocketmq_common.namespaces import qualified
from rocketmq_remoting import bodies
from rocketmq_remoting.bodies import MessageQueue, SubscriptionData

PULL_COUNT: Final = 32
PULL_BYTES: Final = 4 << 20
SUSPEND_MS: Final = 20_000
POLL_TIMEOUT_MS: Final = 5000


class NoOffsets:
    """Progress that nobody keeps: for readers that look at a topic without belonging to a group."""

    async def fetch(self, queue: MessageQueue) -> int | None:
        """Nothing is ever known."""
        del queue
        return None

    async def commit(self, offsets: Mapping[MessageQueue, int], *, wait: bool = False) -> set[MessageQueue]:
        """Nothing is kept."""
        del wait
        return set(offsets)


class LitePullConsumer(GroupConsumer):
    """Polls queues that the group shares out (``topics``) or that the application chose (`assign`).

    ```python
    async with LitePullConsumer("127.0.0.1:9876", group="audit", topics={"orders": "*"}) as consumer:
        for message in await consumer.poll():
            ...
    ```

    Polled messages count as consumed; their offsets are committed each 5 s, or by `commit` when ``auto_commit`` is false.
    Without ``group`` it only reads: it joins nothing, commits nothing, and takes its queues from `assign`.
    """

    _consume_type = bodies.CONSUME_ACTIVELY
    _wants_retries = False
    _span_max = None

    def __init__(
        self,
        name_servers: str | Sequence[str] | None = None,
        *,
        group: str | None = None,
        topics: str | Mapping[str, Filter] | None = None,
        consume_from: ConsumeFrom = ConsumeFrom.LAST,
        consume_timestamp_ms: int | None = None,
        allocation: AllocationStrategy | None = None,
        auto_commit: bool = True,
        pull_count: int = PULL_COUNT,
        queue_count_max: int = QUEUE_COUNT_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        namespace: str = "",
    ) -> None:
        if group is None and topics:
            raise InvalidArgument("topics are shared out within a group", hint="give group, or use assign")
        super().__init__(
            name_servers,
            names.TOOLS_CONSUMER_GROUP if group is None else group,
            {topics: ALL} if isinstance(topics, str) else topics or {},
            model=MessageModel.CLUSTERING,
            consume_from=consume_from,
            consume_timestamp_ms=consume_timestamp_ms,
            allocation=allocation,
            pull_count=pull_count,
            pull_bytes=PULL_BYTES,
            queue_count_max=queue_count_max,
            queue_bytes_max=queue_bytes_max,
            namespace=namespace,
        )
        self._is_member = group is not None
        self._auto_commit = auto_commit and group is not None
        self._chosen: set[MessageQueue] | None = None
        self._starts: dict[MessageQueue, int] = {}
        self._ready: deque[ProcessQueue] = deque()
        self._has_ready = asyncio.Event()
        self._paused: dict[MessageQueue, asyncio.Event] = {}

    # -- choosing queues ---------------------------------------------------------------------------------------------

    async def queues(self, topic: str) -> tuple[MessageQueue, ...]:
        """The readable queues of ``topic``; raises TopicNotFound."""
        return (await self._instance.routes.get(qualified(self._namespace, topic))).read_queues

    async def light_queues(self, topic: str, *queue_names: str) -> tuple[MessageQueue, ...]:
        """The light queues of these names at every broker of ``topic``, whose messages name them: give them to `assign`.

        Raises TopicNotFound, InvalidArgument.
        """
        route = await self._instance.routes.get(qualified(self._namespace, topic))
        brokers = sorted({queue.broker_name for queue in route.read_queues})
        return tuple(
            MessageQueue(light_queue_topic(name), broker, LIGHT_QUEUE_ID) for name in queue_names for broker in brokers
        )

    async def assign(self, queues: Iterable[MessageQueue] | Mapping[MessageQueue, int], wanted: Filter = ALL) -> None:
        """Read exactly these queues; a map gives the first offset of each. Not together with ``topics``.

        ``wanted`` filters messages. Raises InvalidArgument, TopicNotFound, NameServerUnavailable, BrokerUnavailable.
        """
        if self._subscriptions and self._chosen is None:
            raise InvalidArgument("the consumer subscribes to topics", hint="use either topics or assign")
        chosen = set(queues)
        for topic in {queue.topic for queue in chosen}:
            if not names.is_light_queue(topic):  # No name server knows those.
                await self._instance.routes.get(topic)
            self._subscriptions[topic] = subscription(topic, wanted)
        self._starts = dict(queues) if isinstance(queues, Mapping) else {}
        self._chosen = chosen
        self._is_settled = True
        async with self._rebalance_lock:
            await self._apply_chosen(chosen)

    # -- reading -----------------------------------------------------------------------------------------------------

    async def poll(self, *, count_max: int = PULL_COUNT, timeout_ms: int = POLL_TIMEOUT_MS) -> list[MessageView]:
        """Up to ``count_max`` messages, in order within each queue; empty when none came within ``timeout_ms``."""
        deadline = asyncio.get_running_loop().time() + timeout_ms / 1000
        while True:
            messages = self._take_ready(count_max)
            if messages:
                return messages
            self._has_ready.clear()
            remaining = deadline - asyncio.get_running_loop().time()
            if remaining <= 0:
                return []
            try:
                async with asyncio.timeout(remaining):
                    await self._has_ready.wait()
            except TimeoutError:
                return []

    def position(self, queue: MessageQueue) -> int | None:
        """The offset after the last polled message; ``None`` when the queue is not assigned."""
        held = self._assigned.get(queue)
        return None if held is None else held.position

    async def committed(self, queue: MessageQueue) -> int | None:
        """The group's offset at the broker."""
        return await self._store.fetch(queue)

    async def commit(self) -> None:
        """Commit the positions of all assigned queues and wait for the brokers' word."""
        for held in self._assigned.values():
            held.is_confirmed = True
        await self._commit(list(self._assigned.values()), wait=True)

    async def seek(self, queue: MessageQueue, offset: int) -> None:
        """Go on at ``offset``; raises InvalidArgument when the queue is not assigned."""
        if offset < 0:
            raise InvalidArgument(f"offset {offset} is negative")
        async with self._rebalance_lock:
            held = self._assigned.get(queue)
            if held is None:
                raise InvalidArgument(f"{queue} is not assigned to this consumer", hint="see assigned")
            await self._move(held, offset, commit=False)

    async def seek_to_begin(self, queue: MessageQueue) -> None:
        """Go on at the first message that still exists."""
        await self.seek(queue, await self._bounds.min_offset(queue))

    async def seek_to_end(self, queue: MessageQueue) -> None:
        """Go on at the next message to come."""
        await self.seek(queue, await self._bounds.max_offset(queue))

    async def offset_at(self, queue: MessageQueue, timestamp_ms: int) -> int:
        """The offset of the first message stored at or after a time in ms."""
        return await self._bounds.offset_at(queue, timestamp_ms)

    async def end_offset(self, queue: MessageQueue) -> int:
        """The offset that the next message of ``queue`` will get."""
        return await self._bounds.max_offset(queue)

    async def begin_offset(self, queue: MessageQueue) -> int:
        """The first offset of ``queue`` that still exists."""
        return await self._bounds.min_offset(queue)

    def pause(self, queues: Iterable[MessageQueue]) -> None:
        """Neither pull nor poll these until `resume`."""
        for queue in queues:
            self._paused.setdefault(queue, asyncio.Event())

    def resume(self, queues: Iterable[MessageQueue]) -> None:
        """Undo `pause`."""
        for queue in queues:
            event = self._paused.pop(queue, None)
            if event is not None:
                event.set()
            held = self._assigned.get(queue)
            if held is not None and held.messages:
                self._ready.append(held)
                self._has_ready.set()

    # -- hooks -------------------------------------------------------------------------------------------------------

    def _offset_store(self, instance: ClientInstance) -> OffsetStore:
        return super()._offset_store(instance) if self._is_member else NoOffsets()

    async def _on_start(self) -> None:
        """Nothing to prepare."""

    async def _on_close(self, grace_ms: int) -> None:
        del grace_ms

    async def _commit_quietly(self) -> None:
        if self._auto_commit:
            await super()._commit_quietly()

    async def _commit_at_close(self) -> None:
        if self._auto_commit:
            await super()._commit_at_close()

    async def _on_given_up(self, held: ProcessQueue) -> None:
        if self._auto_commit:
            await self._commit([held])

    async def _deliver(self, held: ProcessQueue, messages: list[MessageView]) -> None:
        del messages
        self._ready.append(held)
        self._has_ready.set()

    async def _may_pull(self, held: ProcessQueue) -> bool:
        event = self._paused.get(held.queue)
        if event is not None:
            await event.wait()
            return False
        return await super()._may_pull(held)

    async def _pull_once(self, held: ProcessQueue, data: SubscriptionData) -> PullResult:
        return await self._puller.pull(
            held.queue,
            held.next_offset,
            data,
            count=self._pull_count,
            bytes_max=self._pull_bytes,
            suspend_ms=SUSPEND_MS,
            send_subscription=True,
            lite=True,
        )

    async def _rebalance(self) -> None:
        if self._chosen is None:
            await super()._rebalance()
        else:
            await self._apply_chosen(self._chosen)

    async def _apply_chosen(self, chosen: set[MessageQueue]) -> None:
        for topic in {q.topic for q in chosen} | {q.topic for q in self._assigned}:
            await self._apply(topic, {queue for queue in chosen if queue.topic == topic})

    async def _take(self, queue: MessageQueue) -> None:
        start = self._starts.pop(queue, None)
        if start is None:
            await super()._take(queue)
            return
        held = ProcessQueue(queue, start)
        self._assigned[queue] = held
        self._begin(held)

    def _take_ready(self, count_max: int) -> list[MessageView]:
        result: list[MessageView] = []
        while self._ready and len(result) < count_max:
            held = self._ready[0]
            if held.is_dropped or not held.messages or held.queue in self._paused:
                self._ready.popleft()
                continue
            for message in list(held.messages.values())[: count_max - len(result)]:
                held.remove(message.queue_offset)
                result.append(message)
        return result

    def running_info(self) -> bytes:
        """See `ConsumerSide`."""
        return running_info.encode(
            name_servers=self._addresses,
            consume_type=self._consume_type,
            is_orderly=False,
            concurrency=1,
            started_ms=self._started_ms,
            subscriptions=list(self._subscriptions.values()),
            assigned=self._assigned,
            statistics=running_info.ConsumeStatistics(),
        )

    async def consume_directly(self, message: MessageView, broker_name: str) -> DirectResult:
        """See `ConsumerSide`; a polling consumer has no listener."""
        del message, broker_name
        return DirectResult("CR_LATER", remark="the consumer polls and has no listener")
