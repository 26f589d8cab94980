"""Request-reply, against a broker with behaviour."""

from __future__ import annotations

import asyncio

import pytest

from rocketmq_client import (
    ConsumeFrom,
    InvalidArgument,
    MessageQueue,
    MessageView,
    Producer,
    PushConsumer,
    Requester,
    RequestRefused,
    RequestTimeout,
    reply,
    requests,
)
from rocketmq_testkit.fake_cluster import FakeCluster


async def replying(cluster: FakeCluster, producer: Producer) -> PushConsumer:
    """A started consumer that answers with the body in upper case."""

    async def answer(message: MessageView) -> None:
        await reply(producer, message, message.body.upper())

    consumer = PushConsumer(
        cluster.name_server, group="repliers", topics="prices", listener=answer, consume_from=ConsumeFrom.FIRST
    )
    await consumer.start()
    return consumer


async def test_requests_get_their_own_replies(cluster):
    cluster.create_topic("prices", 4)
    async with Producer(cluster.name_server) as producer:
        consumer = await replying(cluster, producer)
        requester = Requester(producer)
        bodies = [b"price %d" % n for n in range(20)]
        replies = await asyncio.gather(*(requester.request("prices", body, timeout_ms=10_000) for body in bodies))
        assert [found.body for found in replies] == [body.upper() for body in bodies]
        assert producer.instance.requests == {}
        await consumer.close()


async def test_a_large_reply_comes_back_decompressed(cluster):
    cluster.create_topic("prices", 1)
    async with Producer(cluster.name_server) as producer:
        consumer = await replying(cluster, producer)
        found = await Requester(producer).request("prices", b"x" * 50_000, timeout_ms=10_000)
        assert found.body == b"X" * 50_000
        assert found.size < 50_000
        await consumer.close()


async def test_a_request_that_nobody_answers_times_out_and_is_forgotten(cluster):
    cluster.create_topic("prices", 1)
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(RequestTimeout, match="no reply"):
            await Requester(producer).request("prices", b"x", timeout_ms=50)
        assert producer.instance.requests == {}


async def test_only_requests_can_be_replied_to_and_only_while_the_requester_is_there(cluster):
    cluster.create_topic("prices", 1)
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(RequestTimeout):
            await Requester(producer).request("prices", b"x", timeout_ms=50)
        await producer.send("prices", b"plain")
        stored = cluster.broker.messages("prices")
        stored[0].properties = stored[0].properties.replace(producer.instance.client_id, "gone")
        views = [MessageView(one, MessageQueue("prices", "broker-a", 0)) for one in stored]
        with pytest.raises(InvalidArgument, match="no request"):
            await reply(producer, views[1], b"y")
        with pytest.raises(RequestRefused, match="not found"):
            await reply(producer, views[0], b"y")


async def test_requests_under_way_are_bounded(cluster, monkeypatch):
    monkeypatch.setattr(requests, "REQUESTS_MAX", 0)
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(InvalidArgument, match="wait for replies"):
            await Requester(producer).request("prices", b"x")
