"""Namespaces of Apache's Java clients: names of topics and groups have a prefix at the broker and none at the user."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver, PeerError
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]


class Bench:
    """A namespace with a producer in it, and consumers inside and outside."""

    def __init__(self, java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> None:
        self.java, self.cluster, self.unique, self.clients = java, cluster, unique, clients
        self.namespace, self.topic, self.group = unique("ns"), unique("Topic"), unique("group")
        self.producer = unique("producer")
        clients(java, "producer", self.producer)
        java.call(
            "producer.start", name=self.producer, namesrv=cluster.namesrv_address, namespace=self.namespace,
            group=unique("pg"),
        )  # fmt: skip

    def send(self, *bodies: str) -> None:
        messages = [{"body": body, "keys": body} for body in bodies]
        self.java.call("producer.send", name=self.producer, topic=self.topic, messages=messages)

    def consume(self, topic: str, group: str, **options: Any) -> str:
        name = self.unique("consumer")
        self.clients(self.java, "consumer", name)
        namesrv, subscriptions = self.cluster.namesrv_address, [{"topic": topic}]
        self.java.call(
            "consumer.start", name=name, group=group, namesrv=namesrv, subscriptions=subscriptions, **options
        )
        return name


@pytest.fixture
def bench(java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> Bench:
    return Bench(java, cluster, unique, clients)


def test_a_namespace_hides_its_prefix_from_those_inside_and_shows_it_outside(bench: Bench) -> None:
    bench.send("one", "two")
    inside = bench.java.receive(bench.consume(bench.topic, bench.group, namespace=bench.namespace), 2)
    prefixed = f"{bench.namespace}%{bench.topic}"
    outside = bench.java.receive(bench.consume(prefixed, bench.unique("group")), 2)
    assert {(m["topic"], m["body"]) for m in inside} == {(bench.topic, "one"), (bench.topic, "two")}
    assert {(m["topic"], m["body"]) for m in outside} == {(prefixed, "one"), (prefixed, "two")}
    assert {m["message_id"] for m in inside} == {m["message_id"] for m in outside}


def test_a_failed_message_of_a_namespace_comes_back_and_ends_in_its_dead_letter_queue(bench: Bench) -> None:
    bench.send("poison")
    name = bench.consume(bench.topic, bench.group, namespace=bench.namespace, fail_times=99, reconsume_max=1)
    received = bench.java.receive(name, 2, 60)
    assert [(m["topic"], m["reconsume_times"]) for m in received] == [(bench.topic, 0), (bench.topic, 1)]
    outside = bench.unique("producer")
    bench.clients(bench.java, "producer", outside)
    bench.java.call("producer.start", name=outside, namesrv=bench.cluster.namesrv_address)

    def dead() -> list[dict[str, Any]] | None:
        topic = f"%DLQ%{bench.namespace}%{bench.group}"
        try:
            found: list[dict[str, Any]] = bench.java.call("query.key", name=outside, topic=topic, key="poison")
        except PeerError:
            return None  # the topic's route is not known yet
        return found

    (letter,) = wait_until(dead, "the dead letter", 60, poll_seconds=0.5)
    assert letter["body"] == "poison"
    assert letter["properties"]["RETRY_TOPIC"] == f"{bench.namespace}%{bench.topic}"
