"""POP with Apache's 5.5 client, request by request and as a push consumer whose broker assigns queues and mode; and with ours."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e import toolchain
from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.conftest import tools
from e2e.drivers import Driver
from e2e.processes import wait_until
from rocketmq_client import PopConsumer, PoppedMessage, Producer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
FOUND, NOTHING = "FOUND", {"NO_NEW_MSG", "POLLING_NOT_FOUND", "POLLING_FULL"}


class PopBench:
    """A topic of four queues, a producer, and a client that pops request by request."""

    def __init__(self, java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> None:
        self.java, self.cluster, self.unique, self.clients = java, cluster, unique, clients
        self.topic, self.group = unique("Pop"), unique("popgroup")
        self.name = unique("pop")
        clients(java, "pop", self.name)
        java.call("pop.open", name=self.name, namesrv=cluster.namesrv_address)
        self.producer = unique("producer")
        clients(java, "producer", self.producer)
        java.call("producer.start", name=self.producer, namesrv=cluster.namesrv_address)
        # A send makes the topic; what follows is about messages of the test.
        self.send("first")
        self.ack_all(self.wait_popped(1))

    def send(self, *bodies: str, **options: Any) -> None:
        messages = [{"body": body, **options} for body in bodies]
        self.java.call("producer.send", name=self.producer, topic=self.topic, messages=messages)

    def ask(self, command: str, **arguments: Any) -> Any:
        return self.java.call(
            f"pop.{command}", name=self.name, broker=self.cluster.broker.address, broker_name=self.cluster.broker.name,
            group=self.group, topic=self.topic, **arguments,
        )  # fmt: skip

    def pop(self, **arguments: Any) -> list[dict[str, Any]]:
        answer = self.ask("pop", **arguments)
        assert answer["status"] in {FOUND} | NOTHING, answer["status"]
        messages: list[dict[str, Any]] = answer["messages"]
        return messages

    def wait_popped(self, count: int, **arguments: Any) -> list[dict[str, Any]]:
        """Pop until there are ``count`` messages; with queues read one by one that may take several pops."""
        found: list[dict[str, Any]] = []

        def enough() -> bool:
            found.extend(self.pop(**{"poll_ms": 2000, **arguments}))
            return len(found) >= count

        wait_until(enough, f"{count} messages popped", 60.0, poll_seconds=0.05)
        return found

    def ack_all(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            assert self.ask("ack", handle=handle(message))["status"] == "OK"


def handle(message: dict[str, Any]) -> str:
    text: str = message["properties"]["POP_CK"]
    return text


def bodies(messages: list[dict[str, Any]]) -> list[str]:
    return sorted(str(message["body"]) for message in messages)


@pytest.fixture
def bench(java5: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> PopBench:
    return PopBench(java5, cluster, unique, clients)


def test_what_was_popped_is_not_given_to_another_while_it_is_invisible(bench: PopBench) -> None:
    bench.send(*(f"{n}" for n in range(12)))
    found = bench.wait_popped(12)
    assert bodies(found) == sorted(f"{n}" for n in range(12))
    assert bench.pop(poll_ms=1500) == []
    bench.ack_all(found)


def test_every_message_has_its_handle(bench: PopBench) -> None:
    bench.send("one", "two", "three")
    for message in bench.wait_popped(3):
        parts = handle(message).split(" ")
        assert parts[4:8] == ["0", bench.cluster.broker.name, str(message["queue_id"]), str(message["queue_offset"])]
        assert message["properties"]["1ST_POP_TIME"] == parts[1]


def test_a_message_that_is_not_acknowledged_comes_again_under_its_topic(bench: PopBench) -> None:
    bench.send("lost", "kept")
    found = bench.wait_popped(2, invisible_ms=10_000)
    bench.ack_all([message for message in found if message["body"] == "kept"])
    (again,) = bench.wait_popped(1)
    assert (again["body"], again["topic"], again["reconsume_times"]) == ("lost", bench.topic, 1)
    assert handle(again).split(" ")[4] in ("1", "2")
    bench.ack_all([again])
    assert bench.pop(poll_ms=1500) == []


def test_messages_are_acknowledged_together(bench: PopBench) -> None:
    bench.send(*(f"{n}" for n in range(8)))
    found = bench.wait_popped(8, invisible_ms=10_000)
    assert bench.ask("ack_batch", handles=[handle(message) for message in found[1:]])["status"] == "OK"
    (again,) = bench.wait_popped(1)
    assert again["body"] == found[0]["body"]
    bench.ack_all([again])


def test_a_message_can_be_kept_longer(bench: PopBench) -> None:
    bench.send("slow")
    (message,) = bench.wait_popped(1, invisible_ms=5000)
    answer = bench.ask("change", handle=handle(message), invisible_ms=60_000)
    assert answer["status"] == "OK"
    assert bench.pop(poll_ms=9000) == []
    assert bench.ask("ack", handle=answer["handle"])["status"] == "OK"


def test_a_waiting_pop_gets_what_is_sent(bench: PopBench) -> None:
    bench.send("tagged", tag="TagA")
    bench.send("other", tag="TagB")
    (found,) = bench.wait_popped(1, expression="TagA")
    assert found["body"] == "tagged"
    bench.ack_all([found])
    assert bench.ask("notification", poll_ms=500) is False
    bench.send("news", tag="TagA")
    assert bench.ask("notification", poll_ms=10_000) is True


def test_ordered_pops_block_their_queue(bench: PopBench) -> None:
    bench.send(*(f"{n}" for n in range(12)))
    first = bench.pop(order=True, count=1)
    assert first
    queue_id = first[0]["queue_id"]
    assert bench.pop(order=True, queue_id=queue_id, poll_ms=500) == []
    bench.ack_all(first)
    (second,) = bench.pop(order=True, count=1, queue_id=queue_id, poll_ms=10_000)
    assert second["queue_offset"] == first[0]["queue_offset"] + 1
    bench.ack_all([second])


@pytest.mark.parametrize("share", [0, 1])
def test_a_push_consumer_pops_when_the_operator_says_so(
    bench: PopBench, java5: Driver, cluster: Cluster, unique: Unique, clients: Clients, share: int
) -> None:
    group = unique("popping")
    output = java5.mqadmin(
        "setConsumeMode", "-n", cluster.namesrv_address, "-b", cluster.broker.address, "-t", bench.topic, "-g", group,
        "-m", "POP", "-q", str(share),
    )  # fmt: skip
    assert not output.failed, output.errors
    assert "success" in output.output
    names = [unique("consumer") for _ in range(3)]
    for name in names:
        clients(java5, "consumer", name)
        java5.call(
            "consumer.start", name=name, group=group, namesrv=cluster.namesrv_address,
            subscriptions=[{"topic": bench.topic}], broker_rebalance=True,
        )  # fmt: skip
    sent = [f"{share}-{n}" for n in range(40)]
    bench.send(*sent)

    def all_received() -> list[str] | None:
        got = [str(m["body"]) for name in names for m in java5.call("consumer.received", name=name)]
        return got if set(sent) <= set(got) else None

    got = wait_until(all_received, "all messages popped", 90.0, poll_seconds=0.2)
    assert {body: count for body, count in Counter(got).items() if count > 1 and body in sent} == {}


def test_a_popping_push_consumer_gets_failed_messages_again(
    bench: PopBench, java5: Driver, cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    group, name = unique("popping"), unique("consumer")
    java5.mqadmin(
        "setConsumeMode", "-n", cluster.namesrv_address, "-b", cluster.broker.address, "-t", bench.topic, "-g", group,
        "-m", "POP", "-q", "0",
    )  # fmt: skip
    clients(java5, "consumer", name)
    java5.call(
        "consumer.start", name=name, group=group, namesrv=cluster.namesrv_address,
        subscriptions=[{"topic": bench.topic}], broker_rebalance=True, fail_times=1,
    )  # fmt: skip
    bench.send("again")

    def twice() -> list[int] | None:
        times = [m["reconsume_times"] for m in java5.call("consumer.received", name=name) if m["body"] == "again"]
        return times if len(times) >= 2 else None

    assert wait_until(twice, "the failed message again", 120.0, poll_seconds=0.2) == [0, 1]


def test_what_apache_handed_out_comes_again_from_the_broker_that_takes_its_store_over(
    java5: Driver, tmp_path: Path, unique: Unique, clients: Clients
) -> None:
    with tools():
        toolchain.apache()
    with Cluster(Kind.APACHE, tmp_path / "apache", settings=TEST_BROKER_SETTINGS) as first:
        bench = PopBench(java5, first, unique, clients)
        bench.send(*(f"{n}" for n in range(4)))
        found = bench.wait_popped(4, invisible_ms=20_000)
        bench.ack_all(found[:1])
        first.broker.process.stop()
        left = first.broker
    second = Cluster(Kind.OURS, tmp_path / "ours", broker_names=(), settings=TEST_BROKER_SETTINGS)
    with second:
        second.add_broker(left.name, store=left.store, port=left.port)
        second.wait_registered()
        bench.cluster = second
        again = bench.wait_popped(3)
        assert bodies(again) == bodies(found[1:])
        assert {message["reconsume_times"] for message in again} == {1}
        bench.ack_all(again)
        assert bench.pop(poll_ms=3000) == []


async def sent_to(cluster: Cluster, topic: str, *sent: str, **options: Any) -> None:
    async with Producer(cluster.namesrv_address) as producer:
        for body in sent:
            await producer.send(topic, body.encode(), **options)


async def gathered(consumer: PopConsumer, count: int, seconds: float = 60.0) -> list[PoppedMessage]:
    found: list[PoppedMessage] = []
    async with asyncio.timeout(seconds):
        while len(found) < count:
            found += await consumer.pop(timeout_ms=5000)
    return found


async def test_our_client_pops_acknowledges_and_gets_the_rest_again(cluster: Cluster, unique: Unique) -> None:
    topic, group = unique("Pop"), unique("popgroup")
    await sent_to(cluster, topic, *(f"{n}" for n in range(6)))
    async with PopConsumer(cluster.namesrv_address, group=group, topics=topic, invisible_ms=8000) as consumer:
        found = await gathered(consumer, 6)
        assert sorted(message.body for message in found) == [b"%d" % n for n in range(6)]
        kept = next(message for message in found if message.body == b"0")
        await consumer.ack(*(message for message in found if message is not kept))
        before = kept.invisible_until_ms
        await consumer.change_invisible_time(kept, 3000)
        assert kept.invisible_until_ms != before
        (again,) = await gathered(consumer, 1)
        assert (again.body, again.topic, again.reconsume_times) == (b"0", topic, 1)
        await consumer.ack(again)
        assert await consumer.pop(timeout_ms=1500) == []


async def test_our_client_pops_several_topics_as_an_iterator(cluster: Cluster, unique: Unique) -> None:
    topics = [unique("Pop"), unique("Pop")]
    for topic in topics:
        await sent_to(cluster, topic, "first", tag="TagA")
    group, got = unique("popgroup"), list[str]()
    async with (
        PopConsumer(cluster.namesrv_address, group=group, topics=dict.fromkeys(topics, "TagA")) as consumer,
        asyncio.timeout(60),
    ):
        async for message in consumer:
            await consumer.ack(message)
            got.append(message.topic)
            if len(got) == 2:
                # What is sent while all topics are waited for.
                await sent_to(cluster, topics[1], "unwanted", tag="TagB")
                await sent_to(cluster, topics[1], "second", tag="TagA")
            if len(got) == 3:
                break
    assert sorted(got[:2]) == sorted(topics)
    assert got[2] == topics[1]


async def test_our_client_pops_in_order(cluster: Cluster, unique: Unique) -> None:
    topic, group = unique("Pop"), unique("popgroup")
    await sent_to(cluster, topic, *(f"{n}" for n in range(8)), sharding_key="one")
    async with PopConsumer(cluster.namesrv_address, group=group, topics=topic, count=2, is_ordered=True) as consumer:
        bodies_in_order: list[bytes] = []
        async with asyncio.timeout(60):
            while len(bodies_in_order) < 8:
                batch = await consumer.pop(timeout_ms=5000)
                bodies_in_order += [message.body for message in batch]
                for message in batch:
                    await consumer.ack(message)
        assert bodies_in_order == [b"%d" % n for n in range(8)]


async def test_our_client_sets_a_message_aside(cluster: Cluster, unique: Unique) -> None:
    topic, group = unique("Pop"), unique("popgroup")
    await sent_to(cluster, topic, "poison")
    async with PopConsumer(cluster.namesrv_address, group=group, topics=topic) as consumer:
        (message,) = await gathered(consumer, 1)
        await consumer.dead_letter(message)
        assert await consumer.pop(timeout_ms=1000) == []
    async with PopConsumer(cluster.namesrv_address, group=unique("aside"), topics=f"%DLQ%{group}") as consumer:
        (letter,) = await gathered(consumer, 1)
        assert letter.body == b"poison"
