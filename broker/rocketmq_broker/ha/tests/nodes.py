"""Masters and slaves in one process, joined by loopback sockets; and a peer that says whatever a test wants it to."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Unpack

from rocketmq_broker.ha.authentication import Authentication
from rocketmq_broker.ha.frames import TRANSFER_HEAD, encode_report
from rocketmq_broker.ha.master import ReplicationMaster
from rocketmq_broker.ha.origin import MasterLog, MasterSilent
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_broker.ha.slave import ReplicationSlave
from rocketmq_broker.ha.tests.stores import SEGMENT_SIZE, settings_for, unexpected
from rocketmq_common.clock import SystemClock
from rocketmq_common.files import MapOptions, Mapping, RealFiles
from rocketmq_common.tasks import TaskRegistry
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

WAIT_MAX_S = 20.0
HOST = "127.0.0.1"


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until ``condition`` holds."""
    async with asyncio.timeout(WAIT_MAX_S):
        while not condition():
            await asyncio.sleep(0.002)


async def flushed(store: MessageStore) -> None:
    """Wait until everything in the log is durable."""
    store.flush()
    await until(lambda: store.positions.flushed == store.positions.written)


async def turns(count: int = 20) -> None:
    """Let everything that is ready happen, for claims that something does not."""
    for _ in range(count):
        await asyncio.sleep(0.002)


def quick(**changes: Any) -> ReplicationSettings:
    """Settings with short intervals."""
    values = {
        "ha_send_heartbeat_interval": 100,
        "ha_housekeeping_interval": 2000,
        "ha_reconnect_interval": 50,
        "slave_timeout": 10_000,
        **changes,
    }
    return ReplicationSettings(**values)


class GatedFiles(RealFiles):
    """Files whose log cannot be synced while `hold` is in force."""

    __slots__ = ("_gate", "_held")

    def __init__(self) -> None:
        self._gate = threading.Event()
        self._gate.set()
        self._held = threading.Event()

    def hold(self) -> None:
        """Syncs wait from now on."""
        self._gate.clear()

    def release(self) -> None:
        """Syncs go on."""
        self._gate.set()

    def map_file(self, path: Path, size: int, **options: Unpack[MapOptions]) -> Mapping:
        mapping = super().map_file(path, size, **options)
        return _GatedMapping(mapping, self._gate) if path.parent.name == "commitlog" else mapping


class _GatedMapping:
    def __init__(self, mapping: Mapping, gate: threading.Event) -> None:
        self._mapping = mapping
        self._gate = gate

    @property
    def buffer(self) -> memoryview:
        return self._mapping.buffer

    def write(self, start: int, data: bytes | bytearray | memoryview) -> None:
        self._mapping.write(start, data)

    def sync(self) -> None:
        assert self._gate.wait(WAIT_MAX_S)
        self._mapping.sync()

    def allocate(self, start: int, length: int) -> None:
        self._mapping.allocate(start, length)

    def zero(self, start: int, length: int) -> None:
        self._mapping.zero(start, length)

    def rewrite(self, start: int, length: int) -> None:
        self._mapping.rewrite(start, length)

    def absent_from(self, start: int, end: int) -> int:
        return self._mapping.absent_from(start, end)

    def load(self, start: int, end: int) -> None:
        self._mapping.load(start, end)

    def close(self) -> None:
        self._mapping.close()


class Nodes:
    """Makes stores, masters and slaves in one directory, and ends them all."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ends: list[Callable[[], Awaitable[None] | None]] = []
        self.clock = SystemClock()
        self.tasks = TaskRegistry(unexpected)
        self.masters: dict[str, MessageStore] = {}

    def store(
        self, name: str, *, files: RealFiles | None = None, segment_size: int = SEGMENT_SIZE, **more: Any
    ) -> MessageStore:
        """An open store under ``name``; the same name again opens the same directory."""
        store = MessageStore(
            settings_for(self._root / name, segment_size=segment_size, **more),
            post=asyncio.get_running_loop().call_soon_threadsafe,
            fatal=unexpected,
            files=files,
        )
        store.open()
        self._ends.append(store.close)
        return store

    async def master(
        self,
        store: MessageStore,
        settings: ReplicationSettings | None = None,
        *,
        is_sync: bool = False,
        port: int = 0,
        authentication: Authentication | None = None,
    ) -> ReplicationMaster:
        """A started master."""
        master = ReplicationMaster(
            settings or quick(), store, self.clock, is_sync_master=is_sync, authentication=authentication
        )
        await master.start(HOST, port)
        self._ends.append(master.stop)
        self.masters[address_of(master)] = store
        return master

    def slave(
        self,
        store: MessageStore,
        master: ReplicationMaster | str,
        settings: ReplicationSettings | None = None,
        *,
        own_host: str = "",
        authentication: Authentication | None = None,
    ) -> ReplicationSlave:
        """A started slave of ``master``; it asks for the master's span at the same address."""
        slave = ReplicationSlave(
            settings or quick(),
            store,
            self.clock,
            self.tasks,
            self.ask,
            own_host=own_host,
            authentication=authentication,
        )
        address = master if isinstance(master, str) else address_of(master)
        slave.set_master(address, address)
        slave.start()
        self._ends.append(slave.stop)
        return slave

    async def peer(self, master: ReplicationMaster, report: int | None = None) -> Peer:
        """A slave played by the test."""
        reader, writer = await asyncio.open_connection(HOST, master.port)
        peer = Peer(reader, writer)
        self._ends.append(peer.close)
        if report is not None:
            peer.report(report)
        return peer

    def own(self, end: Callable[[], Awaitable[None] | None]) -> None:
        """Call ``end`` after the test."""
        self._ends.append(end)

    async def end(self) -> None:
        """Stop everything, youngest first."""
        for end in reversed(self._ends):
            outcome = end()
            if outcome is not None:
                await outcome
        await self.tasks.stop()

    async def ask(self, address: str) -> MasterLog:
        """What the log of the master at ``address`` spans."""
        store = self.masters.get(address)
        if store is None:
            raise MasterSilent(f"nobody at {address}")
        return MasterLog(store.log_min_offset, store.positions.written, store.settings.commit_log_segment_size)


class Peer:
    """The other end of a master's link."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.offset: int | None = None
        self.log = bytearray()

    def report(self, *offsets: int) -> None:
        """Say where the log ends."""
        self.writer.write(b"".join(map(encode_report, offsets)))

    async def frame(self) -> tuple[int, bytes]:
        """The next frame: offset and body."""
        async with asyncio.timeout(WAIT_MAX_S):
            offset, size = TRANSFER_HEAD.unpack(await self.reader.readexactly(TRANSFER_HEAD.size))
            body = await self.reader.readexactly(size)
        if size:
            if self.offset is None:
                self.offset = offset
            assert offset == self.offset
            self.offset += size
            self.log += body
        return offset, body

    async def receive_to(self, end: int) -> None:
        """Take frames until the log reaches ``end``."""
        while self.offset is None or self.offset < end:
            await self.frame()

    async def is_dropped(self) -> bool:
        """Wait until the master closes the link."""
        async with asyncio.timeout(WAIT_MAX_S):
            try:
                while await self.reader.read(1 << 16):
                    pass
            except ConnectionError:
                pass
        return True

    async def close(self) -> None:
        """Leave."""
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            return


def address_of(master: ReplicationMaster) -> str:
    """``host:port`` of the HA listener."""
    return f"{HOST}:{master.port}"


class Answers:
    """Outcomes of sends by their end offset."""

    def __init__(self, master: ReplicationMaster) -> None:
        self._master = master
        self.by_end: dict[int, PutStatus] = {}

    def wait_for(self, end: int) -> None:
        """A send that ends at ``end`` waits for its replicas."""
        self._master.when_replicated(end, lambda status: self.by_end.__setitem__(end, status))
