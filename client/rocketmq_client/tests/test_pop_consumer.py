"""The consumer that pops, against the fake broker."""

from __future__ import annotations

import asyncio

import pytest

from rocketmq_client import ClientClosed, InvalidArgument, PopConsumer, PoppedMessage, RequestRefused, TopicNotFound
from rocketmq_client.tests.conftest import send_all
from rocketmq_remoting.codes import RequestCode
from rocketmq_testkit.fake_cluster import FakeCluster

WAIT_SECONDS = 30.0


def bodies(messages: list[PoppedMessage]) -> list[bytes]:
    return sorted(message.body for message in messages)


async def test_popped_messages_are_ours_until_acknowledged(cluster: FakeCluster) -> None:
    await send_all(cluster, "T", [b"a", b"b", b"c"])
    async with PopConsumer(cluster.name_server, group="cg", topics="T") as consumer:
        found = await consumer.pop()
        assert bodies(found) == [b"a", b"b", b"c"]
        assert await consumer.pop(timeout_ms=100) == []
        await consumer.ack(found[0])
        await consumer.ack(*found[1:])
        assert cluster.broker.pops.flying == {}
        assert RequestCode.BATCH_ACK_MESSAGE in cluster.broker.requests


async def test_what_is_not_acknowledged_comes_again_and_can_be_acknowledged_then(cluster: FakeCluster) -> None:
    await send_all(cluster, "T", [b"x"])
    async with PopConsumer(cluster.name_server, group="cg", topics="T", invisible_ms=50) as consumer:
        (first,) = await consumer.pop()
        (again,) = await consumer.pop(invisible_ms=60_000, timeout_ms=20_000)
        assert (again.body, again.topic, again.reconsume_times) == (b"x", "T", 1)
        assert again.handle.retry == "1"
        with pytest.raises(RequestRefused):
            await consumer.change_invisible_time(first, 1000)
        await consumer.ack(again)
        assert cluster.broker.pops.flying == {}


async def test_changing_the_time_changes_the_handle(cluster: FakeCluster) -> None:
    await send_all(cluster, "T", [b"x"])
    async with PopConsumer(cluster.name_server, group="cg", topics="T") as consumer:
        (message,) = await consumer.pop()
        old = message.handle
        await consumer.change_invisible_time(message, 90_000)
        assert message.handle != old
        await consumer.ack(message)
        assert cluster.broker.pops.flying == {}
        with pytest.raises(InvalidArgument):
            await consumer.change_invisible_time(message, -1)


async def test_all_brokers_and_topics_are_popped_without_popping_in_vain(two_brokers: FakeCluster) -> None:
    await send_all(two_brokers, "A", [b"%d" % number for number in range(8)])
    await send_all(two_brokers, "B", [b"x"])
    got = []
    async with (
        PopConsumer(two_brokers.name_server, group="cg", topics={"A": "*", "B": "*"}) as consumer,
        asyncio.timeout(WAIT_SECONDS),
    ):
        async for message in consumer:
            await consumer.ack(message)
            got.append(message)
            if len(got) == 9:
                sending = asyncio.create_task(send_all(two_brokers, "B", [b"late"]))
            if len(got) == 10:
                break
        await sending
    assert {message.queue.broker_name for message in got} == {broker.name for broker in two_brokers.brokers.values()}
    assert got[-1].body == b"late"
    assert all(broker.pops.flying == {} for broker in two_brokers.brokers.values())


async def test_unwanted_tags_are_acknowledged_silently(cluster: FakeCluster) -> None:
    # The fake broker does not filter: as if two tags had one hash.
    await send_all(cluster, "T", [b"no"], tag="TagB")
    await send_all(cluster, "T", [b"yes"], tag="TagA")
    async with PopConsumer(cluster.name_server, group="cg", topics={"T": "TagA"}) as consumer:
        assert bodies(await consumer.pop()) == [b"yes"]
        assert len(cluster.broker.pops.flying) == 1


async def test_a_message_set_aside_is_a_dead_letter(cluster: FakeCluster) -> None:
    await send_all(cluster, "T", [b"poison"])
    async with PopConsumer(cluster.name_server, group="cg", topics="T") as consumer:
        (message,) = await consumer.pop()
        await consumer.dead_letter(message)
    assert [message.body for message in cluster.broker.messages("%DLQ%cg")] == [b"poison"]
    assert cluster.broker.pops.flying == {}


async def test_misuse_is_told_in_words(cluster: FakeCluster) -> None:
    with pytest.raises(InvalidArgument):
        PopConsumer(cluster.name_server, group="cg", topics={})
    with pytest.raises(InvalidArgument):
        PopConsumer(cluster.name_server, group="cg", topics="T", count=33)
    with pytest.raises(ClientClosed):
        await PopConsumer(cluster.name_server, group="cg", topics="T").pop()
    with pytest.raises(TopicNotFound):
        await PopConsumer(cluster.name_server, group="cg", topics="unknown").start()
