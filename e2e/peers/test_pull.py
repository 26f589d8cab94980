"""Apache's Java pull consumers of the old kind: each batch on demand, offsets in the user's hands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
COUNT = 40


class Puller:
    """A topic with 40 messages in queue 0, every second with another tag, and a pull consumer."""

    def __init__(self, java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> None:
        self.java, self.namesrv, self.unique, self.clients = java, cluster.namesrv_address, unique, clients
        self.topic, self.group, producer = unique("Topic"), unique("group"), unique("producer")
        clients(java, "producer", producer)
        java.call("producer.start", name=producer, namesrv=self.namesrv)
        java.call("producer.send", name=producer, topic=self.topic, messages=[{"body": "makes the topic"}])
        messages = [{"body": f"{n}", "tag": f"Tag{n % 2}"} for n in range(COUNT)]
        self.sent = java.call(
            "producer.send", name=producer, topic=self.topic, mode="queue", queue_id=0, messages=messages
        )
        self.first = self.sent[0]["queue_offset"]
        self.name = self.start()

    def start(self) -> str:
        name = self.unique("puller")
        self.clients(self.java, "pull", name)
        self.java.call("pull.start", name=name, group=self.group, namesrv=self.namesrv)
        return name

    def ask(self, command: str, **arguments: Any) -> Any:
        return self.java.call(f"pull.{command}", name=self.name, topic=self.topic, **arguments)


@pytest.fixture
def puller(java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> Puller:
    return Puller(java, cluster, unique, clients)


def test_batches_follow_one_another_up_to_the_end_of_the_queue(puller: Puller) -> None:
    bodies: list[str] = []
    offset = puller.first
    while (batch := puller.ask("pull", offset=offset, count=16))["status"] == "FOUND":
        bodies += [message["body"] for message in batch["messages"]]
        assert batch["next"] == batch["messages"][-1]["queue_offset"] + 1
        offset = batch["next"]
    assert bodies == [f"{n}" for n in range(COUNT)]
    assert batch["status"] == "NO_NEW_MSG"
    assert (batch["min"], batch["max"]) == (0, puller.first + COUNT)


def test_a_filter_and_offsets_out_of_bounds_are_answered_as_such(puller: Puller) -> None:
    tagged = puller.ask("pull", offset=puller.first, count=32, expression="Tag1")
    assert {message["tags"] for message in tagged["messages"]} == {"Tag1"}
    assert puller.ask("pull", offset=puller.first, count=32, expression="Nothing")["status"] == "NO_MATCHED_MSG"
    beyond = puller.ask("pull", offset=puller.first + COUNT + 1000)
    assert beyond["status"] == "OFFSET_ILLEGAL"
    assert beyond["next"] == puller.first + COUNT


def test_a_blocking_pull_waits_and_the_committed_offset_outlives_the_consumer(puller: Puller) -> None:
    found = puller.ask("pull", offset=puller.first + COUNT - 1, block=True)
    assert [message["body"] for message in found["messages"]] == [f"{COUNT - 1}"]
    puller.ask("commit", offset=puller.first + 17)
    puller.java.call("pull.stop", name=puller.name)
    puller.name = puller.start()
    wait_until(lambda: puller.ask("committed") == puller.first + 17, "the offset is at the broker", 30)
