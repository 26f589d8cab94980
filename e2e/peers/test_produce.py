"""Apache's Java producers, 4.9 and 5.5, and what a consumer then sees."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver, PeerError
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]


@pytest.fixture
def producer(java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> str:
    """Name of a started producer of ``java``."""
    name = unique("producer")
    clients(java, "producer", name)
    java.call("producer.start", name=name, group=unique("pg"), namesrv=cluster.namesrv_address)
    return name


def consume(java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str, **options: Any) -> str:
    """Start a push consumer of a new group from the first offset and return its name."""
    name = unique("consumer")
    clients(java, "consumer", name)
    options = {"subscriptions": [{"topic": topic}]} | options
    java.call("consumer.start", name=name, group=unique("group"), namesrv=cluster.namesrv_address, **options)
    return name


def bodies(received: list[dict[str, Any]]) -> list[str]:
    return sorted(str(message["body"]) for message in received)


@pytest.mark.parametrize("mode", ["sync", "async", "oneway"])
def test_each_way_of_sending_stores_each_message_once(
    java: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients, mode: str
) -> None:
    topic = unique("Topic")
    messages = [
        {"body": f"{mode} {n}", "tag": "TagA", "keys": f"key-{n}", "properties": {"n": str(n)}} for n in range(20)
    ]

    results = java.call("producer.send", name=producer, topic=topic, mode=mode, messages=messages)

    received = java.receive(consume(java, cluster, unique, clients, topic), 20)
    assert bodies(received) == sorted(str(message["body"]) for message in messages)
    assert {(message["tags"], message["properties"]["n"]) for message in received} == {
        ("TagA", str(n)) for n in range(20)
    }
    if mode != "oneway":
        assert {result["status"] for result in results} == {"SEND_OK"}
        assert {result["message_id"] for result in results} == {message["message_id"] for message in received}
        places = {(result["queue_id"], result["queue_offset"]) for result in results}
        assert places == {(message["queue_id"], message["queue_offset"]) for message in received}
        assert {result["region_id"] for result in results} == {"DefaultRegion"}


def test_a_batch_takes_consecutive_offsets_of_one_queue(
    java: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients
) -> None:
    topic = unique("Topic")

    (result,) = java.call(
        "producer.send",
        name=producer,
        topic=topic,
        mode="batch",
        messages=[{"body": f"b{n}", "keys": f"k{n}"} for n in range(10)],
    )

    received = java.receive(consume(java, cluster, unique, clients, topic), 10)
    assert {message["queue_id"] for message in received} == {result["queue_id"]}
    assert [message["body"] for message in sorted(received, key=lambda m: m["queue_offset"])] == [
        f"b{n}" for n in range(10)
    ]
    assert sorted(message["queue_offset"] for message in received) == list(
        range(result["queue_offset"], result["queue_offset"] + 10)
    )
    assert len(result["offset_message_id"].split(",")) == 10
    assert set(result["message_id"].split(",")) == {message["message_id"] for message in received}


def test_a_delayed_message_arrives_after_its_level_and_under_its_topic(
    java: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients
) -> None:
    topic = unique("Topic")
    java.call("producer.send", name=producer, topic=topic, messages=[{"body": "now"}])
    consumer = consume(java, cluster, unique, clients, topic)
    java.receive(consumer, 1)
    before_ms = int(time.time() * 1000)

    java.call("producer.send", name=producer, topic=topic, messages=[{"body": "later", "delay_level": 1}])

    later = next(message for message in java.receive(consumer, 2) if message["body"] == "later")
    assert later["topic"] == topic
    assert 1000 <= later["received_ms"] - before_ms < 5000
    assert later["properties"]["DELAY"] == "1"


@pytest.mark.parametrize(("size", "compressed"), [(3000, False), (6000, True), (2_000_000, True)])
def test_large_bodies_are_compressed_by_the_client_and_come_back_whole(
    java: Driver, cluster: Cluster, producer: str, unique: Unique, clients: Clients, size: int, compressed: bool
) -> None:
    topic = unique("Topic")
    java.call("producer.send", name=producer, topic=topic, messages=[{"body_size": size}])

    (message,) = java.receive(consume(java, cluster, unique, clients, topic), 1)

    expected = bytes(ord("a") + n % 23 for n in range(size))
    assert (message["body_size"], message["body_crc32"]) == (size, zlib.crc32(expected))
    assert (message["store_size"] < size) == compressed


@pytest.mark.parametrize("algorithm", ["LZ4", "ZSTD", "ZLIB"])
def test_each_compression_of_the_5x_client_comes_back_whole(
    java5: Driver, cluster: Cluster, unique: Unique, clients: Clients, algorithm: str
) -> None:
    topic, name = unique("Topic"), unique("producer")
    clients(java5, "producer", name)
    java5.call("producer.start", name=name, namesrv=cluster.namesrv_address, compress_type=algorithm)
    java5.call("producer.send", name=name, topic=topic, messages=[{"body_size": 10_000}])

    (message,) = java5.receive(consume(java5, cluster, unique, clients, topic), 1)

    assert message["body_crc32"] == zlib.crc32(bytes(ord("a") + n % 23 for n in range(10_000)))
    # The client that decompressed takes the compressed bit away and leaves the type.
    assert message["system_flag"] & 0x700 == {"LZ4": 0x100, "ZSTD": 0x200, "ZLIB": 0x300}[algorithm]
    assert message["store_size"] < 1000


def test_a_body_over_the_limit_is_refused_before_it_is_sent(java: Driver, producer: str, unique: Unique) -> None:
    with pytest.raises(PeerError, match="message body size over max value") as refused:
        java.call("producer.send", name=producer, topic=unique("Topic"), messages=[{"body_size": 5 * 1024 * 1024}])
    assert refused.value.code == 13


def test_orderly_sends_of_one_shard_stay_in_one_queue(
    java: Driver, cluster: Cluster, producer: str, unique: Unique
) -> None:
    topic = unique("Topic")
    messages = [{"body": f"{n}", "shard": f"order-{n % 3}"} for n in range(12)]

    results = java.call("producer.send", name=producer, topic=topic, mode="ordered", messages=messages)

    for shard in range(3):
        assert len({result["queue_id"] for result in results[shard::3]}) == 1


def test_the_vip_channel_takes_sends(java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> None:
    topic, name = unique("Topic"), unique("producer")
    clients(java, "producer", name)
    java.call("producer.start", name=name, namesrv=cluster.namesrv_address, vip=True)

    (result,) = java.call("producer.send", name=name, topic=topic, messages=[{"body": "by the VIP port"}])

    assert result["status"] == "SEND_OK"
    assert java.receive(consume(java, cluster, unique, clients, topic), 1)[0]["body"] == "by the VIP port"


def test_a_topic_is_created_by_name_and_has_its_queues(
    java: Driver, cluster: Cluster, producer: str, unique: Unique
) -> None:
    topic = unique("Topic")

    java.call("query.create_topic", name=producer, topic=topic, queues=3)

    queues = wait_until(lambda: queues_of(java, producer, topic), f"{topic} has queues")
    assert queues == [f"broker-a:{n}" for n in range(3)]


def queues_of(java: Driver, producer: str, topic: str) -> list[str] | None:
    try:
        return sorted(java.call("query.queues", name=producer, topic=topic))
    except PeerError:
        return None  # not in the route yet


def test_a_topic_that_nobody_created_has_no_route_for_a_query(java: Driver, producer: str, unique: Unique) -> None:
    with pytest.raises(PeerError, match=r"route|Can not find Message Queue"):
        java.call("query.offset", name=producer, topic=unique("Absent"), which="max")


def test_a_topic_name_with_illegal_characters_is_refused_with_a_reason(java: Driver, producer: str) -> None:
    with pytest.raises(PeerError, match="illegal characters"):
        java.call("producer.send", name=producer, topic="no spaces please", messages=[{"body": "x"}])
