"""Brokers that elect, in one process: each with its lives, as ``python -m rocketmq_broker`` gives them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from rocketmq_broker.app import Broker
from rocketmq_broker.listening import Ports
from rocketmq_broker.tests.harness import Peer, make_broker
from rocketmq_common.files import RealFiles
from rocketmq_remoting.client import RemotingClient
from rocketmq_store.truncation import truncate_log

WAIT_MAX_S = 60.0
# Short, but with room for a loop that is held up for a second.
TIMINGS = {"leaseDuration": 4000, "leaseRenewDeadline": 2500, "leaseRetryPeriod": 200}


async def until(condition: Callable[[], bool], what: str) -> None:
    """Let the loop run until ``condition`` holds."""
    try:
        async with asyncio.timeout(WAIT_MAX_S):
            while not condition():
                await asyncio.sleep(0.02)
    except TimeoutError as error:
        raise AssertionError(f"{what}: not within {WAIT_MAX_S:g} s") from error


class Replica:
    """One replica; ``broker`` is its life of now."""

    def __init__(self, root: Path, index: int, count: int, **settings: object) -> None:
        self._root = root / f"r{index}"
        self._settings = {
            "brokerId": index, "brokerRole": "SYNC_MASTER", "totalReplicas": count, "inSyncReplicas": count,
            "failoverMode": "Automatic", "replicaName": f"r{index}", "leaseDirectory": root / "leases",
            "haSendHeartbeatInterval": 200, "haHousekeepingInterval": 5000, **TIMINGS, **settings,
        }  # fmt: skip
        self.cuts: list[int] = []
        self.lives = 0
        self.broker: Broker | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._ports = Ports(is_kept=True)

    def start(self) -> None:
        """Begin to live."""
        self._stopping.clear()
        self._ports = Ports(is_kept=True)
        self._task = asyncio.get_running_loop().create_task(self._live())

    async def stop(self) -> None:
        """An orderly end."""
        self._stopping.set()
        if self._task is not None:
            await self._task
            self._task = None

    @property
    def leads(self) -> bool:
        """It is master, reached by slaves, and may write."""
        broker = self.broker
        if broker is None or broker.succession is None or not broker.identity.ha_port:
            return False
        status = broker.succession.status()
        return status is not None and status.may_write

    @property
    def in_sync(self) -> tuple[str, ...]:
        """The set, as this replica last saw it."""
        status = self.broker.succession.status() if self.broker is not None and self.broker.succession else None
        return () if status is None else status.in_sync

    @asynccontextmanager
    async def peer(self) -> AsyncIterator[Peer]:
        """A client of the broker's life of now."""
        assert self.broker is not None
        client = RemotingClient()
        try:
            yield Peer(self.broker, client)
        finally:
            await client.close()

    async def _live(self) -> None:
        while not self._stopping.is_set():
            broker = make_broker(self._root, None, **self._settings)
            broker.ports = self._ports
            await broker.start()
            self.broker, self.lives = broker, self.lives + 1
            stopping = asyncio.ensure_future(self._stopping.wait())
            await asyncio.wait((stopping, broker.ended), return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            self.broker = None
            if self._stopping.is_set():
                self._ports.close()
            await broker.stop()
            if broker.ended.done() and (offset := broker.ended.result()) is not None:
                self.cuts.append(offset)
                truncate_log(RealFiles(), broker.store_settings, offset)


@asynccontextmanager
async def group(root: Path, count: int, **settings: object) -> AsyncIterator[list[Replica]]:
    """``count`` replicas, the first of them leading with all in sync."""
    replicas = [Replica(root, index, count, **settings) for index in range(count)]
    try:
        for replica in replicas:
            replica.start()
        await until(lambda: replicas[0].leads and len(replicas[0].in_sync) == count, "the group is whole")
        yield replicas
    finally:
        await asyncio.gather(*(replica.stop() for replica in replicas))
