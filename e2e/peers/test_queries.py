"""Queries that each Java client can make: by id, by key, by offset, by time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver, PeerError
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]


class Sent:
    """A topic with ten messages."""

    def __init__(self, java: Driver, producer: str, topic: str) -> None:
        self.java, self.producer, self.topic = java, producer, topic
        self.before_ms = int(time.time() * 1000)
        messages = [{"body": f"body {n}", "keys": f"key-{n} shared", "tag": "TagQ"} for n in range(10)]
        self.results: list[dict[str, Any]] = java.call(
            "producer.send", name=producer, topic=topic, mode="queue", queue_id=0, messages=messages
        )
        self.after_ms = int(time.time() * 1000)

    def query(self, command: str, **arguments: Any) -> Any:
        return self.java.call(f"query.{command}", name=self.producer, topic=self.topic, **arguments)


@pytest.fixture
def sent(
    java: Driver, cluster: Cluster, unique: Callable[[str], str], clients: Callable[[Driver, str, str], None]
) -> Sent:
    producer, topic = unique("producer"), unique("Topic")
    clients(java, "producer", producer)
    java.call("producer.start", name=producer, namesrv=cluster.namesrv_address)
    java.call("query.create_topic", name=producer, topic=topic, queues=2)

    def created() -> bool:
        try:
            return len(java.call("query.queues", name=producer, topic=topic)) == 2
        except PeerError:
            return False

    wait_until(created, "the topic's route")
    return Sent(java, producer, topic)


def test_a_message_is_found_by_each_of_its_keys(sent: Sent) -> None:
    (one,) = wait_until(lambda: sent.query("key", key="key-3"), "key-3 is indexed", 10)
    everything = wait_until(
        lambda: found if len(found := sent.query("key", key="shared")) == 10 else None, "ten messages by one key", 10
    )

    assert (one["body"], one["tags"], one["keys"]) == ("body 3", "TagQ", "key-3 shared")
    assert {message["body"] for message in everything} == {f"body {n}" for n in range(10)}
    assert sent.query("key", key="key") == []


def test_a_query_by_key_keeps_to_its_time_range_and_count(sent: Sent) -> None:
    wait_until(lambda: len(sent.query("key", key="shared")) == 10, "ten messages by one key", 10)

    assert len(sent.query("key", key="shared", count_max=4)) == 4
    assert sent.query("key", key="shared", begin_ms=0, end_ms=sent.before_ms - 60_000) == []
    assert len(sent.query("key", key="shared", begin_ms=sent.before_ms - 1000, end_ms=sent.after_ms + 1000)) == 10


def test_a_message_is_viewed_by_its_offset_id_and_by_its_unique_id(sent: Sent) -> None:
    result = sent.results[4]

    by_offset = sent.query("view", id=result["offset_message_id"])
    by_unique_id = wait_until(lambda: viewed(sent, result["message_id"]), "the unique id is indexed", 10)

    assert by_offset["body"] == by_unique_id["body"] == "body 4"
    assert by_offset["queue_offset"] == by_unique_id["queue_offset"] == result["queue_offset"]


def viewed(sent: Sent, message_id: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = sent.query("view", id=message_id)
    except PeerError:
        return None
    return found


def test_offsets_of_a_queue_are_its_first_and_its_next(sent: Sent) -> None:
    assert sent.query("offset", which="min") == 0
    wait_until(lambda: sent.query("offset", which="max") == 10, "the maximum offset", 10)
    assert sent.query("offset", queue_id=1, which="max") == 0


def test_an_offset_is_found_by_time(sent: Sent) -> None:
    wait_until(lambda: sent.query("offset", which="max") == 10, "the maximum offset", 10)
    assert sent.query("offset", which="time", timestamp_ms=sent.before_ms - 1000) == 0
    assert sent.query("offset", which="time", timestamp_ms=sent.after_ms + 60_000) in (9, 10)
    assert sent.before_ms - 1 <= sent.query("offset", which="earliest_ms") <= sent.after_ms + 1
    assert sent.query("offset", queue_id=1, which="earliest_ms") == -1


def test_an_id_of_no_message_is_an_error_with_a_reason(sent: Sent) -> None:
    absent = sent.results[0]["offset_message_id"][:-16] + f"{2**40:016X}"
    with pytest.raises(PeerError) as refused:
        sent.query("view", id=absent)
    # 4.9 wraps the code into a text; 5.5 hands it through.
    assert refused.value.code in (1, 208), refused.value
