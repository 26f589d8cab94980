"""Polling consumers."""

from __future__ import annotations

import pytest

from rocketmq_client import ConsumeFrom, InvalidArgument, LitePullConsumer, Message, MessageQueue, MessageView, Producer
from rocketmq_client.tests.conftest import until
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_testkit.fake_cluster import FakeCluster


async def fill(cluster: FakeCluster, count: int, queues: int = 1) -> None:
    cluster.create_topic("orders", queues)
    async with Producer(cluster.name_server) as producer:
        for index in range(count):
            await producer.send(
                "orders", b"%d" % index, tag="even" if index % 2 == 0 else "odd",
                queue=MessageQueue("orders", "broker-a", index % queues),
            )  # fmt: skip


async def poll_all(consumer: LitePullConsumer, count: int) -> list[MessageView]:
    got: list[MessageView] = []
    while len(got) < count:
        messages = await consumer.poll(timeout_ms=5000)
        assert messages, f"only {len(got)} of {count} messages came"
        got += messages
    return got


async def test_polled_messages_are_committed_when_the_consumer_closes(cluster):
    await fill(cluster, 20, queues=2)
    async with LitePullConsumer(
        cluster.name_server, group="g", topics="orders", consume_from=ConsumeFrom.FIRST
    ) as consumer:
        assert len(await poll_all(consumer, 20)) == 20
    assert cluster.committed("g", "orders") == 20
    assert RequestCode.LITE_PULL_MESSAGE in cluster.broker.requests
    assert not cluster.broker.members["g"]


async def test_without_auto_commit_only_commit_commits(cluster):
    await fill(cluster, 6)

    def consumer_of_g() -> LitePullConsumer:
        return LitePullConsumer(
            cluster.name_server, group="g", topics="orders", consume_from=ConsumeFrom.FIRST, auto_commit=False
        )

    async with consumer_of_g() as consumer:
        await poll_all(consumer, 6)
    assert cluster.committed("g", "orders") == 0
    async with consumer_of_g() as consumer:
        await poll_all(consumer, 6)
        await consumer.commit()
        assert cluster.committed("g", "orders") == 6
        queue = MessageQueue("orders", "broker-a", 0)
        assert await consumer.committed(queue) == 6


async def test_a_poll_gives_no_more_than_asked_and_nothing_after_its_time(cluster):
    await fill(cluster, 5)
    async with LitePullConsumer(
        cluster.name_server, group="g", topics="orders", consume_from=ConsumeFrom.FIRST
    ) as consumer:
        assert [m.body for m in await consumer.poll(count_max=2)] == [b"0", b"1"]
        assert [m.body for m in await consumer.poll(count_max=9)] == [b"2", b"3", b"4"]
        assert await consumer.poll(timeout_ms=20) == []


async def test_assigned_queues_begin_where_they_are_told_and_leave_no_trace(cluster):
    await fill(cluster, 10)
    queue = MessageQueue("orders", "broker-a", 0)
    async with LitePullConsumer(cluster.name_server) as reader:
        assert await reader.queues("orders") == (queue,)
        await reader.assign({queue: 7})
        assert [m.body for m in await poll_all(reader, 3)] == [b"7", b"8", b"9"]
        assert reader.position(queue) == 10
    assert not cluster.broker.offsets
    assert not any(cluster.broker.members.values())


async def test_an_assignment_can_filter_by_tag(cluster):
    await fill(cluster, 6)
    async with LitePullConsumer(cluster.name_server) as reader:
        await reader.assign({MessageQueue("orders", "broker-a", 0): 0}, "even")
        assert [m.body for m in await poll_all(reader, 3)] == [b"0", b"2", b"4"]


async def test_seeking_goes_back_and_forth(cluster):
    await fill(cluster, 10)
    queue = MessageQueue("orders", "broker-a", 0)
    async with LitePullConsumer(cluster.name_server) as reader:
        await reader.assign({queue: 0})
        await poll_all(reader, 10)
        await reader.seek(queue, 4)
        assert (await poll_all(reader, 6))[0].body == b"4"
        await reader.seek_to_begin(queue)
        assert (await reader.poll())[0].body == b"0"
        await reader.seek_to_end(queue)
        assert await reader.poll(timeout_ms=50) == []
        assert (await reader.begin_offset(queue), await reader.end_offset(queue)) == (0, 10)
        assert await reader.offset_at(queue, 0) == 0
        with pytest.raises(InvalidArgument, match="negative"):
            await reader.seek(queue, -1)
        with pytest.raises(InvalidArgument, match="not assigned"):
            await reader.seek(MessageQueue("orders", "broker-a", 9), 0)


async def test_a_paused_queue_is_neither_pulled_nor_polled(cluster):
    await fill(cluster, 4, queues=2)
    paused, other = (MessageQueue("orders", "broker-a", index) for index in range(2))
    async with LitePullConsumer(cluster.name_server) as reader:
        reader.pause([paused])
        await reader.assign({paused: 0, other: 0})
        assert {m.queue for m in await poll_all(reader, 2)} == {other}
        assert await reader.poll(timeout_ms=30) == []
        reader.resume([paused])
        assert {m.queue for m in await poll_all(reader, 2)} == {paused}


async def test_assignments_replace_each_other(cluster):
    await fill(cluster, 4, queues=2)
    first, second = (MessageQueue("orders", "broker-a", index) for index in range(2))
    async with LitePullConsumer(cluster.name_server, consume_from=ConsumeFrom.FIRST) as reader:
        await reader.assign([first])
        assert reader.assigned == (first,)
        await reader.assign([second])
        assert reader.assigned == (second,)
        assert {m.queue for m in await poll_all(reader, 2)} == {second}


async def test_members_share_queues(cluster):
    await fill(cluster, 0, queues=4)
    one = LitePullConsumer(cluster.name_server, group="g", topics="orders")
    two = LitePullConsumer(cluster.name_server, group="g", topics="orders")
    async with one, two:
        await until(lambda: len(one.assigned) == 2 and len(two.assigned) == 2)
        assert set(one.assigned).isdisjoint(two.assigned)


async def test_topics_and_assignments_do_not_mix(cluster):
    with pytest.raises(InvalidArgument, match="give group"):
        LitePullConsumer(cluster.name_server, topics="orders")
    async with LitePullConsumer(cluster.name_server, group="g", topics="orders") as consumer:
        with pytest.raises(InvalidArgument, match="either"):
            await consumer.assign([MessageQueue("orders", "broker-a", 0)])


async def test_light_queues_are_read_like_others_and_keep_their_own_offsets(cluster: FakeCluster) -> None:
    async with Producer(cluster.name_server) as producer:
        for number in range(6):
            lights = ("all", "odd") if number % 2 else ("all",)
            await producer.send(Message(topic="inbox", body=str(number).encode(), light_queues=lights))
    async with LitePullConsumer(cluster.name_server, group="%LMQ%reader", consume_from=ConsumeFrom.FIRST) as consumer:
        (queue,) = await consumer.light_queues("inbox", "odd")
        await consumer.assign([queue])
        got = await poll_all(consumer, 3)
        assert [(m.body, m.queue_offset, m.queue.topic) for m in got] == [
            (b"1", 0, "%LMQ%odd"),
            (b"3", 1, "%LMQ%odd"),
            (b"5", 2, "%LMQ%odd"),
        ]
        await consumer.commit()
        assert await consumer.committed(queue) == 3


@pytest.mark.parametrize("name", ["", "a,b", "a/b", "x" * 128])
async def test_a_light_queue_that_no_broker_would_take_is_refused_here(cluster: FakeCluster, name: str) -> None:
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(InvalidArgument):
            await producer.send(Message(topic="inbox", body=b"", light_queues=(name,)))


async def test_a_broker_without_lite_pull_is_asked_by_plain_pulls(cluster: FakeCluster) -> None:
    await fill(cluster, 3)
    cluster.broker.fail(RequestCode.LITE_PULL_MESSAGE, ResponseCode.REQUEST_CODE_NOT_SUPPORTED, times=1000)
    async with LitePullConsumer(
        cluster.name_server, group="g", topics="orders", consume_from=ConsumeFrom.FIRST
    ) as consumer:
        assert len(await poll_all(consumer, 3)) == 3
        await fill(cluster, 1)
        assert len(await poll_all(consumer, 1)) == 1
    assert cluster.broker.requests.count(RequestCode.LITE_PULL_MESSAGE) == 1
