"""Apache's Java lite pull consumers: subscribe, assign, seek, commit."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]


@pytest.fixture
def topic(java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> str:
    """A topic with twelve messages."""
    name, topic = unique("producer"), unique("Topic")
    clients(java, "producer", name)
    java.call("producer.start", name=name, namesrv=cluster.namesrv_address)
    java.call(
        "producer.send", name=name, topic=topic, messages=[{"body": f"m{n}", "tag": f"Tag{n % 2}"} for n in range(12)]
    )
    return topic


def start(java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str, **options: Any) -> str:
    name = unique("lite")
    clients(java, "lite", name)
    java.call(
        "lite.start",
        name=name,
        group=options.pop("group", unique("group")),
        namesrv=cluster.namesrv_address,
        topic=topic,
        **options,
    )
    return name


def poll(java: Driver, name: str, count: int) -> list[dict[str, Any]]:
    """Poll until ``count`` messages came."""
    got: list[dict[str, Any]] = []

    def enough() -> bool:
        got.extend(java.call("lite.poll", name=name, timeout_ms=500))
        return len(got) >= count

    wait_until(enough, f"{name} polls {count} messages")
    return got


def test_a_subscription_polls_everything_and_filters_by_tag(
    java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str
) -> None:
    everything = poll(java, start(java, cluster, unique, clients, topic), 12)
    tagged = poll(java, start(java, cluster, unique, clients, topic, expression="Tag1"), 6)

    assert {message["body"] for message in everything} == {f"m{n}" for n in range(12)}
    assert {message["body"] for message in tagged} == {f"m{n}" for n in range(1, 12, 2)}


def test_a_committed_offset_is_where_the_group_goes_on(
    java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str
) -> None:
    group = unique("group")
    first = start(java, cluster, unique, clients, topic, group=group, manual_commit=True)
    poll(java, first, 12)
    java.call("lite.commit", name=first)
    java.call("lite.stop", name=first)

    again = start(java, cluster, unique, clients, topic, group=group, assign=True)

    wait_until(
        lambda: sum(java.call("lite.committed", name=again, topic=topic).values()) == 12, "the committed offsets"
    )
    assert java.call("lite.poll", name=again, timeout_ms=1000) == []


def test_seek_goes_back_to_the_first_message(
    java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str
) -> None:
    name = start(java, cluster, unique, clients, topic, assign=True)
    assert len(poll(java, name, 12)) == 12

    assert java.call("lite.seek", name=name, topic=topic) == 4

    assert {message["body"] for message in poll(java, name, 12)} == {f"m{n}" for n in range(12)}


def test_seek_by_time_skips_what_is_older(
    java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str
) -> None:
    name = start(java, cluster, unique, clients, topic, assign=True)
    old = poll(java, name, 12)
    after_ms = max(message["store_timestamp"] for message in old) + 1
    wait_until(lambda: time.time() * 1000 > after_ms + 5, "another millisecond")
    producer = unique("producer")
    clients(java, "producer", producer)
    java.call("producer.start", name=producer, namesrv=cluster.namesrv_address)
    # Each queue has something that is younger, so that each is searched between two messages.
    for queue_id in range(4):
        java.call(
            "producer.send", name=producer, topic=topic, mode="queue", queue_id=queue_id, messages=[{"body": "new"}]
        )
    poll(java, name, 4)

    java.call("lite.seek", name=name, topic=topic, timestamp_ms=after_ms)

    assert [message["body"] for message in poll(java, name, 4)] == ["new"] * 4


def test_a_paused_consumer_polls_nothing_until_it_resumes(
    java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str
) -> None:
    name = start(java, cluster, unique, clients, topic, assign=True)
    poll(java, name, 12)
    java.call("lite.seek", name=name, topic=topic)
    poll(java, name, 12)
    java.call("lite.pause", name=name, topic=topic)
    java.call("lite.seek", name=name, topic=topic)
    assert java.call("lite.poll", name=name, timeout_ms=1000) == []

    java.call("lite.resume", name=name, topic=topic)

    assert len(poll(java, name, 12)) == 12
