"""Apache's Go client v2."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver
from e2e.peers.test_transactions import COMMIT, ROLLBACK, UNKNOWN
from e2e.processes import wait_until
from rocketmq_client.blocking import Admin

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]


@pytest.fixture
def producer(go: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> str:
    name = unique("producer")
    clients(go, "producer", name)
    go.call("producer.start", name=name, group=unique("pg"), namesrv=cluster.namesrv_address)
    return name


def consume(go: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str, **options: Any) -> str:
    name = unique("consumer")
    clients(go, "consumer", name)
    options = {"subscriptions": [{"topic": topic}], "group": unique("group")} | options
    go.call("consumer.start", name=name, namesrv=cluster.namesrv_address, **options)
    return name


@pytest.mark.parametrize("mode", ["sync", "async", "oneway", "batch"])
def test_what_go_sends_go_receives(
    go: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients, mode: str
) -> None:
    topic = unique("Topic")
    go.call("producer.send", name=producer, topic=topic, messages=[{"body": "first"}])  # creates the topic
    messages = [
        {"body": f"{mode} {n}", "tag": "TagA", "keys": f"key-{n}", "properties": {"n": str(n)}} for n in range(10)
    ]

    results = go.call("producer.send", name=producer, topic=topic, mode=mode, messages=messages)

    received = go.receive(consume(go, cluster, unique, clients, topic), 11, 60)
    assert sorted(message["body"] for message in received if message["body"] != "first") == sorted(
        str(message["body"]) for message in messages
    )
    assert {
        (message["tags"], message["keys"], message["properties"]["n"])
        for message in received
        if message["body"] != "first"
    } == {("TagA", f"key-{n}", str(n)) for n in range(10)}
    assert all(result["status"] == "SEND_OK" for result in results)


def test_go_and_java_read_each_other(
    go: Driver, java5: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients
) -> None:
    topic, name = unique("Topic"), unique("producer")
    clients(java5, "producer", name)
    java5.call("producer.start", name=name, namesrv=cluster.namesrv_address)
    go.call(
        "producer.send", name=producer, topic=topic, messages=[{"body": "from Go ü中😀", "tag": "TagA", "keys": "k"}]
    )
    java5.call(
        "producer.send",
        name=name,
        topic=topic,
        messages=[{"body": "from Java ü中😀", "tag": "TagA"}, {"body_size": 9000}],
    )

    reader = unique("consumer")
    clients(java5, "consumer", reader)
    java5.call(
        "consumer.start",
        name=reader,
        group=unique("group"),
        namesrv=cluster.namesrv_address,
        subscriptions=[{"topic": topic}],
    )
    by_java = java5.receive(reader, 3)
    by_go = go.receive(consume(go, cluster, unique, clients, topic), 3, 60)

    expected = {
        zlib.crc32(body)
        for body in (
            "from Go ü中😀".encode(),
            "from Java ü中😀".encode(),
            bytes(ord("a") + n % 23 for n in range(9000)),
        )
    }
    assert {message["body_crc32"] for message in by_java} == expected
    assert {message["body_crc32"] for message in by_go} == expected


def test_go_filters_by_tag_and_retries(
    go: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients
) -> None:
    topic, group = unique("Topic"), unique("group")
    messages = [{"body": "a", "tag": "TagA"}, {"body": "b", "tag": "TagB"}]
    go.call("producer.send", name=producer, topic=topic, messages=messages)
    # A retry topic that the group's first heartbeat makes is noticed by the Go client up to 50 s later.
    with Admin(cluster.namesrv_address) as admin:
        admin.topics.create(f"%RETRY%{group}", queues=1)
        wait_until(lambda: admin.topics.exists(f"%RETRY%{group}"), "the retry topic's route")
    subscriptions = [{"topic": topic, "expression": "TagA"}]

    name = consume(go, cluster, unique, clients, topic, group=group, fail_times=1, subscriptions=subscriptions)

    received = go.receive(name, 2, 100)
    assert [message["body"] for message in received] == ["a", "a"]
    assert [message["reconsume_times"] for message in received] == [0, 1]


@pytest.fixture
def transactional(go: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> str:
    """Name of a started transactional producer."""
    name = unique("tx")
    clients(go, "transaction", name)
    go.call("transaction.start", name=name, group=unique("pg"), namesrv=cluster.namesrv_address)
    return name


def in_transaction(go: Driver, name: str, topic: str, *pairs: tuple[str, str]) -> list[dict[str, Any]]:
    """Send (body, state) pairs, each with its local transaction's outcome."""
    messages = [{"body": body, "properties": {"state": state}} for body, state in pairs]
    sent: list[dict[str, Any]] = go.call("transaction.send", name=name, topic=topic, messages=messages)
    return sent


def test_committed_transactions_of_go_come_and_rolled_back_ones_do_not(
    go: Driver, cluster: Cluster, transactional: str, unique: Unique, clients: Clients
) -> None:
    topic = unique("Topic")
    pairs = [(f"{state} {n}", state) for n in range(5) for state in (COMMIT, ROLLBACK)]
    sent = in_transaction(go, transactional, topic, *pairs)
    # Committed last, at least once in each queue: what it follows would have come before it.
    in_transaction(go, transactional, topic, *[("end", COMMIT)] * 8)

    received = go.receive(consume(go, cluster, unique, clients, topic), 13, 90)

    assert {one["status"] for one in sent} == {"SEND_OK"}
    assert sorted(message["body"] for message in received if message["body"] != "end") == [
        f"{COMMIT} {n}" for n in range(5)
    ]


def test_go_is_asked_about_an_open_transaction_and_its_answer_decides(
    go: Driver, cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, name = unique("Topic"), unique("tx")
    clients(go, "transaction", name)
    go.call("transaction.start", name=name, group=unique("pg"), namesrv=cluster.namesrv_address)
    go.call("transaction.answer", name=name, state=COMMIT)
    in_transaction(go, name, topic, ("open", UNKNOWN))

    received = go.receive(consume(go, cluster, unique, clients, topic), 1, 90)

    assert [message["body"] for message in received] == ["open"]
    checks = go.call("transaction.checks", name=name)
    assert {(check["topic"], check["body"]) for check in checks} == {(topic, "open")}


def test_orderly_consumption_of_go_keeps_each_shard_in_order_even_with_failures(
    go: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients
) -> None:
    topic = unique("Topic")
    messages = [{"body": f"{n}", "shard": f"order-{n % 4}"} for n in range(20)]
    sent = go.call("producer.send", name=producer, topic=topic, messages=messages)
    for shard in range(4):
        assert len({result["queue_id"] for result in sent[shard::4]}) == 1

    received = go.receive(consume(go, cluster, unique, clients, topic, orderly=True, fail_times=1), 40, 120)

    for shard in range(4):
        seen = [int(message["body"]) for message in received if int(message["body"]) % 4 == shard]
        assert seen == sorted(seen)
        assert set(seen) == set(range(shard, 20, 4))


def test_broadcast_gives_everything_to_each_consumer_of_go(
    go: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients
) -> None:
    topic, group = unique("Topic"), unique("group")
    go.call("producer.send", name=producer, topic=topic, messages=[{"body": f"{n}"} for n in range(8)])
    names = [consume(go, cluster, unique, clients, topic, group=group, broadcast=True) for _ in range(2)]
    for name in names:
        assert {message["body"] for message in go.receive(name, 8, 90)} == {f"{n}" for n in range(8)}


def test_a_delayed_message_of_go_is_not_early(
    go: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients
) -> None:
    topic = unique("Topic")
    go.call("producer.send", name=producer, topic=topic, messages=[{"body": "now"}])
    name = consume(go, cluster, unique, clients, topic)
    go.receive(name, 1, 90)
    before = time.monotonic()
    go.call("producer.send", name=producer, topic=topic, messages=[{"body": "later", "delay_level": 1}])
    assert [message["body"] for message in go.receive(name, 2, 90)] == ["now", "later"]
    assert time.monotonic() - before >= 1.0
