"""Our own client against Apache's brokers and name servers, 5.5 and 4.9."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from rocketmq_client import (
    Admin,
    Compression,
    ConsumeFrom,
    LitePullConsumer,
    Message,
    MessageModel,
    MessageView,
    NotFound,
    Producer,
    PushConsumer,
    RequestRefused,
    SendStatus,
    TopicNotFound,
)

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]
WAIT_SECONDS = 40.0
Unique = Callable[[str], str]


@pytest.fixture(scope="module", params=["apache_cluster", "apache_4_cluster"], ids=["5.5", "4.9"])
def their_cluster(request: pytest.FixtureRequest) -> Cluster:
    """Apache's servers, one release after the other."""
    cluster: Cluster = request.getfixturevalue(request.param)
    return cluster


@pytest.fixture
async def producer(their_cluster: Cluster, unique: Unique) -> AsyncIterator[Producer]:
    async with Producer(their_cluster.namesrv_address, group=unique("pg")) as started:
        yield started


@pytest.fixture
async def admin(their_cluster: Cluster) -> AsyncIterator[Admin]:
    async with Admin(their_cluster.namesrv_address) as started:
        yield started


async def until(
    condition: Callable[[], Awaitable[Any]] | Callable[[], Any], what: str, seconds: float = WAIT_SECONDS
) -> Any:
    """The first true result of ``condition``, asked 20 times a second; TimeoutError naming ``what``."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if isinstance(result, Awaitable):
            result = await result
        if result:
            return result
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        await asyncio.sleep(0.05)


def push(cluster: Cluster, group: str, topics: Any, got: list[MessageView], **options: Any) -> PushConsumer:
    """A consumer of a new group from the first offset which remembers what it got."""

    async def listen(message: MessageView) -> bool:
        got.append(message)
        return True

    options.setdefault("listener", listen)
    options.setdefault("consume_from", ConsumeFrom.FIRST)
    return PushConsumer(cluster.namesrv_address, group=group, topics=topics, **options)


async def test_what_we_send_to_apache_we_consume_from_it(
    their_cluster: Cluster, producer: Producer, unique: Unique
) -> None:
    topic, got = unique("Topic"), list[MessageView]()
    receipts = [
        await producer.send(topic, f"body {n}", tag="TagA", keys=f"key-{n}", properties={"n": str(n)})
        for n in range(20)
    ]

    async with push(their_cluster, unique("group"), topic, got):
        await until(lambda: len(got) >= 20, "20 messages")

    assert {receipt.status for receipt in receipts} == {SendStatus.SEND_OK}
    assert {message.message_id for message in got} == {receipt.message_id for receipt in receipts}
    assert {message.offset_message_id for message in got} == {receipt.offset_message_id for receipt in receipts}
    assert {(message.body, message.tag, message.keys, message.properties["n"]) for message in got} == {
        (f"body {n}".encode(), "TagA", (f"key-{n}",), str(n)) for n in range(20)
    }


async def test_a_batch_and_one_way_messages_arrive(their_cluster: Cluster, producer: Producer, unique: Unique) -> None:
    topic, got = unique("Topic"), list[MessageView]()
    receipt = await producer.send_batch([Message(topic=topic, body=f"batch {n}".encode()) for n in range(10)])
    for n in range(5):
        await producer.send_oneway(topic, f"one-way {n}")

    async with push(their_cluster, unique("group"), topic, got):
        await until(lambda: len(got) >= 15, "15 messages")

    batch = sorted(
        (message for message in got if message.body.startswith(b"batch")), key=lambda message: message.queue_offset
    )
    assert [message.body for message in batch] == [f"batch {n}".encode() for n in range(10)]
    assert [message.queue_offset for message in batch] == list(range(receipt.queue_offset, receipt.queue_offset + 10))


@pytest.mark.parametrize("compression", list(Compression))
async def test_compressed_bodies_come_back_whole(
    their_cluster: Cluster, unique: Unique, compression: Compression
) -> None:
    topic, got, body = unique("Topic"), list[MessageView](), bytes(n % 23 for n in range(100_000))
    async with Producer(their_cluster.namesrv_address, compression=compression) as producer:
        await producer.send(topic, body)

    async with push(their_cluster, unique("group"), topic, got):
        await until(lambda: got, "the message")

    assert got[0].body == body
    assert len(got[0].stored.body) < 10_000


async def test_tags_filter(their_cluster: Cluster, producer: Producer, unique: Unique) -> None:
    topic, got = unique("Topic"), list[MessageView]()
    for tag in ("TagA", "TagB", "TagC", ""):
        await producer.send(topic, f"of {tag}", tag=tag)

    async with push(their_cluster, unique("group"), {topic: "TagA || TagC"}, got):
        await until(lambda: len(got) >= 2, "two messages")
        await producer.send(topic, "end", tag="TagA")
        await until(lambda: len(got) >= 3, "three messages")

    assert {message.body for message in got} == {b"of TagA", b"of TagC", b"end"}


async def test_a_failed_message_comes_back_and_a_hopeless_one_becomes_a_dead_letter(
    their_cluster: Cluster, producer: Producer, admin: Admin, unique: Unique
) -> None:
    topic, group, got = unique("Topic"), unique("group"), list[MessageView]()
    await producer.send(topic, "fails once", keys="once")
    await producer.send(topic, "poison", keys="poison")
    seen: Counter[bytes] = Counter()

    def listen(message: MessageView) -> bool:
        got.append(message)
        seen[message.body] += 1
        return message.body == b"fails once" and seen[message.body] == 2

    async with push(their_cluster, group, topic, [], listener=listen, reconsume_times_max=1):
        await until(lambda: seen == {b"fails once": 2, b"poison": 2}, "both came twice")

        async def dead() -> list[MessageView]:
            try:
                return await admin.messages.by_key(f"%DLQ%{group}", "poison")
            except NotFound:
                return []

        (letter,) = await until(dead, "the dead letter")

    assert letter.body == b"poison"
    assert sorted((message.body, message.reconsume_times) for message in got) == [
        (b"fails once", 0), (b"fails once", 1), (b"poison", 0), (b"poison", 1),
    ]  # fmt: skip
    assert {message.topic for message in got} == {topic}


async def test_orderly_consumption_keeps_each_shard_in_order(
    their_cluster: Cluster, producer: Producer, unique: Unique
) -> None:
    topic, got = unique("Topic"), list[MessageView]()
    for n in range(40):
        await producer.send(topic, str(n), sharding_key=f"shard-{n % 4}")
    failed: set[bytes] = set()

    async def listen(message: MessageView) -> bool:
        if message.body not in failed:
            failed.add(message.body)
            return False
        got.append(message)
        return True

    async with push(their_cluster, unique("group"), topic, [], listener=listen, orderly=True, suspend_queue_ms=20):
        await until(lambda: len(got) >= 40, "40 messages")

    for shard in range(4):
        numbers = [int(message.body) for message in got if int(message.body) % 4 == shard]
        assert numbers == list(range(shard, 40, 4))


async def test_two_members_share_and_the_rest_takes_over(
    their_cluster: Cluster, producer: Producer, unique: Unique
) -> None:
    topic, group, one, two = unique("Topic"), unique("group"), list[MessageView](), list[MessageView]()
    await producer.send(topic, "first")
    async with push(their_cluster, group, topic, one) as first:
        # Idle, and its progress kept: the second member might begin at the first message otherwise.
        await until(lambda: one and first.is_idle, "the first message")
        await first._commit_quietly()
        async with push(their_cluster, group, topic, two) as second:
            await until(lambda: len(on(first, topic)) == len(on(second, topic)) == 2, "both have two queues")
            for n in range(16):
                await producer.send(topic, f"shared {n}")
            await until(lambda: len(one) + len(two) >= 17, "all are consumed")
        await until(lambda: len(on(first, topic)) == 4, "the first has all queues again")
        await producer.send(topic, "last")
        await until(lambda: b"last" in {message.body for message in one}, "the last message")

    assert len(two) == 8
    assert set(Counter(message.body for message in one + two).values()) == {1}


def on(consumer: PushConsumer, topic: str) -> list[Any]:
    return [queue for queue in consumer.assigned if queue.topic == topic]


async def test_broadcast_gives_all_to_each(
    their_cluster: Cluster, producer: Producer, unique: Unique, tmp_path: Any
) -> None:
    topic, group = unique("Topic"), unique("group")
    for n in range(8):
        await producer.send(topic, str(n))

    for number in range(2):
        got: list[MessageView] = []
        directory = tmp_path / str(number)
        async with push(their_cluster, group, topic, got, model=MessageModel.BROADCASTING, offset_directory=directory):
            await until(lambda got=got: len(got) >= 8, "eight messages")
        assert {message.body for message in got} == {str(n).encode() for n in range(8)}


async def test_lite_pull_polls_commits_and_seeks(their_cluster: Cluster, producer: Producer, unique: Unique) -> None:
    topic, group = unique("Topic"), unique("group")
    for n in range(12):
        await producer.send(topic, str(n))
    got: list[MessageView] = []

    async with LitePullConsumer(
        their_cluster.namesrv_address, group=group, topics=topic, consume_from=ConsumeFrom.FIRST, auto_commit=False
    ) as consumer:

        async def polled() -> bool:
            got.extend(await consumer.poll(timeout_ms=200))
            return len(got) >= 12

        await until(polled, "12 messages")
        await consumer.commit()
        queues = await consumer.queues(topic)
        committed = [await consumer.committed(queue) for queue in queues]
        ends = [await consumer.end_offset(queue) for queue in queues]
        for queue in queues:
            await consumer.seek_to_begin(queue)
        got.clear()
        await until(polled, "12 messages again")

    assert committed == ends
    assert sum(ends) == 12


async def test_a_delayed_message_is_not_early(their_cluster: Cluster, producer: Producer, unique: Unique) -> None:
    topic, got = unique("Topic"), list[MessageView]()
    await producer.send(topic, "now")
    async with push(their_cluster, unique("group"), topic, got):
        await until(lambda: got, "the first message")
        before = time.monotonic()
        await producer.send(topic, "later", delay_level=1)
        await until(lambda: len(got) == 2, "the delayed message")

    assert 1.0 <= time.monotonic() - before < 10.0


async def test_administration_of_topics_groups_and_offsets(
    their_cluster: Cluster, admin: Admin, producer: Producer, unique: Unique
) -> None:
    topic, group, got = unique("Topic"), unique("group"), list[MessageView]()
    await admin.topics.create(topic, queues=3)
    await until(lambda: admin.topics.exists(topic), "the topic's route")
    sent = [await producer.send(topic, f"body {n}", keys=f"key-{n}") for n in range(9)]
    async with push(their_cluster, group, topic, got) as consumer:
        await until(lambda: len(got) == 9, "nine messages")
        members = await admin.groups.members(group)
        del members
        assert consumer.client_id

    async def no_lag() -> bool:
        return (await admin.groups.progress(group, topic=topic)).lag == 0

    await until(no_lag, "no lag")
    assert sorted(stats.max_offset for stats in await admin.topics.stats(topic)) == [3, 3, 3]
    assert group in await admin.topics.groups(topic)
    moved = await admin.groups.seek(group, topic, 0)
    assert set(moved.values()) == {0}
    assert (await admin.groups.progress(group, topic=topic)).lag == 9
    assert (await admin.groups.config(group)).group_name == group
    assert (await admin.messages.by_offset_id(sent[4].offset_message_id)).body == b"body 4"
    found = await until(lambda: admin.messages.by_key(topic, "key-5"), "key-5")
    assert [message.body for message in found] == [b"body 5"]
    await admin.topics.delete(topic)
    assert topic not in await admin.topics.names()


async def test_cluster_and_broker_information(their_cluster: Cluster, admin: Admin) -> None:
    (broker,) = await admin.brokers.find()
    assert broker.address == their_cluster.broker.address
    release = their_cluster.apache().version.replace(".", "_")
    assert (await admin.brokers.runtime(broker.address))["brokerVersionDesc"] == f"V{release}"
    assert (await admin.brokers.config(broker.address))["brokerName"] == "broker-a"


async def test_errors_carry_apaches_reason(their_cluster: Cluster, admin: Admin, unique: Unique) -> None:
    with pytest.raises(TopicNotFound):
        await admin.topics.route(unique("Absent"))
    with pytest.raises((RequestRefused, NotFound)):
        await admin.messages.by_offset_id("7F000001" + f"{their_cluster.broker.port:08X}" + f"{2**40:016X}")
