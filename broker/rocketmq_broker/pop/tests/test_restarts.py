"""What is in flight across restarts: orderly ones, and kills."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rocketmq_broker.pop.tests.popping import ack, pop, popped
from rocketmq_broker.tests.harness import serving
from rocketmq_remoting.codes import ResponseCode

WAIT_S = 30.0


async def test_in_flight_stays_in_flight_over_a_restart_and_handles_stay_valid(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for number in range(4):
            await peer.send(body=b"%d" % number)
        found = popped(await pop(peer, max_msg_nums=3))
        await ack(peer, found[1][1])
    async with serving(tmp_path) as peer:
        assert peer.broker.pop.queues.in_flight_count == 2
        ((message, last),) = popped(await pop(peer))
        assert message.body == b"3"
        assert peer.broker.offsets.query("cg", "T", 0) == 0
        await ack(peer, found[0][1])
        assert peer.broker.offsets.query("cg", "T", 0) == 2
        await ack(peer, found[2][1])
        await ack(peer, last)
        assert peer.broker.offsets.query("cg", "T", 0) == 4


async def test_what_was_due_while_the_broker_was_down_comes_at_the_start(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(body=b"x")
        popped(await pop(peer, invisible_time=500))
    async with serving(tmp_path) as peer:
        ((message, _),) = popped(await pop(peer, poll_time=20_000))
        assert (message.body, message.reconsume_times) == (b"x", 1)
        assert (await pop(peer)).code == ResponseCode.POLLING_TIMEOUT


async def test_the_journal_is_read_from_the_first_record_that_is_needed(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(3):
            await peer.send()
            ((_, handle),) = popped(await pop(peer))
            await ack(peer, handle)
    async with serving(tmp_path) as peer:
        queues = peer.broker.pop.queues
        progress = peer.broker.offsets.query("CID_RMQ_SYS_REVIVE_GROUP", queues.journal.topic, 0)
        assert progress == queues.journal.end > 0
        assert not queues.by_key


async def test_a_deleted_topic_takes_its_flights_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        popped(await pop(peer, invisible_time=200))
        await peer.broker.topics.delete("T")
        assert peer.broker.pop.queues.in_flight_count == 0
        async with asyncio.timeout(WAIT_S):
            while peer.broker.pop.queues.revival.next_due_ms() is not None:
                await asyncio.sleep(0.02)
        assert peer.broker.topics.get("%RETRY%cg_T") is None


async def test_with_sync_flush_too_messages_come_again_and_stay_acknowledged(tmp_path: Path) -> None:
    async with serving(tmp_path, flushDiskType="SYNC_FLUSH") as peer:
        for number in range(2):
            await peer.send(body=b"%d" % number)
        found = popped(await pop(peer, invisible_time=500))
        await ack(peer, found[0][1])
        ((message, handle),) = popped(await pop(peer, poll_time=20_000))
        assert (message.body, message.reconsume_times) == (b"1", 1)
        await ack(peer, handle)
    async with serving(tmp_path, flushDiskType="SYNC_FLUSH") as peer:
        assert (await pop(peer)).code == ResponseCode.POLLING_TIMEOUT
        assert peer.broker.offsets.query("cg", "T", 0) == 2
