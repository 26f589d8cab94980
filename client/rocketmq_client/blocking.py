"""The client without ``async``: for scripts, notebooks and threads.

Each object runs an event loop in a thread of its own and hands every call over to it. Names and arguments are those of the asyncio
classes; calls may come from any number of threads. Applications that are asyncio themselves use the classes of `rocketmq_client`.

```python
from rocketmq_client.blocking import Admin, Producer, PushConsumer

with Producer("127.0.0.1:9876") as producer:
    producer.send("orders", b"hi", tag="created")
with PushConsumer("127.0.0.1:9876", group="billing", topics="orders") as consumer:
    for message in consumer.receive(timeout_ms=5000):
        message.ack()
```
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Protocol, Self, TypeVar

import rocketmq_client as asynchronous
from rocketmq_client.errors import ClientClosed
from rocketmq_client.messages import MessageView
from rocketmq_client.subscriptions import Filter

P = ParamSpec("P")
R = TypeVar("R")

LOOP_STOP_TIMEOUT_S: Final = 10.0


class _Startable(Protocol):
    async def start(self) -> None: ...

    async def close(self) -> None: ...


A = TypeVar("A", bound=_Startable)


class LoopThread:
    """An event loop in a thread; `call` runs a coroutine there and waits for its outcome."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def call(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The coroutine's result or exception; Ctrl-C while waiting cancels it."""
        if threading.current_thread() is self._thread:
            coroutine.close()
            raise RuntimeError("a listener runs on the client's own loop, which cannot wait for itself")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End the loop and its thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LOOP_STOP_TIMEOUT_S)
        if not self._thread.is_alive():
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


class Blocking(Generic[A]):
    """A started asyncio object and the thread that it lives in. It is made by ``make`` in that thread."""

    def __init__(self, make: Callable[[], A]) -> None:
        self._make = make
        self._thread: LoopThread | None = None
        self._inner: A | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def inner(self) -> A:
        """The asyncio object, for what has no blocking form; raises ClientClosed before ``start``."""
        if self._inner is None:
            raise ClientClosed("the client is not started", hint="use: with")
        return self._inner

    def start(self) -> None:
        """Start thread and object. Raises what the asyncio class's ``start`` raises; nothing is left running then."""
        if self._thread is not None:
            return
        thread = LoopThread(f"{type(self).__name__} loop")

        async def begin() -> A:
            # Here, because asyncio objects belong to the loop that runs when they are made.
            made = self._make()
            await made.start()
            return made

        try:
            self._inner = thread.call(begin())
        except BaseException:
            thread.stop()
            raise
        self._thread = thread

    def close(self) -> None:
        """Close the object and end the thread."""
        thread, inner = self._thread, self._inner
        self._thread = self._inner = None
        if thread is not None and inner is not None:
            try:
                thread.call(inner.close())
            finally:
                thread.stop()

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Run a coroutine of `inner` and wait for it."""
        if self._thread is None:
            coroutine.close()
            raise ClientClosed("the client is not started", hint="use: with")
        return self._thread.call(coroutine)


def _blocking(
    method: Callable[Concatenate[A, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[Blocking[A], P], R]:
    @functools.wraps(method)
    def call(self: Blocking[A], /, *arguments: P.args, **options: P.kwargs) -> R:
        return self.run(method(self.inner, *arguments, **options))

    return call


class Producer(Blocking[asynchronous.Producer]):
    """See `rocketmq_client.Producer`."""

    def __init__(self, name_servers: str | Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(lambda: asynchronous.Producer(name_servers, **options))

    send = _blocking(asynchronous.Producer.send)
    send_batch = _blocking(asynchronous.Producer.send_batch)
    send_oneway = _blocking(asynchronous.Producer.send_oneway)
    queues = _blocking(asynchronous.Producer.queues)

    def request(self, topic: str, body: bytes | str = b"", **options: Any) -> MessageView:
        """See `rocketmq_client.Requester.request`."""
        return self.run(asynchronous.Requester(self.inner).request(topic, body, **options))


class TransactionProducer(Blocking[asynchronous.TransactionProducer]):
    """See `rocketmq_client.TransactionProducer`; ``check`` and ``execute`` run on the client's loop and must not block for long."""

    def __init__(self, name_servers: str | Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(lambda: asynchronous.TransactionProducer(name_servers, **options))

    send = _blocking(asynchronous.TransactionProducer.send)
    send_in_transaction = _blocking(asynchronous.TransactionProducer.send_in_transaction)


class Delivery:
    """A received message; ``ack`` or ``later`` it."""

    def __init__(self, consumer: PushConsumer, delivery: asynchronous.Delivery) -> None:
        self._consumer = consumer
        self._delivery = delivery
        self.message = delivery.message

    def __getattr__(self, name: str) -> Any:
        return getattr(self.message, name)

    @property
    def body(self) -> bytes:
        """The application's bytes."""
        return self.message.body

    def ack(self) -> None:
        """See `rocketmq_client.Delivery.ack`."""
        self._consumer.run(self._delivery.ack())

    def later(self, *, delay_level: int = 0) -> None:
        """See `rocketmq_client.Delivery.later`."""
        self._consumer.run(self._delivery.later(delay_level=delay_level))


class PushConsumer(Blocking[asynchronous.PushConsumer]):
    """See `rocketmq_client.PushConsumer`. Without ``listener``, messages come out of `receive`; a plain function as listener runs
    in threads of its own."""

    def __init__(
        self,
        name_servers: str | Sequence[str] | None = None,
        *,
        group: str,
        topics: str | Mapping[str, Filter],
        **options: Any,
    ) -> None:
        super().__init__(lambda: asynchronous.PushConsumer(name_servers, group=group, topics=topics, **options))
        self._deliveries: AsyncIterator[asynchronous.Delivery] | None = None
        # A message that came when nobody waited any more: asking must not be cancelled half-way, or the message is lost.
        self._coming: asyncio.Future[asynchronous.Delivery | None] | None = None

    wait_assigned = _blocking(asynchronous.PushConsumer.wait_assigned)

    def receive(self, *, timeout_ms: int | None = None, count_max: int | None = None) -> Iterator[Delivery]:
        """Messages as they come; ends after ``count_max``, or when none came for ``timeout_ms``."""
        count = 0
        while count_max is None or count < count_max:
            delivery = self.run(self._next(timeout_ms))
            if delivery is None:
                return
            count += 1
            yield Delivery(self, delivery)

    def close(self) -> None:
        """See `rocketmq_client.PushConsumer.close`."""
        if self._thread is not None and self._coming is not None:
            self.run(self._forget())
        super().close()

    async def _next(self, timeout_ms: int | None) -> asynchronous.Delivery | None:
        if self._deliveries is None:
            self._deliveries = aiter(self.inner)
        if self._coming is None:
            self._coming = asyncio.ensure_future(_next_or_none(self._deliveries))
        await asyncio.wait({self._coming}, timeout=None if timeout_ms is None else timeout_ms / 1000)
        if not self._coming.done():
            return None
        coming, self._coming = self._coming, None
        return coming.result()

    async def _forget(self) -> None:
        coming, self._coming = self._coming, None
        if coming is not None:
            coming.cancel()
            await asyncio.wait({coming})


async def _next_or_none(deliveries: AsyncIterator[asynchronous.Delivery]) -> asynchronous.Delivery | None:
    return await anext(deliveries, None)


class LitePullConsumer(Blocking[asynchronous.LitePullConsumer]):
    """See `rocketmq_client.LitePullConsumer`."""

    def __init__(self, name_servers: str | Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(lambda: asynchronous.LitePullConsumer(name_servers, **options))

    queues = _blocking(asynchronous.LitePullConsumer.queues)
    assign = _blocking(asynchronous.LitePullConsumer.assign)
    poll = _blocking(asynchronous.LitePullConsumer.poll)
    commit = _blocking(asynchronous.LitePullConsumer.commit)
    committed = _blocking(asynchronous.LitePullConsumer.committed)
    seek = _blocking(asynchronous.LitePullConsumer.seek)
    seek_to_begin = _blocking(asynchronous.LitePullConsumer.seek_to_begin)
    seek_to_end = _blocking(asynchronous.LitePullConsumer.seek_to_end)
    offset_at = _blocking(asynchronous.LitePullConsumer.offset_at)


class Admin(Blocking[asynchronous.Admin]):
    """See `rocketmq_client.Admin`: ``admin.topics.create("orders")`` and so on, with the same names and arguments."""

    def __init__(self, name_servers: str | Sequence[str] | None = None, **options: Any) -> None:
        super().__init__(lambda: asynchronous.Admin(name_servers, **options))

    diagnose = _blocking(asynchronous.Admin.diagnose)

    @property
    def topics(self) -> Any:
        """See `rocketmq_client.Admin.topics`."""
        return _Part(self, self.inner.topics)

    @property
    def groups(self) -> Any:
        """See `rocketmq_client.Admin.groups`."""
        return _Part(self, self.inner.groups)

    @property
    def brokers(self) -> Any:
        """See `rocketmq_client.Admin.brokers`."""
        return _Part(self, self.inner.brokers)

    @property
    def messages(self) -> Any:
        """See `rocketmq_client.Admin.messages`."""
        return _Part(self, self.inner.messages)

    @property
    def dead_letters(self) -> Any:
        """See `rocketmq_client.Admin.dead_letters`; ``letters`` gives a list."""
        return _Part(self, self.inner.dead_letters)


class _Part:
    """One part of `Admin`, its coroutines run, its asynchronous iterators read to the end."""

    def __init__(self, owner: Admin, part: object) -> None:
        self._owner = owner
        self._part = part

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._part, name)
        if inspect.iscoroutinefunction(found):
            return lambda *arguments, **options: self._owner.run(found(*arguments, **options))
        if inspect.isasyncgenfunction(found):

            async def read(*arguments: Any, **options: Any) -> list[Any]:
                return [item async for item in found(*arguments, **options)]

            return lambda *arguments, **options: self._owner.run(read(*arguments, **options))
        return found
