"""Ordered pops: one batch of a queue at a time."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rocketmq_broker.pop.ordering import OrderInfo
from rocketmq_broker.pop.tests.popping import ack, change, changed, pop, popped
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common import javajson
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.pop import NotificationRequestHeader
from rocketmq_remoting.pop_handles import parse_order_counts

WAIT_S = 30.0


async def fill(peer: Peer, count: int) -> None:
    for number in range(count):
        await peer.send(body=b"%d" % number)


async def test_a_queue_is_blocked_until_its_batch_is_acknowledged(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 4)
        first = popped(await pop(peer, order=True, max_msg_nums=2))
        assert [message.body for message, _ in first] == [b"0", b"1"]
        assert first[0][1].is_ordered
        assert (await pop(peer, order=True)).code == ResponseCode.POLLING_TIMEOUT
        asked = NotificationRequestHeader(consumer_group="cg", topic="T", queue_id=-1, poll_time=0, order=True)
        assert (await peer.ask(RequestCode.NOTIFICATION, asked)).ext_fields()["hasMsg"] == "false"
        waiting = asyncio.create_task(pop(peer, order=True, poll_time=20_000))
        await ack(peer, first[1][1])
        assert peer.broker.offsets.query("cg", "T", 0) == 0
        await ack(peer, first[0][1])
        assert peer.broker.offsets.query("cg", "T", 0) == 2
        assert [message.body for message, _ in popped(await waiting)] == [b"2", b"3"]


async def test_the_same_attempt_gets_the_same_batch(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 4)
        first = popped(await pop(peer, order=True, max_msg_nums=2, attempt_id="a1"))
        assert (await pop(peer, order=True, max_msg_nums=2, attempt_id="a2")).code == ResponseCode.POLLING_TIMEOUT
        again = await pop(peer, order=True, max_msg_nums=2, attempt_id="a1")
        assert [message.body for message, _ in popped(again)] == [message.body for message, _ in first]
        assert parse_order_counts(again.ext_fields()["orderCountInfo"]) == {}


async def test_what_is_not_acknowledged_comes_again_from_the_queue_with_its_count(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 3)
        first = popped(await pop(peer, order=True, max_msg_nums=2, invisible_time=300))
        await ack(peer, first[0][1])
        answer = await pop(peer, order=True, max_msg_nums=2, poll_time=20_000)
        second = popped(answer)
        assert [message.body for message, _ in second] == [b"1", b"2"]
        assert parse_order_counts(answer.ext_fields()["orderCountInfo"]) == {(0, 1): 1}


async def test_a_message_can_be_made_visible_sooner(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 1)
        ((_, handle),) = popped(await pop(peer, order=True))
        answer = await change(peer, handle, 100)
        sooner = changed(handle, answer)
        assert sooner.pop_time_ms == handle.pop_time_ms
        assert sooner.due_ms < handle.due_ms
        ((message, _),) = popped(await pop(peer, order=True, poll_time=20_000))
        assert message.body == b"0"


async def test_orders_survive_a_restart_in_apaches_file(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await fill(peer, 3)
        first = popped(await pop(peer, order=True, max_msg_nums=2))
        await ack(peer, first[0][1])
    table = javajson.loads((tmp_path / "store/config/consumerOrderInfo.json").read_bytes())["table"]
    assert table["T@cg"]["0"]["o"] == [0, 1]
    assert table["T@cg"]["0"]["cm"] == 1
    async with serving(tmp_path) as peer:
        assert (await pop(peer, order=True)).code == ResponseCode.POLLING_TIMEOUT
        await ack(peer, first[1][1])
        assert [message.body for message, _ in popped(await pop(peer, order=True))] == [b"2"]


def test_offsets_are_kept_as_differences_to_the_first() -> None:
    info = OrderInfo(pop_time=1, invisible_time=2, deltas=[7, 1, 5])
    assert info.offsets() == [7, 8, 12]
    info.acked = 0b101
    assert info.first_open() == 8
    info.acked = 0b111
    assert info.first_open() == 13
