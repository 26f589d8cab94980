"""Apache's Go client v2."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver

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
    options = {"subscriptions": [{"topic": topic}]} | options
    go.call("consumer.start", name=name, group=unique("group"), namesrv=cluster.namesrv_address, **options)
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
    topic = unique("Topic")
    go.call(
        "producer.send",
        name=producer,
        topic=topic,
        messages=[{"body": "a", "tag": "TagA"}, {"body": "b", "tag": "TagB"}],
    )

    received = go.receive(
        consume(
            go, cluster, unique, clients, topic, fail_times=1, subscriptions=[{"topic": topic, "expression": "TagA"}]
        ),
        2,
        90,
    )

    assert [message["body"] for message in received] == ["a", "a"]
    assert [message["reconsume_times"] for message in received] == [0, 1]
