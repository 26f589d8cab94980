"""A slave and its master over real sockets: byte-identical logs, honest acknowledgements, and no log cut or emptied by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from rocketmq_broker.ha.frames import encode_head
from rocketmq_broker.ha.tests.nodes import HOST, Answers, GatedFiles, Nodes, address_of, flushed, quick, turns, until
from rocketmq_broker.ha.tests.stores import SEGMENT_SIZE, log_bytes, put, queues_of
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

OK = PutStatus.PUT_OK


def is_same(one: MessageStore, other: MessageStore) -> bool:
    """Both logs end at the same place and everything is visible."""
    return one.positions.written == other.positions.written and one.positions.dispatched == other.positions.dispatched


@pytest.mark.parametrize("is_sync_flush", [False, True])
async def test_a_slave_catches_up_and_follows(nodes: Nodes, is_sync_flush: bool) -> None:
    ours = nodes.store("m", is_sync=is_sync_flush)
    theirs = nodes.store("s", is_sync=is_sync_flush)
    for n in range(150):
        put(ours, n, body_size=11 * n % 900, queue_id=n % 3)
    await flushed(ours)
    master = await nodes.master(ours)
    slave = nodes.slave(theirs, master)
    await until(lambda: is_same(ours, theirs))
    for n in range(150, 300):
        put(ours, n, body_size=11 * n % 900, queue_id=n % 3)
    await flushed(ours)
    await until(lambda: is_same(ours, theirs))
    assert log_bytes(theirs) == log_bytes(ours)
    assert queues_of(theirs) == queues_of(ours)
    await until(lambda: master.status().slaves[0].acknowledged_offset == ours.positions.written)
    assert slave.status().is_connected
    assert slave.status().problem == ""


async def test_a_slave_of_a_longer_log_gets_its_oldest_messages_too(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    for n in range(100):
        put(ours, n, body_size=800)
    assert ours.positions.written > 3 * SEGMENT_SIZE
    # As an Apache master does, this one sends an empty slave its newest segment only.
    master = await nodes.master(ours, quick(sync_from_last_file=True))
    nodes.slave(theirs, master)
    await until(lambda: is_same(ours, theirs))
    assert theirs.log_min_offset == 0
    assert log_bytes(theirs) == log_bytes(ours)


async def test_a_slave_begins_where_the_masters_log_begins(nodes: Nodes) -> None:
    ours = nodes.store("m", file_reserved_hours=0, delete_when=";".join(f"{hour:02}" for hour in range(24)))
    for n in range(100):
        put(ours, n, body_size=800)
    await flushed(ours)
    ours.clean(nodes.clock.now_ms())
    assert ours.log_min_offset > 0
    theirs = nodes.store("s")
    nodes.slave(theirs, await nodes.master(ours))
    await until(lambda: theirs.positions.written == ours.positions.written)
    assert theirs.log_min_offset == ours.log_min_offset
    assert log_bytes(theirs) == log_bytes(ours)


async def test_a_synchronous_send_is_answered_when_the_slave_has_it(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    master = await nodes.master(ours, quick(in_sync_replicas=2), is_sync=True)
    slave = nodes.slave(theirs, master)
    await until(lambda: master.status().in_sync_count == 2)
    answers = Answers(master)
    ends = [put(ours, n).end_offset for n in range(50)]
    for end in ends:
        answers.wait_for(end)
    await until(lambda: len(answers.by_end) == 50)
    assert set(answers.by_end.values()) == {OK}
    assert theirs.positions.written == ends[-1]
    await slave.stop()
    end = put(ours, 50).end_offset
    answers.wait_for(end)
    await turns()
    assert end not in answers.by_end


async def test_a_slave_with_sync_flush_acknowledges_only_what_it_flushed(nodes: Nodes) -> None:
    files = GatedFiles()
    ours, theirs = nodes.store("m"), nodes.store("s", is_sync=True, files=files)
    master = await nodes.master(ours, quick(in_sync_replicas=2), is_sync=True)
    nodes.slave(theirs, master)
    await until(lambda: master.status().in_sync_count == 2)
    answers = Answers(master)
    files.hold()
    try:
        end = put(ours, 0).end_offset
        answers.wait_for(end)
        await until(lambda: theirs.positions.written == end)
        await turns()
        assert answers.by_end == {}
        assert master.status().slaves[0].acknowledged_offset == 0
    finally:
        files.release()
    await until(lambda: answers.by_end == {end: OK})
    assert theirs.positions.flushed >= end


async def test_a_slave_goes_on_after_its_link_broke(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    master = await nodes.master(ours)
    slave = nodes.slave(theirs, master)
    for n in range(20):
        put(ours, n)
        await until(lambda: is_same(ours, theirs))
        if n % 5 == 0:
            for link in list(master._links):
                link.close("the test cuts it")
    assert log_bytes(theirs) == log_bytes(ours)
    assert queues_of(theirs) == queues_of(ours)
    assert slave.status().connect_count >= 4


async def test_a_slave_goes_on_after_its_own_restart(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    master = await nodes.master(ours)
    slave = nodes.slave(theirs, master)
    for n in range(30):
        put(ours, n, body_size=700)
    await until(lambda: is_same(ours, theirs))
    await slave.stop()
    theirs.close()
    for n in range(30, 60):
        put(ours, n, body_size=700)
    theirs = nodes.store("s")
    nodes.slave(theirs, master)
    await until(lambda: theirs.positions.written == ours.positions.written)
    assert log_bytes(theirs) == log_bytes(ours)


async def test_a_slave_follows_its_master_to_another_address(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    first = await nodes.master(ours)
    slave = nodes.slave(theirs, first)
    put(ours, 0)
    await until(lambda: is_same(ours, theirs))
    await first.stop()
    second = await nodes.master(ours)
    put(ours, 1)
    slave.set_master(address_of(second), address_of(second))
    await until(lambda: is_same(ours, theirs))


async def test_a_slave_ahead_of_its_master_keeps_its_log_and_says_so(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    for n in range(5):
        put(ours, n)
        put(theirs, n)
    put(theirs, 5)
    before = log_bytes(theirs)
    slave = nodes.slave(theirs, await nodes.master(ours))
    await until(lambda: "beyond the master's end" in slave.status().problem)
    assert not slave.status().is_connected
    assert log_bytes(theirs) == before


async def test_a_master_that_cannot_be_asked_still_refuses_a_slave_ahead_of_it(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    put(ours, 0)
    put(theirs, 0)
    put(theirs, 1)
    master = await nodes.master(ours)
    nodes.masters.clear()
    slave = nodes.slave(theirs, master)
    await until(lambda: "closed the link" in slave.status().problem)
    await until(lambda: master.status().protocol_error_count >= 1)
    assert theirs.positions.written > ours.positions.written


async def test_a_slave_behind_the_masters_log_says_so_and_keeps_its_own(nodes: Nodes) -> None:
    ours = nodes.store("m", file_reserved_hours=0, delete_when=";".join(f"{hour:02}" for hour in range(24)))
    theirs = nodes.store("s")
    for n in range(100):
        put(ours, n, body_size=800)
    theirs.follower.append(0, log_bytes(ours, 0, 5000))
    theirs.follower.forget_partial()
    await flushed(ours)
    ours.clean(nodes.clock.now_ms())
    slave = nodes.slave(theirs, await nodes.master(ours))
    await until(lambda: "was removed there" in slave.status().problem)
    assert 0 < theirs.positions.written < 5000


async def test_a_master_with_other_segments_is_not_followed(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s", segment_size=2 * SEGMENT_SIZE)
    put(ours, 0)
    slave = nodes.slave(theirs, await nodes.master(ours))
    await until(lambda: "mappedFileSizeCommitLog" in slave.status().problem)
    assert theirs.positions.written == 0


async def test_a_slave_without_a_master_waits_for_one(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    slave = nodes.slave(theirs, "127.0.0.1:1")
    await until(lambda: "cannot be reached" in slave.status().problem)
    put(ours, 0)
    master = await nodes.master(ours)
    slave.set_master(address_of(master), address_of(master))
    await until(lambda: is_same(ours, theirs))
    await until(lambda: slave.status().problem == "")


async def test_a_configured_master_stands_against_the_name_servers_word(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    master = await nodes.master(ours)
    slave = nodes.slave(theirs, "", quick(ha_master_address=address_of(master)))
    slave.set_master("127.0.0.1:1", None)
    put(ours, 0)
    await until(lambda: is_same(ours, theirs))
    assert slave.status().ha_address == address_of(master)
    slave.set_master("127.0.0.1:1", None, overrides=True)
    assert slave.status().ha_address == "127.0.0.1:1"


async def test_slaves_on_one_machine_show_addresses_of_their_own(nodes: Nodes) -> None:
    ours = nodes.store("m")
    master = await nodes.master(ours, quick(in_sync_replicas=3), is_sync=True)
    for name, host in (("s1", "127.0.0.2"), ("s2", "127.0.0.3")):
        nodes.slave(nodes.store(name), master, own_host=host)
    await until(lambda: master.status().in_sync_count == 3)
    answers = Answers(master)
    end = put(ours, 0).end_offset
    answers.wait_for(end)
    await until(lambda: answers.by_end == {end: OK})


class FakeMaster:
    """Sends a slave whatever a test wants."""

    def __init__(self) -> None:
        self.reports = bytearray()
        self.writer: asyncio.StreamWriter | None = None
        self.link_count = 0
        self.server: asyncio.Server | None = None

    async def start(self) -> str:
        self.server = await asyncio.start_server(self._serve, HOST, 0)
        return f"{HOST}:{self.server.sockets[0].getsockname()[1]}"

    async def stop(self) -> None:
        assert self.server is not None
        self.server.close()
        if self.writer is not None:
            self.writer.transport.abort()
        await self.server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.link_count += 1
        self.reports = bytearray()
        self.writer = writer
        try:
            while data := await reader.read(4096):
                self.reports += data
        except ConnectionError:
            pass
        writer.close()


@pytest.fixture
async def fake() -> AsyncIterator[FakeMaster]:
    master = FakeMaster()
    yield master
    await master.stop()


async def test_a_damaged_record_is_never_acknowledged_and_the_link_is_made_anew(nodes: Nodes, fake: FakeMaster) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    first = put(ours, 0).end_offset
    put(ours, 1, body_size=200)
    data = bytearray(log_bytes(ours))
    data[first + 100] ^= 1
    slave = nodes.slave(theirs, "", quick(ha_master_address=await fake.start()))
    await until(lambda: len(fake.reports) == 8)
    assert fake.writer is not None
    fake.writer.write(encode_head(0, len(data)) + bytes(data))
    await until(lambda: fake.link_count == 2 and len(fake.reports) == 8)
    # What came before the damage is there, and is what the new link begins with.
    assert int.from_bytes(fake.reports, "big") == first
    assert theirs.positions.written == first
    assert "damaged" in slave.status().problem
    fake.writer.write(encode_head(first, len(data) - first) + log_bytes(ours, first))
    await until(lambda: theirs.positions.written == len(data))
    assert log_bytes(theirs) == log_bytes(ours)


async def test_a_stream_that_skips_bytes_is_ended(nodes: Nodes, fake: FakeMaster) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    first = put(ours, 0).end_offset
    put(ours, 1)
    theirs.follower.append(0, log_bytes(ours, 0, first))
    slave = nodes.slave(theirs, "", quick(ha_master_address=await fake.start()))
    await until(lambda: len(fake.reports) == 8)
    assert fake.writer is not None
    fake.writer.write(encode_head(first + 1, 10) + b"0123456789")
    await until(lambda: fake.link_count == 2)
    assert "goes on at offset" in slave.status().problem
    assert theirs.positions.written == first


async def test_a_slave_reports_while_nothing_comes_and_leaves_a_silent_master(nodes: Nodes, fake: FakeMaster) -> None:
    theirs = nodes.store("s")
    address = await fake.start()
    slave = nodes.slave(
        theirs, "", quick(ha_master_address=address, ha_send_heartbeat_interval=10, ha_housekeeping_interval=600)
    )
    await until(lambda: len(fake.reports) >= 16)
    assert not any(fake.reports)
    await until(lambda: fake.link_count >= 2)
    assert "nothing came from the master" in slave.status().problem


async def test_an_apache_master_that_keeps_a_stray_slave_waiting_is_found_out(nodes: Nodes, fake: FakeMaster) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    end = put(ours, 0).end_offset
    theirs.follower.append(0, log_bytes(ours))
    address = await fake.start()
    slave = nodes.slave(theirs, "", quick(ha_master_address=address))
    await until(lambda: slave.is_connected)
    # Behind this address is a log that ends before ours: it was restored from something older.
    nodes.masters[address] = nodes.store("older")
    slave.set_master(None, address)
    await slave._check()
    await until(lambda: not slave.is_connected)
    await until(lambda: "beyond the master's end" in slave.status().problem)
    assert theirs.positions.written == end


async def test_a_stopped_slave_stores_nothing_any_more(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    slave = nodes.slave(theirs, await nodes.master(ours))
    put(ours, 0)
    await until(lambda: is_same(ours, theirs))
    await slave.stop()
    end = theirs.positions.written
    put(ours, 1)
    await turns()
    assert theirs.positions.written == end
    assert not slave.is_connected


async def test_the_runtime_info_of_a_slave_has_apaches_fields(nodes: Nodes) -> None:
    ours, theirs = nodes.store("m"), nodes.store("s")
    master = await nodes.master(ours)
    slave = nodes.slave(theirs, master)
    end = put(ours, 0).end_offset
    await until(lambda: is_same(ours, theirs))
    info = slave.status().to_runtime_info()
    assert info["master"] is False
    client = info["haClientRuntimeInfo"]
    assert (client["masterAddr"], client["maxOffset"], client["isActivated"]) == (address_of(master), end, True)
    assert client["lastReadTimestamp"] > 0
