"""The consumer that most applications want: messages come to a listener, or out of ``async for``."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from rocketmq_client import running_info
from rocketmq_client.allocation import AllocationStrategy
from rocketmq_client.callbacks import DirectResult
from rocketmq_client.errors import ClientClosed, ClientError, InvalidArgument
from rocketmq_client.group_consumer import QUEUE_BYTES_MAX, QUEUE_COUNT_MAX, GroupConsumer
from rocketmq_client.membership import MessageModel, QueueLocks
from rocketmq_client.messages import ConsumeResult, MessageView
from rocketmq_client.process_queue import ProcessQueue
from rocketmq_client.pulling import PULL_COUNT
from rocketmq_client.send_back import SendBack
from rocketmq_client.start_offsets import ConsumeFrom
from rocketmq_client.subscriptions import Filter
from rocketmq_client.telemetry import Telemetry
from rocketmq_client.tracing import Tracer
from rocketmq_remoting.bodies import MessageQueue

logger = logging.getLogger(__name__)

CONCURRENCY: Final = 20
RECONSUME_TIMES_MAX: Final = 16
RECONSUME_TIMES_UNLIMITED: Final = 0x7FFFFFFF
LOCK_RENEWAL_MS: Final = 20_000
SUSPEND_QUEUE_MS: Final = 1000
RESUBMIT_DELAY_MS: Final = 5000
CONSUME_TIMEOUT_MS: Final = 15 * 60 * 1000
TIMEOUT_SWEEP_MS: Final = 60_000
TIMEOUT_DELAY_LEVEL: Final = 3
PENDING_MAX: Final = 100_000  # messages of all queues that wait for a worker

Verdict = ConsumeResult | bool | None
Listener = Callable[[MessageView], Verdict | Awaitable[Verdict]]
"""``None`` and ``True`` mean success, ``False`` later; raising means later. A plain function runs in a thread."""

Work = tuple[ProcessQueue, MessageView]


class Delivery:
    """A message that came out of ``async for``; ``ack`` or ``later`` it. Attributes are those of `MessageView`."""

    __slots__ = ("_finish", "message")

    def __init__(self, message: MessageView, finish: Callable[[ConsumeResult, int], Awaitable[None]]) -> None:
        self.message = message
        self._finish = finish

    def __getattr__(self, name: str) -> object:
        return getattr(self.message, name)

    @property
    def body(self) -> bytes:
        """The application's bytes."""
        return self.message.body

    @property
    def topic(self) -> str:
        """The topic subscribed to."""
        return self.message.topic

    async def ack(self) -> None:
        """The message is done; without effect when the queue meanwhile went to another member."""
        await self._finish(ConsumeResult.SUCCESS, 0)

    async def later(self, *, delay_level: int = 0) -> None:
        """Deliver it again; ``delay_level`` 0 lets the broker choose a growing delay."""
        await self._finish(ConsumeResult.LATER, delay_level)


class PushConsumer(GroupConsumer):
    """Consumes with a group, each message at least once.

    ```python
    async with PushConsumer("127.0.0.1:9876", group="billing", topics={"orders": "created || paid"}) as consumer:
        async for message in consumer:
            print(message.body)
            await message.ack()
    ```

    With ``listener`` messages are handed to it instead, ``concurrency`` at a time; ``orderly`` one at a time per queue, under
    a lock at the broker. A message that fails comes back later, up to ``reconsume_times_max`` times (-1: 16, orderly without
    end), then goes to the group's dead-letter topic. Not so with ``MessageModel.BROADCASTING``, where each member gets
    everything once and keeps its progress in ``offset_directory``.
    """

    def __init__(
        self,
        name_servers: str | Sequence[str] | None = None,
        *,
        group: str,
        topics: str | Mapping[str, Filter],
        listener: Listener | None = None,
        orderly: bool = False,
        model: MessageModel = MessageModel.CLUSTERING,
        consume_from: ConsumeFrom = ConsumeFrom.LAST,
        consume_timestamp_ms: int | None = None,
        allocation: AllocationStrategy | None = None,
        concurrency: int = CONCURRENCY,
        reconsume_times_max: int = -1,
        consume_timeout_ms: int = CONSUME_TIMEOUT_MS,
        suspend_queue_ms: int = SUSPEND_QUEUE_MS,
        pull_count: int = PULL_COUNT,
        queue_count_max: int = QUEUE_COUNT_MAX,
        queue_bytes_max: int = QUEUE_BYTES_MAX,
        offset_directory: Path | None = None,
        tracer: Tracer | None = None,
        telemetry: Telemetry | None = None,
        namespace: str = "",
    ) -> None:
        super().__init__(
            name_servers,
            group,
            {topics: "*"} if isinstance(topics, str) else topics,
            model=model,
            consume_from=consume_from,
            consume_timestamp_ms=consume_timestamp_ms,
            allocation=allocation,
            pull_count=pull_count,
            queue_count_max=queue_count_max,
            queue_bytes_max=queue_bytes_max,
            offset_directory=offset_directory,
            namespace=namespace,
        )
        if not self._subscriptions:
            raise InvalidArgument("no topic is subscribed to", hint='topics={"orders": "*"}')
        if concurrency < 1:
            raise InvalidArgument(f"concurrency is {concurrency}, it must be positive")
        self._listener = listener
        self._tracer = tracer
        self._telemetry = telemetry
        self._is_async = listener is not None and _is_async(listener)
        self._is_orderly = orderly
        self._concurrency = concurrency
        self._reconsume_times_max = reconsume_times_max
        self._consume_timeout_ms = consume_timeout_ms
        self._suspend_queue_ms = suspend_queue_ms
        self._pending: asyncio.Queue[Work | None] = asyncio.Queue(PENDING_MAX)
        self._busy = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._orders: dict[MessageQueue, asyncio.Lock] = {}
        self._threads: ThreadPoolExecutor | None = None
        self.statistics = running_info.ConsumeStatistics()
        if orderly:
            self._span_max = None

    # -- async for ---------------------------------------------------------------------------------------------------

    def __aiter__(self) -> AsyncIterator[Delivery]:
        if self._listener is not None:
            raise InvalidArgument("the consumer has a listener, which gets the messages", hint="leave listener out")
        return self._deliveries()

    async def _deliveries(self) -> AsyncIterator[Delivery]:
        while not self._is_closing:
            work = await self._pending.get()
            if work is None:
                self._pending.put_nowait(None)  # further iterators end too
                return
            held, message = work
            if held.is_dropped:
                continue
            held.started[message.queue_offset] = time.monotonic()
            yield Delivery(message, self._finisher(held, message))

    def _finisher(self, held: ProcessQueue, message: MessageView) -> Callable[[ConsumeResult, int], Awaitable[None]]:
        async def finish(result: ConsumeResult, delay_level: int) -> None:
            if self._joined is None or self._is_closing:
                raise ClientClosed("the consumer is closed; the message will be delivered again")
            waiter = self._waiters.pop((held, message.queue_offset), None)
            if waiter is not None:
                if result is ConsumeResult.SUCCESS:
                    held.remove(message.queue_offset)  # at once, so that a close right after the ack commits it
                if not waiter.done():
                    waiter.set_result(result)
                return
            await self._finish(held, message, result, delay_level)

        return finish

    # -- hooks -------------------------------------------------------------------------------------------------------

    async def _on_start(self) -> None:
        self._locks = QueueLocks(self._instance, self._group)
        self._send_back = SendBack(self._instance, self._group)
        self._waiters: dict[tuple[ProcessQueue, int], asyncio.Future[ConsumeResult]] = {}
        if self._listener is not None and not self._is_async:
            self._threads = ThreadPoolExecutor(self._concurrency, thread_name_prefix=f"consume-{self._group}")
        if self._is_orderly:
            if self._model is MessageModel.CLUSTERING:
                self._tasks.every(LOCK_RENEWAL_MS, self._renew_locks, f"locks of {self._group}", critical=False)
            return
        if self._listener is not None:
            for index in range(self._concurrency):
                self._tasks.start(self._working(), f"worker {index} of {self._group}")
        self._tasks.every(TIMEOUT_SWEEP_MS, self._sweep_timeouts, f"timeouts of {self._group}", critical=False)

    async def _on_close(self, grace_ms: int) -> None:
        if self._listener is None:
            while not self._pending.empty():
                self._pending.get_nowait()
            self._pending.put_nowait(None)
        else:
            try:
                async with asyncio.timeout(grace_ms / 1000):
                    await self._idle.wait()
            except TimeoutError:
                logger.warning("%d messages of %s are unfinished after %d ms", self._busy, self._group, grace_ms)
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _on_left(self, held: Sequence[ProcessQueue]) -> None:
        if self._needs_lock and held and hasattr(self, "_locks"):
            await self._locks.unlock(h.queue for h in held)

    async def _on_taken(self, held: ProcessQueue) -> bool:
        if self._is_orderly:
            if self._needs_lock:
                if held.queue not in await self._locks.lock([held.queue]):
                    return False
                held.locked()
            self._tasks.start(self._in_order(held), f"orderly consumption of {held.queue}")
        return True

    async def _on_moved(self, held: ProcessQueue) -> None:
        if self._is_orderly:
            self._tasks.start(self._in_order(held), f"orderly consumption of {held.queue}")

    async def _on_given_up(self, held: ProcessQueue) -> None:
        if not self._is_orderly:
            await self._commit([held])
            return
        # The message under way must end before the next owner may begin.
        self._tasks.start(self._hand_over(held), f"handing over {held.queue}")

    async def _deliver(self, held: ProcessQueue, messages: list[MessageView]) -> None:
        if self._is_orderly:
            return  # the queue's own task sees them
        for message in messages:
            await self._pending.put((held, message))

    async def _may_pull(self, held: ProcessQueue) -> bool:
        if self._needs_lock and not held.is_locked:
            if held.queue in await self._locks.lock([held.queue]):
                held.locked()
            else:
                await asyncio.sleep(1)
                return False
        return await super()._may_pull(held)

    @property
    def _needs_lock(self) -> bool:
        return self._is_orderly and self._model is MessageModel.CLUSTERING

    # -- concurrent --------------------------------------------------------------------------------------------------

    async def _working(self) -> None:
        while True:
            work = await self._pending.get()
            if work is None or self._is_closing:
                continue
            held, message = work
            if held.is_dropped:
                continue
            self._enter()
            try:
                held.started[message.queue_offset] = time.monotonic()
                result = await self._listen(message)
                await self._finish(held, message, result, 0)
            finally:
                self._leave()

    async def _finish(self, held: ProcessQueue, message: MessageView, result: ConsumeResult, delay_level: int) -> None:
        held.last_consume_ms = time.time_ns() // 1_000_000
        if held.is_dropped:
            logger.info("%r finished after its queue went to another member: it will be delivered there again", message)
            return
        if message.queue_offset not in held.messages:
            return  # it took too long and was given back meanwhile
        if result is ConsumeResult.LATER:
            if self._model is MessageModel.BROADCASTING:
                logger.warning("%r failed; broadcast messages are not delivered again", message)
            elif not await self._give_back(message, delay_level):
                message.stored.reconsume_times += 1
                held.started.pop(message.queue_offset, None)
                self._tasks.start(self._resubmit(held, message), f"another try of {message.message_id}")
                return
        held.remove(message.queue_offset)

    async def _give_back(self, message: MessageView, delay_level: int) -> bool:
        limit = RECONSUME_TIMES_MAX if self._reconsume_times_max < 0 else self._reconsume_times_max
        try:
            await self._send_back(message, delay_level=delay_level, reconsume_times_max=limit)
        except ClientError as error:
            logger.warning("%r cannot be given back, trying again here: %s", message, error)
            return False
        return True

    async def _resubmit(self, held: ProcessQueue, message: MessageView) -> None:
        await asyncio.sleep(RESUBMIT_DELAY_MS / 1000)
        if not held.is_dropped:
            await self._pending.put((held, message))

    async def _sweep_timeouts(self) -> None:
        """Give back what a listener keeps for longer than ``consume_timeout_ms``, so that it does not hold up the commits."""
        before = time.monotonic() - self._consume_timeout_ms / 1000
        for held in list(self._assigned.values()):
            for offset, started in list(held.started.items()):
                message = held.messages.get(offset)
                if started < before and message is not None and await self._give_back(message, TIMEOUT_DELAY_LEVEL):
                    logger.warning("%r was not finished in %d ms and is given back", message, self._consume_timeout_ms)
                    held.remove(offset)

    # -- orderly -----------------------------------------------------------------------------------------------------

    async def _in_order(self, held: ProcessQueue) -> None:
        lock = self._orders.setdefault(held.queue, asyncio.Lock())
        async with lock:  # a queue that left and came back waits for the message then under way
            while not held.is_dropped:
                message = held.first()
                if message is None:
                    held.arrived.clear()
                    await held.arrived.wait()
                    continue
                if self._is_closing:
                    return
                if self._needs_lock and not held.is_locked:
                    await asyncio.sleep(self._suspend_queue_ms / 10_000)
                    continue
                self._enter()
                try:
                    result = await self._listen_or_deliver(held, message)
                finally:
                    self._leave()
                held.last_consume_ms = time.time_ns() // 1_000_000
                if result is ConsumeResult.SUCCESS or await self._is_enough(message):
                    held.remove(message.queue_offset)
                    continue
                message.stored.reconsume_times += 1
                await asyncio.sleep(self._suspend_queue_ms / 1000)

    async def _listen_or_deliver(self, held: ProcessQueue, message: MessageView) -> ConsumeResult:
        if self._listener is not None:
            return await self._listen(message)
        waiter: asyncio.Future[ConsumeResult] = asyncio.get_running_loop().create_future()
        key = (held, message.queue_offset)
        self._waiters[key] = waiter
        await self._pending.put((held, message))
        try:
            return await waiter
        finally:
            self._waiters.pop(key, None)

    async def _is_enough(self, message: MessageView) -> bool:
        """Whether a failed message leaves the queue: it had all its deliveries and is now with the dead letters."""
        if self._model is MessageModel.BROADCASTING:
            return False
        limit = RECONSUME_TIMES_UNLIMITED if self._reconsume_times_max < 0 else self._reconsume_times_max
        if message.reconsume_times < limit:
            return False
        try:
            await self._send_back.resend(message, reconsume_times_max=limit)
        except ClientError as error:
            logger.warning("%r cannot be moved to the dead letters: %s", message, error)
            return False
        return True

    async def _hand_over(self, held: ProcessQueue) -> None:
        lock = self._orders.setdefault(held.queue, asyncio.Lock())
        async with lock:
            await self._commit([held], wait=True)
            if self._needs_lock and held.queue not in self._assigned:
                await self._locks.unlock([held.queue])
        if held.queue not in self._assigned:
            self._orders.pop(held.queue, None)

    async def _renew_locks(self) -> None:
        granted = await self._locks.lock(list(self._assigned))
        for queue, held in self._assigned.items():
            if queue in granted:
                held.locked()

    # -- the listener ------------------------------------------------------------------------------------------------

    def _enter(self) -> None:
        self._busy += 1
        self._idle.clear()

    def _leave(self) -> None:
        self._busy -= 1
        if self._busy == 0:
            self._idle.set()

    async def _listen(self, message: MessageView) -> ConsumeResult:
        if self._tracer is not None:
            return await self._tracer.consuming(self._group, message, self._judge)
        return await self._judge(message)

    async def _judge(self, message: MessageView) -> ConsumeResult:
        started = time.perf_counter()
        try:
            if self._telemetry is None:
                verdict = await self._call_listener(message)
            else:
                with self._telemetry.processing(self._group, message):
                    verdict = await self._call_listener(message)
        except Exception:
            logger.warning("the listener of %s failed on %r", self._group, message, exc_info=True)
            verdict = ConsumeResult.LATER
        result = _result(verdict)
        elapsed_ms = (time.perf_counter() - started) * 1000
        self.statistics.count(message.topic, elapsed_ms, ok=result is ConsumeResult.SUCCESS)
        return result

    async def _call_listener(self, message: MessageView) -> Verdict:
        listener = self._listener
        assert listener is not None, "workers exist only with a listener"
        if self._threads is None:
            outcome = listener(message)
        else:
            # In the caller's context, so that what the listener sends or logs belongs to its span.
            call = partial(contextvars.copy_context().run, listener, message)
            outcome = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        return await outcome if inspect.isawaitable(outcome) else outcome

    # -- what brokers ask --------------------------------------------------------------------------------------------

    def running_info(self) -> bytes:
        """See `ConsumerSide`."""
        return running_info.encode(
            name_servers=self._addresses,
            consume_type=self._consume_type,
            is_orderly=self._is_orderly,
            concurrency=self._concurrency,
            started_ms=self._started_ms,
            subscriptions=list(self._subscriptions.values()),
            assigned=self._assigned,
            statistics=self.statistics,
        )

    async def consume_directly(self, message: MessageView, broker_name: str) -> DirectResult:
        """See `ConsumerSide`."""
        del broker_name
        if self._listener is None:
            return DirectResult("CR_LATER", remark="the consumer iterates over its messages and has no listener")
        started = time.perf_counter()
        result, remark = "CR_SUCCESS", None
        try:
            if _result(await self._call_listener(message)) is ConsumeResult.LATER:
                result = "CR_LATER"
        except Exception as error:  # noqa: BLE001 - reported to whoever asked
            result, remark = "CR_THROW_EXCEPTION", f"{type(error).__name__}: {error}"
        spent_ms = int((time.perf_counter() - started) * 1000)
        return DirectResult(result, order=self._is_orderly, remark=remark, spent_time_mills=spent_ms)


def _is_async(listener: Listener) -> bool:
    return inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(getattr(listener, "__call__", None))  # noqa: B004


def _result(verdict: Verdict) -> ConsumeResult:
    if isinstance(verdict, ConsumeResult):
        return verdict
    return ConsumeResult.LATER if verdict is False else ConsumeResult.SUCCESS
