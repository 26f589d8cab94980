"""What a slave of an electing group shows: never more than its master's readers see, for a new master may not have the rest."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rocketmq_broker.failover.epochs import EpochHistory
from rocketmq_broker.ha.epoch_handshake import MAGIC, Greeting, MasterWelcome, SlaveGreeting, encode
from rocketmq_broker.ha.frames import CONFIRMED_SIZE, encode_head
from rocketmq_broker.ha.handshake import ApacheHandshake
from rocketmq_broker.ha.master import ReplicationMaster
from rocketmq_broker.ha.origin import OwnLog
from rocketmq_broker.ha.slave import ReplicationSlave
from rocketmq_broker.ha.tests.nodes import HOST, Nodes, Peer, address_of, quick, turns, until
from rocketmq_broker.ha.tests.stores import SEGMENT_SIZE, put
from rocketmq_common.files import RealFiles
from rocketmq_store.positions import UNBOUNDED
from rocketmq_store.statuses import GetStatus
from rocketmq_store.store import MessageStore

GROUP = "c/b"


class ReignOfTest:
    """Three members, for ever."""

    member = "m"
    members = frozenset(("m", "s1", "s2"))

    def may_write(self) -> bool:
        return True


class FollowingOfTest:
    """A replica of the group, without elections."""

    def __init__(self, name: str, store: MessageStore, root: Path) -> None:
        self._name = name
        self._store = store
        self._history = EpochHistory(RealFiles(), root)

    def greet(self) -> SlaveGreeting:
        store = self._store
        own = OwnLog(store.positions.written, store.follower.is_empty, store.settings.commit_log_segment_size)
        return SlaveGreeting(GROUP, self._name, self._history, own, lambda _: True)

    def acknowledged(self) -> None:
        return None

    def diverged(self, offset: int) -> None:
        raise AssertionError(f"diverged at {offset}")


async def lead(nodes: Nodes, store: MessageStore, root: Path, *, is_sync: bool = True) -> ReplicationMaster:
    history = EpochHistory(RealFiles(), root)
    history.begin(1, store.positions.written, store.log_min_offset)
    master = ReplicationMaster(
        quick(), store, nodes.clock, is_sync_master=is_sync, reign=ReignOfTest(),
        handshake=lambda host: MasterWelcome(ApacheHandshake(host, sync_from_last_file=False), GROUP, 1, history),
    )  # fmt: skip
    await master.start(HOST, 0)
    nodes.own(master.stop)
    return master


def follow(
    nodes: Nodes, name: str, store: MessageStore, master: ReplicationMaster | str, root: Path
) -> ReplicationSlave:
    following = FollowingOfTest(name, store, root)
    slave = ReplicationSlave(quick(), store, nodes.clock, nodes.tasks, nodes.ask, following=following)
    slave.set_master(master if isinstance(master, str) else address_of(master), "")
    slave.start()
    nodes.own(slave.stop)
    return slave


def shown(store: MessageStore) -> int:
    """How many messages a consumer gets."""
    found = store.get_messages("t", 0, 0, 1000)
    return found.message_count if found.status is GetStatus.FOUND else 0


async def test_a_slave_shows_a_message_only_when_every_member_of_the_set_has_it(nodes: Nodes, tmp_path: Path) -> None:
    ours, first, second = nodes.store("m"), nodes.store("s1"), nodes.store("s2")
    master = await lead(nodes, ours, tmp_path / "m")
    follow(nodes, "s1", first, master, tmp_path / "s1")
    results = [put(ours, n) for n in range(10)]
    await until(lambda: first.positions.written == ours.positions.written)
    await turns()
    # A master that was elected from s2 would not have them.
    assert shown(first) == 0
    assert first.message_at(results[0].physical_offset) is None
    first.build_index()
    assert not first.query("t", "k1", 10).records
    follow(nodes, "s2", second, master, tmp_path / "s2")
    await until(lambda: shown(first) == shown(second) == 10)
    first.build_index()
    assert first.query("t", "k1", 10).records
    # And on, without the links being made anew.
    for n in range(10, 30):
        put(ours, n)
    await until(lambda: shown(first) == shown(second) == 30)
    assert first.positions.confirmed == ours.positions.readable


async def test_what_a_slave_recovered_is_shown_once_a_master_says_that_it_stays(nodes: Nodes, tmp_path: Path) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s1")
    results = [put(ours, n) for n in range(5)]
    theirs.follower.append(0, bytes(ours.commit_log_slice(0, 1 << 20) or b""))
    assert shown(theirs) == 5
    theirs.confirm(0)
    assert shown(theirs) == 0
    assert theirs.message_at(results[0].physical_offset) is None
    # Who asks beyond the end is told so, as ever: an offset that is none must not wait for a confirmation.
    assert theirs.get_messages("t", 0, 50, 1).status is GetStatus.OFFSET_OVERFLOW_BADLY
    theirs.confirm(ours.positions.written - 1)
    assert shown(theirs) == 0
    master = await lead(nodes, ours, tmp_path / "m")
    follow(nodes, "s1", theirs, master, tmp_path / "s1")
    await until(lambda: shown(theirs) == 5)


async def test_a_slave_of_an_asynchronous_master_shows_what_it_has(nodes: Nodes, tmp_path: Path) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s1")
    master = await lead(nodes, ours, tmp_path / "m", is_sync=False)
    follow(nodes, "s1", theirs, master, tmp_path / "s1")
    for n in range(10):
        put(ours, n)
    await until(lambda: shown(theirs) == 10)


async def test_a_master_of_ours_from_before_confirmed_offsets_bounds_nothing(nodes: Nodes, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(12)
        await reader.readexactly(int.from_bytes(head[8:], "big"))
        body = b'{"epoch":1,"logEnd":0,"segmentSize":%d,"epochs":[[1,0]]}' % SEGMENT_SIZE
        writer.write(MAGIC + len(body).to_bytes(4, "big") + body)
        while await reader.read(1 << 16):
            pass
        writer.close()

    theirs = nodes.store("s1")
    theirs.confirm(0)
    async with await asyncio.start_server(serve, HOST, 0) as server:
        slave = follow(nodes, "s1", theirs, f"{HOST}:{server.sockets[0].getsockname()[1]}", tmp_path / "s1")
        await until(lambda: theirs.positions.confirmed == UNBOUNDED)
        await slave.stop()


async def test_a_slave_that_does_not_take_it_is_not_told(nodes: Nodes, tmp_path: Path) -> None:
    ours = nodes.store("m")
    put(ours, 1)
    master = await lead(nodes, ours, tmp_path / "m")
    peer = await nodes.peer(master)
    peer.writer.write(encode(Greeting(group=GROUP, member="s1", epochs=())))
    peer.report(0)
    head = await peer.reader.readexactly(12)
    body = await peer.reader.readexactly(int.from_bytes(head[8:], "big"))
    assert b'"confirmed":-1' in body
    peer.report(ours.positions.written)
    told = encode_head(ours.positions.readable, CONFIRMED_SIZE)[8:]
    await _heartbeats(peer, 3, told)


async def _heartbeats(peer: Peer, count: int, unwanted: bytes) -> None:
    """Take frames until ``count`` of them were empty."""
    while count:
        head = await peer.reader.readexactly(12)
        assert head[8:] != unwanted
        size = int.from_bytes(head[8:], "big", signed=True)
        if size > 0:
            await peer.reader.readexactly(size)
        elif size == 0:
            count -= 1
