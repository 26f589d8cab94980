"""A `FakeCluster` for tests that have no event loop, or must not share theirs with it: it runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from rocketmq_testkit.fake_cluster import FakeCluster

T = TypeVar("T")
START_TIMEOUT_SECONDS = 10.0
CALL_TIMEOUT_SECONDS = 10.0


class ClusterThread:
    """``with ClusterThread(brokers=2) as running: running.name_server``. The arguments are those of `FakeCluster`."""

    def __init__(self, brokers: int = 1, *, name_servers: int = 1, queues: int = 4) -> None:
        self.cluster = FakeCluster(brokers, name_servers=name_servers, queues=queues)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ready = threading.Event()
        self._stop: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fake cluster", daemon=True)

    @property
    def name_server(self) -> str:
        """The addresses of all name servers."""
        return self.cluster.name_server

    def call(self, action: Callable[[FakeCluster], T]) -> T:
        """Run ``action`` on the cluster's own event loop and return what it returns."""
        assert self._loop is not None, "the cluster is not started"

        async def work() -> T:
            return action(self.cluster)

        return asyncio.run_coroutine_threadsafe(work(), self._loop).result(CALL_TIMEOUT_SECONDS)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_SECONDS):
            raise TimeoutError("the fake cluster did not start")
        if self._error is not None:
            raise self._error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CALL_TIMEOUT_SECONDS)

    def _run(self) -> None:
        asyncio.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        try:
            async with self.cluster:
                self._ready.set()
                await self._stop.wait()
        except OSError as error:
            self._error = error
            self._ready.set()
