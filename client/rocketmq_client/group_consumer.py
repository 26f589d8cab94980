"""A member of a consumer group: subscriptions, its share of the queues, pulling within bounds, commits.

`PushConsumer` and `LitePullConsumer` stand on it and decide what happens to pulled messages. All of it runs on the event loop,
so there are no locks: whatever happens between two awaits is atomic.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rocketmq_client.allocation import AllocationStrategy, Average
from rocketmq_client.callbacks import DirectResult
from rocketmq_client.errors import BrokerBusy, ClientClosed, ClientError, InvalidArgument, RequestRefused, TopicNotFound
from rocketmq_client.instance import ClientInstance
from rocketmq_client.membership import MessageModel, check_expression, fetch_members
from rocketmq_client.messages import MessageView
from rocketmq_client.name_servers import parse_addresses
from rocketmq_client.offsets import LocalOffsets, OffsetStore, QueueBounds, RemoteOffsets
from rocketmq_client.process_queue import ProcessQueue
from rocketmq_client.pulling import PULL_BYTES, PULL_COUNT, SUSPEND_MS, Puller, PullResult, PullStatus
from rocketmq_client.routes import Route
from rocketmq_client.start_offsets import ConsumeFrom, StartOffsets
from rocketmq_client.subscriptions import Filter, checked_subscription, subscription
from rocketmq_common import names
from rocketmq_common.namespaces import qualified
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting import bodies
from rocketmq_remoting.bodies import ConsumerData, MessageQueue, SubscriptionData
from rocketmq_remoting.codes import ResponseCode

logger = logging.getLogger(__name__)

REBALANCE_INTERVAL_MS: Final = 20_000
COMMIT_INTERVAL_MS: Final = 5000
PULL_ERROR_DELAY_MS: Final = 1000
PULL_BUSY_DELAY_MS: Final = 20
QUEUE_COUNT_MAX: Final = 1000
QUEUE_BYTES_MAX: Final = 100 << 20
SPAN_MAX: Final = 2000

_UNKNOWN_SUBSCRIPTION = (ResponseCode.SUBSCRIPTION_NOT_EXIST, ResponseCode.SUBSCRIPTION_NOT_LATEST)


class GroupConsumer(ABC):
    """See the module; applications use the subclasses."""

    _consume_type = bodies.CONSUME_PASSIVELY

    def __init__(
        self,
        name_servers: str | Sequence[str] | None,
        group: str,
        subscriptions: Mapping[str, Filter],
        *,
        model: MessageModel,
        consume_from: ConsumeFrom,
        consume_timestamp_ms: int | None,
        allocation: AllocationStrategy | None,
        pull_count: int = PULL_COUNT,
        pull_bytes: int = PULL_BYTES,
        queue_count_max: int = QUEUE_COUNT_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        offset_directory: Path | None = None,
        namespace: str = "",
    ) -> None:
        group = qualified(namespace, group)
        problem = names.group_name_problem(group)
        if problem is not None:
            raise InvalidArgument(problem)
        sizes = {"pull_count": pull_count, "queue_count_max": queue_count_max, "queue_bytes_max": queue_bytes_max}
        for name, value in sizes.items():
            if value < 1:
                raise InvalidArgument(f"{name} is {value}, it must be positive")
        self._addresses = parse_addresses(name_servers)
        self._group = group
        self._namespace = namespace
        named = {qualified(namespace, topic): wanted for topic, wanted in subscriptions.items()}
        self._subscriptions = {topic: checked_subscription(topic, wanted) for topic, wanted in named.items()}
        self._model = model
        self._begin_at = StartOffsets(consume_from, consume_timestamp_ms)
        self._allocation: AllocationStrategy = allocation or Average()
        self._pull_count = pull_count
        self._pull_bytes = pull_bytes
        self._queue_count_max = queue_count_max
        self._queue_bytes_max = queue_bytes_max
        self._offset_directory = offset_directory
        self._assigned: dict[MessageQueue, ProcessQueue] = {}
        self._tasks = TaskRegistry()
        self._rebalance_wanted = asyncio.Event()
        self._rebalance_lock = asyncio.Lock()
        self._joined: ClientInstance | None = None
        self._offsets: OffsetStore | None = None
        self._started_ms = 0
        self._is_closing = False
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._is_settled = False

    # -- for applications --------------------------------------------------------------------------------------------

    @property
    def group(self) -> str:
        """The consumer group."""
        return self._group

    @property
    def client_id(self) -> str:
        """How brokers call this member; raises ClientClosed before ``start``."""
        return self._instance.client_id

    @property
    def assigned(self) -> tuple[MessageQueue, ...]:
        """The queues that this member consumes now."""
        return tuple(sorted(self._assigned))

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do: the queues are shared out, each was pulled to its end, and all that came is finished."""
        return self._is_settled and all(held.is_at_end and not held.messages for held in self._assigned.values())

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Join the group and begin to pull.

        A topic that does not exist yet is waited for. Raises NameServerUnavailable when no name server answers.
        """
        if self._joined is not None or self._is_closing:
            raise ClientClosed("the consumer was started before", hint="make a new one")
        instance = ClientInstance.acquire(self._addresses, consumer_group=self._group if self._is_member else None)
        self._joined = instance
        self._started_ms = time.time_ns() // 1_000_000
        try:
            self._offsets = self._offset_store(instance)
            if self._wants_retries and self._model is MessageModel.CLUSTERING:
                retry = names.retry_topic(self._group)
                self._subscriptions.setdefault(retry, subscription(retry))
            self._bounds = QueueBounds(instance)
            self._puller = Puller(instance, self._group, self._namespace)
            for topic in list(self._subscriptions):
                await self._route(topic)
            await self._check_expressions()
            if self._is_member:
                instance.register_consumer(self)
                await instance.heartbeat()
            await self._on_start()
            self._tasks.start(self._rebalancing(), f"rebalance of {self._group}")
            self._tasks.every(COMMIT_INTERVAL_MS, self._commit_quietly, f"commits of {self._group}", critical=False)
        except BaseException:
            await self.close()
            raise

    async def close(self, *, grace_ms: int = 10_000) -> None:
        """Stop pulling, let messages under way be finished for ``grace_ms``, commit, leave the group."""
        if self._joined is None or self._is_closing:
            return
        self._is_closing = True
        try:
            for held in self._assigned.values():
                if held.pull_task is not None:
                    held.pull_task.cancel()
            await self._on_close(grace_ms)
            await self._tasks.stop()
            if self._offsets is not None:
                await self._commit_at_close()
            await self._on_left(list(self._assigned.values()))
            for held in list(self._assigned.values()):
                held.drop()
            self._assigned.clear()
            if self._is_member:
                await self._joined.unregister_consumer(self)
        finally:
            await self._joined.release(consumer_group=self._group if self._is_member else None)

    async def subscribe(self, topic: str, wanted: Filter = "*") -> None:
        """Add or change a subscription while running."""
        topic = qualified(self._namespace, topic)
        self._subscriptions[topic] = checked_subscription(topic, wanted)
        if self._joined is not None:
            await self._route(topic)
            await self._check_expressions(topic)
            await self._joined.heartbeat()
            self.wake_rebalance()

    async def unsubscribe(self, topic: str) -> None:
        """End a subscription; its queues are given up."""
        if self._subscriptions.pop(qualified(self._namespace, topic), None) is not None and self._joined is not None:
            await self._joined.heartbeat()
            self.wake_rebalance()

    async def wait_assigned(self, count: int = 1, *, timeout_ms: int = 30_000) -> None:
        """Wait until this member has at least ``count`` queues (those of the retry topic aside); raises TimeoutError."""
        async with asyncio.timeout(timeout_ms / 1000):
            while sum(not names.is_retry_topic(queue.topic) for queue in self._assigned) < count:
                await asyncio.sleep(0.01)

    # -- for the client instance -------------------------------------------------------------------------------------

    def heartbeat_data(self) -> ConsumerData:
        """See `ConsumerSide`."""
        return ConsumerData(
            group_name=self._group,
            consume_type=self._consume_type,
            message_model=self._model.value,
            consume_from_where=self._begin_at.consume_from.value,
            subscription_data_set=list(self._subscriptions.values()),
        )

    def wake_rebalance(self) -> None:
        """See `ConsumerSide`."""
        self._rebalance_wanted.set()

    def offsets_of(self, topic: str) -> dict[MessageQueue, int]:
        """See `ConsumerSide`."""
        return {queue: held.position for queue, held in self._assigned.items() if queue.topic == topic}

    async def reset_offsets(self, topic: str, offsets: Mapping[MessageQueue, int]) -> None:
        """See `ConsumerSide`."""
        async with self._rebalance_lock:
            for queue, offset in offsets.items():
                if queue.topic == topic and queue in self._assigned:
                    await self._move(self._assigned[queue], offset)

    @abstractmethod
    def running_info(self) -> bytes:
        """See `ConsumerSide`."""

    @abstractmethod
    async def consume_directly(self, message: MessageView, broker_name: str) -> DirectResult:
        """See `ConsumerSide`."""

    # -- for subclasses ----------------------------------------------------------------------------------------------

    _wants_retries = True
    _is_member = True  # listed in heartbeats
    _span_max: int | None = SPAN_MAX

    @abstractmethod
    async def _on_start(self) -> None:
        """Before the first rebalance."""

    def _offset_store(self, instance: ClientInstance) -> OffsetStore:
        if self._model is MessageModel.CLUSTERING:
            return RemoteOffsets(instance, self._group)
        return LocalOffsets(self._group, self._offset_directory)

    async def _commit_at_close(self) -> None:
        await self._commit(list(self._assigned.values()), wait=True)

    @abstractmethod
    async def _on_close(self, grace_ms: int) -> None:
        """Let what is under way end."""

    async def _on_left(self, held: Sequence[ProcessQueue]) -> None:
        """After the last commit, before the group is left."""
        del held

    async def _on_taken(self, held: ProcessQueue) -> bool:
        """A queue is assigned; false leaves it for the next rebalance."""
        del held
        return True

    async def _on_given_up(self, held: ProcessQueue) -> None:
        """A queue went to somebody else; nobody pulls it here any more. Commits its position."""
        await self._commit([held])

    @abstractmethod
    async def _deliver(self, held: ProcessQueue, messages: list[MessageView]) -> None:
        """Messages were pulled and put into ``held``."""

    async def _pull_once(self, held: ProcessQueue, data: SubscriptionData) -> PullResult:
        position = held.position
        # Only when nothing is under way here: brokers may process this request after a later commit, and would undo it.
        is_final = held.is_confirmed and position > 0 and not held.messages
        commit = position if is_final and self._model is MessageModel.CLUSTERING else None
        result = await self._puller.pull(
            held.queue,
            held.next_offset,
            data,
            count=self._pull_count,
            bytes_max=self._pull_bytes,
            commit_offset=commit,
            # The first answer comes at once, whatever it is: only then is it known where the queue ends.
            suspend_ms=SUSPEND_MS if held.is_confirmed else 0,
        )
        if commit is not None:
            held.committed = max(held.committed, commit)
        return result

    async def _may_pull(self, held: ProcessQueue) -> bool:
        """Wait for what stands in the way; false to look again."""
        if not self._resumed.is_set():
            await self._resumed.wait()
            return False
        is_full = len(held.messages) >= self._queue_count_max or held.bytes_held >= self._queue_bytes_max
        if is_full or (self._span_max is not None and held.span > self._span_max):
            held.room.clear()
            await held.room.wait()
            return False
        return True

    @property
    def _instance(self) -> ClientInstance:
        if self._joined is None:
            raise ClientClosed("the consumer is not started", hint="use: async with")
        return self._joined

    @property
    def _store(self) -> OffsetStore:
        if self._offsets is None:
            raise ClientClosed("the consumer is not started", hint="use: async with")
        return self._offsets

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _route(self, topic: str) -> Route | None:
        try:
            return await self._instance.routes.get(topic)
        except TopicNotFound:
            if not names.is_retry_topic(topic):
                logger.info("topic %s has no route yet; it is looked for with every rebalance", topic)
            return None

    async def _check_expressions(self, topic: str | None = None) -> None:
        """Have a broker compile SQL expressions now, for a bad one would otherwise only be seen in its log."""
        for name, data in self._subscriptions.items():
            if data.expression_type != bodies.EXPRESSION_TAG and topic in (None, name):
                route = await self._route(name)
                if route is not None:
                    await check_expression(self._instance, route, self._group, data)

    async def _rebalancing(self) -> None:
        while True:
            self._rebalance_wanted.clear()
            try:
                async with self._rebalance_lock:
                    await self._rebalance()
            except ClientError as error:
                logger.warning("rebalance of %s failed: %s", self._group, error)
            try:
                async with asyncio.timeout(REBALANCE_INTERVAL_MS / 1000):
                    await self._rebalance_wanted.wait()
            except TimeoutError:
                pass

    async def _rebalance(self) -> None:
        is_settled = True
        for topic in list(self._subscriptions):
            try:
                wanted = await self._share(topic)
                if wanted is None:
                    is_settled = False
                else:
                    await self._apply(topic, wanted)
                    is_settled &= wanted <= self._assigned.keys()
            except ClientError as error:
                logger.warning("rebalance of %s on %s failed: %s", self._group, topic, error)
                is_settled = False
        self._is_settled = is_settled
        for held in [h for q, h in self._assigned.items() if q.topic not in self._subscriptions]:
            await self._give_up(held)

    async def _share(self, topic: str) -> set[MessageQueue] | None:
        """The queues that should be ours; ``None`` when that cannot be known now."""
        route = await self._route(topic)
        if route is None or not route.read_queues:
            return set() if topic not in {queue.topic for queue in self._assigned} else None
        if self._model is MessageModel.BROADCASTING:
            return set(route.read_queues)
        members = await fetch_members(self._instance, route, self._group)
        if members is None:
            self._instance.want_heartbeat()
            return None
        return set(self._allocation.allocate(self.client_id, route.read_queues, sorted(members)))

    async def _apply(self, topic: str, wanted: set[MessageQueue]) -> None:
        for queue, held in list(self._assigned.items()):
            if queue.topic == topic and queue not in wanted:
                await self._give_up(held)
        for queue in sorted(wanted - self._assigned.keys()):
            try:
                await self._take(queue)
            except ClientError as error:
                logger.warning("queue %s not taken, trying again with the next rebalance: %s", queue, error)

    async def _take(self, queue: MessageQueue) -> None:
        committed = await self._store.fetch(queue)
        offset = (
            committed if committed is not None and committed >= 0 else await self._begin_at.offset(self._bounds, queue)
        )
        held = ProcessQueue(queue, offset, committed=-1 if committed is None else committed)
        if not await self._on_taken(held):
            self.wake_rebalance_later()
            return
        self._assigned[queue] = held
        self._begin(held)

    def wake_rebalance_later(self) -> None:
        """A queue could not be taken, most likely because its former owner still holds its lock: look again in a second."""
        asyncio.get_running_loop().call_later(1, self._rebalance_wanted.set)

    def _begin(self, held: ProcessQueue) -> None:
        held.pull_task = self._tasks.start(self._pulling(held), f"pull of {held.queue}")

    async def _give_up(self, held: ProcessQueue) -> None:
        if self._assigned.get(held.queue) is held:
            del self._assigned[held.queue]
        held.drop()
        self._puller.forget(held.queue)
        await self._on_given_up(held)

    async def _move(self, held: ProcessQueue, offset: int, *, commit: bool = True) -> None:
        """Go on from another offset, forgetting what is held."""
        held.drop()
        if commit:
            try:
                await self._store.commit({held.queue: offset}, wait=True)
            except ClientError as error:
                logger.warning("new offset %d of %s not kept yet: %s", offset, held.queue, error)
        fresh = ProcessQueue(held.queue, offset, committed=offset if commit else held.committed)
        fresh.locked_until = held.locked_until
        if self._assigned.get(held.queue) is held:
            self._assigned[held.queue] = fresh
            await self._on_moved(fresh)
            self._begin(fresh)

    async def _on_moved(self, held: ProcessQueue) -> None:
        """A queue goes on at another offset, with new state."""
        del held

    async def _pulling(self, held: ProcessQueue) -> None:
        while not held.is_dropped:
            if not await self._may_pull(held):
                continue
            data = self._subscriptions.get(held.queue.topic)
            if data is None:
                return  # unsubscribed; the rebalance gives the queue up
            try:
                result = await self._pull_once(held, data)
            except ClientError as error:
                await self._after_error(held, error)
                continue
            if self._assigned.get(held.queue) is not held:
                return
            held.is_confirmed = True
            held.last_pull_ms = time.time_ns() // 1_000_000
            if result.status is PullStatus.OFFSET_ILLEGAL:
                logger.warning(
                    "%s goes on at %d instead of %d, says its broker", held.queue, result.next_offset, held.next_offset
                )
                await self._move(held, result.next_offset)
                return
            held.next_offset = result.next_offset
            held.is_at_end = result.next_offset >= result.max_offset
            if result.messages:
                held.put(result.messages)
                await self._deliver(held, result.messages)

    async def _after_error(self, held: ProcessQueue, error: ClientError) -> None:
        if isinstance(error, RequestRefused) and error.code in _UNKNOWN_SUBSCRIPTION:
            # A restarted broker knows us again after the next heartbeat.
            logger.info("%s: %s", held.queue, error)
            await self._instance.heartbeat()
            await asyncio.sleep(PULL_BUSY_DELAY_MS * 5 / 1000)
            return
        if isinstance(error, BrokerBusy):
            await asyncio.sleep(PULL_BUSY_DELAY_MS / 1000)
            return
        logger.warning("pull of %s failed: %s", held.queue, error)
        await asyncio.sleep(PULL_ERROR_DELAY_MS / 1000)

    async def _commit_quietly(self) -> None:
        try:
            await self._commit(list(self._assigned.values()))
        except ClientError as error:
            logger.warning("offsets of %s not kept: %s", self._group, error)

    async def _commit(self, held_queues: Sequence[ProcessQueue], *, wait: bool = False) -> None:
        offsets = {h.queue: h.position for h in held_queues if h.is_confirmed and h.position != h.committed}
        if not offsets:
            return
        kept = await self._store.commit(offsets, wait=wait)
        for held in held_queues:
            if held.queue in kept:
                held.committed = offsets[held.queue]
