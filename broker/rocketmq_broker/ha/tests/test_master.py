"""The master over real sockets: what it pushes, what it believes, whom it lets wait."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocketmq_broker.ha import master as master_module
from rocketmq_broker.ha.tests.nodes import Answers, GatedFiles, Nodes, flushed, quick, turns, until
from rocketmq_broker.ha.tests.stores import SEGMENT_SIZE, log_bytes, put
from rocketmq_store.appending import NewMessage
from rocketmq_store.statuses import PutStatus
from rocketmq_testkit.cold_files import ColdFiles

OK, LATE = PutStatus.PUT_OK, PutStatus.FLUSH_SLAVE_TIMEOUT
TWO = {"in_sync_replicas": 2}


async def test_an_empty_slave_gets_the_whole_log_and_then_what_is_appended(nodes: Nodes) -> None:
    store = nodes.store("m")
    for n in range(150):
        put(store, n, body_size=500)
    master = await nodes.master(store)
    peer = await nodes.peer(master, 0)
    await peer.receive_to(store.positions.written)
    assert store.positions.written > 4 * SEGMENT_SIZE
    put(store, 1000)
    await peer.receive_to(store.positions.written)
    assert peer.log == log_bytes(store)


async def test_no_frame_crosses_a_segment_or_exceeds_the_batch_size(nodes: Nodes) -> None:
    store = nodes.store("m")
    for n in range(150):
        put(store, n, body_size=500)
    master = await nodes.master(store, quick(ha_transfer_batch_size=3000))
    peer = await nodes.peer(master, 0)
    while peer.offset is None or peer.offset < store.positions.written:
        offset, body = await peer.frame()
        assert len(body) <= 3000
        assert not body or offset // SEGMENT_SIZE == (offset + len(body) - 1) // SEGMENT_SIZE
    assert peer.log == log_bytes(store)


async def test_a_slave_goes_on_where_its_log_ends(nodes: Nodes) -> None:
    store = nodes.store("m")
    ends = [put(store, n).end_offset for n in range(10)]
    master = await nodes.master(store)
    peer = await nodes.peer(master, ends[4])
    await peer.receive_to(ends[-1])
    assert peer.log == log_bytes(store, ends[4])
    assert master.status().slaves[0].acknowledged_offset == ends[4]


async def test_an_idle_link_carries_heartbeats_at_the_offset_that_comes_next(nodes: Nodes) -> None:
    store = nodes.store("m")
    end = put(store, 0).end_offset
    master = await nodes.master(store, quick(ha_send_heartbeat_interval=20))
    peer = await nodes.peer(master, end)
    assert await peer.frame() == (end, b"")
    assert await peer.frame() == (end, b"")


async def test_a_slave_that_says_nothing_is_dropped(nodes: Nodes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(ha_send_heartbeat_interval=20, ha_housekeeping_interval=80))
    silent = await nodes.peer(master)
    was_alive = await nodes.peer(master, 0)
    assert await silent.is_dropped()
    assert await was_alive.is_dropped()
    await until(lambda: not master.status().slaves)


async def test_a_send_waits_for_the_slave_that_has_its_bytes(nodes: Nodes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(**TWO), is_sync=True)
    answers = Answers(master)
    peer = await nodes.peer(master, 0)
    first, second = put(store, 0).end_offset, put(store, 1).end_offset
    answers.wait_for(first)
    answers.wait_for(second)
    await peer.receive_to(second)
    await turns()
    assert answers.by_end == {}
    peer.report(first - 1)
    await turns()
    assert answers.by_end == {}
    peer.report(first)
    await until(lambda: answers.by_end == {first: OK})
    peer.report(second)
    await until(lambda: answers.by_end == {first: OK, second: OK})


async def test_consumers_see_a_message_only_when_its_replicas_have_it(nodes: Nodes) -> None:
    store = nodes.store("m")
    put(store, 0)
    master = await nodes.master(store, quick(**TWO), is_sync=True)
    seen: list[int] = []
    store.queue("t", 0).watcher = lambda queue, offset, *rest: seen.append(offset)
    peer = await nodes.peer(master, 0)
    end = put(store, 1).end_offset
    await peer.receive_to(end)
    bounds = store.queue_bounds("t", 0)
    assert bounds is not None
    # What was recovered was visible before; what is new is not yet.
    assert bounds.max_offset == 1
    assert seen == []
    peer.report(end)
    await until(lambda: seen == [1])
    bounds = store.queue_bounds("t", 0)
    assert bounds is not None
    assert bounds.max_offset == 2


async def test_a_send_whose_slave_is_late_is_answered_in_time_and_stays_stored(nodes: Nodes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(**TWO, slave_timeout=30), is_sync=True)
    answers = Answers(master)
    end = put(store, 0).end_offset
    answers.wait_for(end)
    await until(lambda: answers.by_end == {end: LATE})
    assert master.status().timeout_count == 1
    peer = await nodes.peer(master, 0)
    await peer.receive_to(end)
    peer.report(end)
    await until(lambda: master.status().replicated_offset == end)
    later = put(store, 1).end_offset
    answers.wait_for(later)
    await peer.receive_to(later)
    peer.report(later)
    await until(lambda: answers.by_end == {end: LATE, later: OK})


@pytest.mark.parametrize(
    ("name", "reports"),
    [
        ("beyond the master's end", [1 << 40]),
        ("beyond what was sent", [10_000_000]),
        ("negative", [-5]),
        ("going back", [200, 100]),
    ],
)
async def test_a_forged_acknowledgement_ends_the_link_and_satisfies_nobody(
    nodes: Nodes, name: str, reports: list[int]
) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(**TWO), is_sync=True)
    answers = Answers(master)
    peer = await nodes.peer(master, 0)
    end = 0
    for n in range(4):
        end = put(store, n).end_offset
    answers.wait_for(end)
    await peer.receive_to(end)
    peer.report(*reports)
    assert await peer.is_dropped()
    await until(lambda: master.status().protocol_error_count == 1)
    await turns()
    assert answers.by_end == {}
    assert master.status().slaves == ()
    # An honest slave still gets the send its answer.
    honest = await nodes.peer(master, 0)
    await honest.receive_to(end)
    honest.report(end)
    await until(lambda: answers.by_end == {end: OK})


@pytest.mark.parametrize("garbage", [b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 8, b"\x7f" * 4096, b"\x00\x00\x00\x01" * 2])
async def test_garbage_on_the_ha_port_ends_the_link_and_satisfies_nobody(nodes: Nodes, garbage: bytes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(**TWO), is_sync=True)
    answers = Answers(master)
    end = put(store, 0).end_offset
    answers.wait_for(end)
    peer = await nodes.peer(master)
    peer.writer.write(garbage)
    assert await peer.is_dropped()
    assert answers.by_end == {}


async def test_a_slave_beyond_this_log_is_refused_and_counted(nodes: Nodes) -> None:
    store = nodes.store("m")
    end = put(store, 0).end_offset
    master = await nodes.master(store)
    peer = await nodes.peer(master, end + 1)
    assert await peer.is_dropped()
    assert master.status().protocol_error_count == 1


async def test_two_links_of_one_slave_count_as_one_replica(nodes: Nodes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(in_sync_replicas=3), is_sync=True)
    answers = Answers(master)
    peers = [await nodes.peer(master, 0) for _ in range(2)]
    end = put(store, 0).end_offset
    answers.wait_for(end)
    for peer in peers:
        await peer.receive_to(end)
        peer.report(end)
    await until(lambda: all(slave.acknowledged_offset == end for slave in master.status().slaves))
    await turns()
    assert answers.by_end == {}
    assert master.status().in_sync_count == 2


async def test_too_few_replicas_refuse_sends_before_they_are_stored(nodes: Nodes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(in_sync_replicas=2, min_in_sync_replicas=2), is_sync=True)
    result = store.append(NewMessage("t", 0, b"x"))
    assert result.status is PutStatus.IN_SYNC_REPLICAS_NOT_ENOUGH
    assert "in sync are 1 replicas" in result.reason
    assert store.positions.written == 0
    peer = await nodes.peer(master, 0)
    await until(lambda: master.status().in_sync_count == 2)
    put(store, 0)
    await peer.close()
    await until(lambda: master.status().in_sync_count == 1)
    assert store.append(NewMessage("t", 0, b"x")).status is PutStatus.IN_SYNC_REPLICAS_NOT_ENOUGH


async def test_sends_go_on_alone_where_that_is_configured(nodes: Nodes) -> None:
    store = nodes.store("m")
    settings = quick(in_sync_replicas=2, enable_auto_in_sync_replicas=True)
    master = await nodes.master(store, settings, is_sync=True)
    answers = Answers(master)
    end = put(store, 0).end_offset
    answers.wait_for(end)
    assert answers.by_end == {end: OK}
    bounds = store.queue_bounds("t", 0)
    assert bounds is not None
    assert bounds.max_offset == 1
    # With a slave in sync its acknowledgement is needed again.
    peer = await nodes.peer(master, 0)
    await peer.receive_to(end)
    peer.report(end)
    await until(lambda: master.status().needed_count == 2)
    later = put(store, 1).end_offset
    answers.wait_for(later)
    await turns()
    assert later not in answers.by_end
    await peer.receive_to(later)
    peer.report(later)
    await until(lambda: answers.by_end.get(later) is OK)


async def test_bytes_that_are_not_flushed_are_never_pushed(nodes: Nodes) -> None:
    files = GatedFiles()
    store = nodes.store("m", is_sync=True, files=files)
    master = await nodes.master(store)
    peer = await nodes.peer(master, 0)
    first = put(store, 0).end_offset
    store.flush()
    await peer.receive_to(first)
    files.hold()
    try:
        second = put(store, 1).end_offset
        store.flush()
        await turns()
        assert master.status().slaves[0].transfer_from == first
        # A slave that claims to have them lies.
        peer.report(second)
        assert await peer.is_dropped()
        again = await nodes.peer(master, first)
        await until(lambda: any(slave.transfer_from == first for slave in master.status().slaves))
    finally:
        files.release()
    again.offset = first
    await again.receive_to(second)


async def test_more_links_than_allowed_are_refused(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(master_module, "LINKS_MAX", 2)
    master = await nodes.master(nodes.store("m"))
    kept = [await nodes.peer(master, 0) for _ in range(2)]
    await until(lambda: len(master.status().slaves) == 2)
    extra = await nodes.peer(master, 0)
    assert await extra.is_dropped()
    assert master.status().refused_link_count == 1
    put(nodes.masters[f"127.0.0.1:{master.port}"], 0)
    for peer in kept:
        assert (await peer.frame())[0] == 0


async def test_a_slave_that_does_not_read_holds_little_memory_and_nobody_up(nodes: Nodes) -> None:
    store = nodes.store("m", segment_size=1 << 22)
    master = await nodes.master(store, quick(ha_transfer_batch_size=1 << 16, ha_housekeeping_interval=60_000))
    stuck = await nodes.peer(master, 0)
    await until(lambda: len(master.status().slaves) == 1)
    for n in range(5000):
        put(store, n, body_size=4000)
    reading = await nodes.peer(master, 0)
    await reading.receive_to(store.positions.written)
    behind, ahead = sorted(slave.transfer_from for slave in master.status().slaves)
    assert ahead == store.positions.written
    assert behind < ahead
    stuck.writer.transport.abort()


async def test_the_rate_limit_holds_pushing_back(nodes: Nodes) -> None:
    store = nodes.store("m")
    for n in range(20):
        put(store, n, body_size=1000)
    settings = quick(ha_flow_control_enable=True, max_ha_transfer_byte_in_second=8000)
    master = await nodes.master(store, settings)
    peer = await nodes.peer(master, 0)
    await peer.receive_to(8000)
    assert peer.offset == 8000
    # The rest comes with the next second's budget.
    await peer.receive_to(16_000)
    assert peer.offset == 16_000


async def test_a_stopping_master_answers_who_waits_and_closes_its_links(nodes: Nodes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store, quick(**TWO), is_sync=True)
    answers = Answers(master)
    peer = await nodes.peer(master, 0)
    end = put(store, 0).end_offset
    answers.wait_for(end)
    await peer.receive_to(end)
    await master.stop()
    assert answers.by_end == {end: LATE}
    assert await peer.is_dropped()


async def test_a_taken_port_is_an_error(nodes: Nodes, tmp_path: Path) -> None:
    first = await nodes.master(nodes.store("m"))
    with pytest.raises(OSError, match="address already in use"):
        await nodes.master(nodes.store("n"), port=first.port)


async def test_the_runtime_info_has_apaches_fields(nodes: Nodes) -> None:
    store = nodes.store("m")
    master = await nodes.master(store)
    peer = await nodes.peer(master, 0)
    end = put(store, 0).end_offset
    await peer.receive_to(end)
    peer.report(end)
    await until(lambda: master.status().slaves[0].acknowledged_offset == end)
    info = master.status().to_runtime_info()
    (connection,) = info["haConnectionInfo"]
    assert connection["addr"].startswith("127.0.0.1:")
    assert (connection["slaveAckOffset"], connection["diff"], connection["inSync"]) == (end, 0, True)
    assert connection["transferFromWhere"] == end
    assert (info["master"], info["masterCommitLogMaxOffset"], info["inSyncSlaveNums"]) == (True, end, 1)


async def test_removed_segments_end_a_link_that_still_needs_them(nodes: Nodes) -> None:
    store = nodes.store(
        "m",
        file_reserved_hours=0,
        delete_when=";".join(f"{hour:02}" for hour in range(24)),
    )
    for n in range(100):
        put(store, n, body_size=1000)
    await flushed(store)
    store.clean(nodes.clock.now_ms())
    assert store.log_min_offset > 0
    master = await nodes.master(store)
    peer = await nodes.peer(master, store.log_min_offset - SEGMENT_SIZE or SEGMENT_SIZE - 1)
    assert await peer.is_dropped()
    assert master.status().protocol_error_count == 1


async def test_the_wait_for_slaves_can_be_taken_up_and_lifted_at_run_time(nodes: Nodes) -> None:
    store = nodes.store("m")
    settings = quick()
    master = await nodes.master(store, settings, is_sync=True)
    assert not master.is_synchronous
    put(store, 0)
    settings.in_sync_replicas = 2
    await until(lambda: master.is_synchronous)
    answers = Answers(master)
    end = put(store, 1).end_offset
    answers.wait_for(end)
    bounds = store.queue_bounds("t", 0)
    assert bounds is not None
    assert bounds.max_offset == 1
    assert answers.by_end == {}
    settings.in_sync_replicas = 1
    await until(lambda: answers.by_end == {end: OK})
    assert not master.is_synchronous
    put(store, 2)
    bounds = store.queue_bounds("t", 0)
    assert bounds is not None
    assert bounds.max_offset == 3


async def test_a_log_that_left_memory_is_fetched_before_it_is_pushed(nodes: Nodes) -> None:
    store = nodes.store("m")
    for n in range(150):
        put(store, n, body_size=500)
    store.close()
    files = ColdFiles()
    store = nodes.store("m", files=files)
    files.evict()
    files.is_disk_ready.clear()
    master = await nodes.master(store)
    peer = await nodes.peer(master, 0)
    await until(lambda: store.cold_reader.waiting_count == 1)
    put(store, 150)
    await turns(20)
    assert store.cold_reader.waiting_count == 1
    files.is_disk_ready.set()
    await peer.receive_to(store.positions.written)
    assert peer.log == log_bytes(store)
    assert store.cold_reader.read_count >= 4
