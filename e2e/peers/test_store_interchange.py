"""One store, two brokers: what the one wrote the other opens, and goes on with."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from e2e import toolchain
from e2e.clusters import Broker, Cluster, Kind
from e2e.conftest import tools
from e2e.drivers import Driver
from e2e.golden.stores import GROUP, STORE_SETTINGS, TOPIC, unpack
from e2e.processes import free_port, wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]
Clients = Callable[[Driver, str, str], None]
SETTINGS = dict(STORE_SETTINGS) | {"messageDelayLevel": "1s 10s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s"}
CONSUMED, UNCONSUMED = 63, 10


class Session:
    """A producer and consumers on one of the two brokers."""

    def __init__(self, java: Driver, cluster: Cluster, clients: Clients, unique: Callable[[str], str]) -> None:
        self.java, self.cluster, self.clients, self.unique = java, cluster, clients, unique
        self.producer = unique("producer")
        clients(java, "producer", self.producer)
        java.call("producer.start", name=self.producer, namesrv=cluster.namesrv_address)

    def send(self, topic: str, messages: list[dict[str, Any]], mode: str = "sync") -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = self.java.call(
            "producer.send", name=self.producer, topic=topic, mode=mode, messages=messages
        )
        return sent

    def consume(self, topic: str, group: str) -> str:
        name = self.unique("consumer")
        self.clients(self.java, "consumer", name)
        self.java.call(
            "consumer.start",
            name=name,
            group=group,
            namesrv=self.cluster.namesrv_address,
            subscriptions=[{"topic": topic}],
        )
        return name

    def query(self, command: str, topic: str, **arguments: Any) -> Any:
        return self.java.call(f"query.{command}", name=self.producer, topic=topic, **arguments)

    def close(self) -> None:
        self.java.call("producer.stop", name=self.producer)


def reopen(kind: Kind, directory: Path, written: Broker, settings: dict[str, str]) -> Cluster:
    """A cluster of the other kind whose broker opens the store that ``written`` left, at the same address."""
    cluster = Cluster(kind, directory, broker_names=(), settings=settings)
    cluster.start()
    cluster.add_broker(written.name, store=written.store, port=written.port)
    cluster.wait_registered()
    return cluster


def committed(store: Path, key: str) -> int:
    """Sum of the group's offsets in consumerOffset.json, whose queue numbers stand bare; 0 while it is not there."""
    path = store / "config/consumerOffset.json"
    if not path.exists():
        return 0
    text = re.sub(r"([{,]\s*)(\d+)(\s*:)", r'\1"\2"\3', path.read_text())
    return sum((json.loads(text or "{}").get("offsetTable") or {}).get(key, {}).values())


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
@pytest.mark.parametrize(("writer", "reader"), [(Kind.APACHE, Kind.OURS), (Kind.OURS, Kind.APACHE)])
def test_messages_offsets_and_queries_survive_the_change_of_broker(
    java5: Driver,
    tmp_path: Path,
    clients: Clients,
    unique: Callable[[str], str],
    writer: Kind,
    reader: Kind,
    ending: str,
) -> None:
    topic, group = unique("Topic"), unique("group")
    with Cluster(writer, tmp_path / "writer", settings=SETTINGS) as first:
        session = Session(java5, first, clients, unique)
        sent = session.send(
            topic, [{"body": f"body {n} " + "x" * 1500, "keys": f"key-{n} shared", "tag": "TagA"} for n in range(57)]
        )
        sent += session.send(topic, [{"body_size": 6000, "keys": "compressed"}])
        session.send(topic, [{"body": f"batch {n}", "keys": f"batch-{n}"} for n in range(5)], mode="batch")
        name = session.consume(topic, group)
        before = java5.receive(name, CONSUMED)
        java5.call("consumer.stop", name=name)
        wait_until(lambda: committed(first.broker.store, f"{topic}@{group}") == CONSUMED, "the offsets are on disk", 20)
        session.send(topic, [{"body": f"later {n}"} for n in range(UNCONSUMED)])
        session.send(topic, [{"body": "delayed", "delay_level": 2}])
        maxima = [session.query("offset", topic, queue_id=queue, which="max") for queue in range(4)]
        session.close()
        if ending == "SIGKILL":
            first.broker.process.kill()
        else:
            first.broker.process.stop()

    second = reopen(reader, tmp_path / "reader", first.broker, SETTINGS)
    try:
        session = Session(java5, second, clients, unique)
        rest = session.consume(topic, group)
        everything = session.consume(topic, unique("group"))
        after = java5.receive(everything, CONSUMED + UNCONSUMED + 1, 60)
        again = java5.receive(rest, UNCONSUMED + 1, 60)
        assert {message["body"] for message in again} == {f"later {n}" for n in range(UNCONSUMED)} | {"delayed"}
        assert facts(before) <= facts(after)
        assert len(after) == CONSUMED + UNCONSUMED + 1
        for queue in range(4):
            assert session.query("offset", topic, queue_id=queue, which="min") == 0
            assert session.query("offset", topic, queue_id=queue, which="max") >= maxima[queue]
        assert [found["body"][:7] for found in session.query("key", topic, key="key-7")] == ["body 7 "]
        assert len(session.query("key", topic, key="shared", count_max=64)) == 57
        assert session.query("view", topic, id=sent[9]["offset_message_id"])["body"].startswith("body 9 ")
        (new,) = session.send(topic, [{"body": "by the new broker", "keys": "new"}])
        assert new["queue_offset"] >= maxima[new["queue_id"]]
        wait_until(lambda: session.query("key", topic, key="new"), "the new broker's index", 10)
        session.close()
    finally:
        second.stop()


def facts(messages: list[dict[str, Any]]) -> set[tuple[Any, ...]]:
    """What must be equal, whichever broker hands the message out."""
    names = (
        "queue_id",
        "queue_offset",
        "physical_offset",
        "message_id",
        "store_timestamp",
        "born_timestamp",
        "body_crc32",
        "tags",
        "keys",
    )
    return {tuple(message[name] for name in names) for message in messages}


@pytest.mark.parametrize("name", ["clean", "killed"])
def test_a_store_recorded_from_apaches_broker_opens_in_the_judged_one(
    java5: Driver,
    peer_kind: Kind,
    tmp_path: Path,
    clients: Clients,
    unique: Callable[[str], str],
    repository: Path,
    name: str,
) -> None:
    golden = repository / "broker/rocketmq_store/tests/golden"
    contents = json.loads((golden / f"apache-5.5-{name}.json").read_text())
    with tools():
        toolchain.apache()
    store = unpack(golden / f"apache-5.5-{name}.tar.gz", tmp_path / "store")
    committed_before = committed(store, f"{TOPIC}@{GROUP}")
    cluster = Cluster(peer_kind, tmp_path / "reader", broker_names=(), settings=dict(STORE_SETTINGS))
    with cluster:
        cluster.add_broker("broker-a", store=store, port=free_port((-2, 1)))
        cluster.wait_registered()
        session = Session(java5, cluster, clients, unique)
        # The store holds a message that was delayed by an hour when it was recorded: overdue now, so it comes first thing.
        received = java5.receive(session.consume(TOPIC, unique("group")), len(contents["received"]) + 1, 60)
        recorded = {message["message_id"] for message in contents["received"]}
        assert facts([message for message in received if message["message_id"] in recorded]) == facts(
            contents["received"]
        )
        assert [message["body"] for message in received if message["message_id"] not in recorded] == ["in an hour"]
        bounds = contents["queue_offsets"]
        for queue, offsets in bounds.items():
            for which in ("min", "earliest_ms"):
                assert session.query("offset", TOPIC, queue_id=int(queue), which=which) == offsets[which], (
                    queue,
                    which,
                )
        ends = sum(session.query("offset", TOPIC, queue_id=int(queue), which="max") for queue in bounds)
        assert ends == sum(offsets["max"] for offsets in bounds.values()) + 1
        for key, count in contents["found_by_key"].items():
            assert len(session.query("key", TOPIC, key=key)) == count, key
        # The group goes on from the offsets that had reached the disk, which a kill may have kept from some.
        rest = len(contents["received"]) + 1 - committed_before
        old = session.consume(TOPIC, GROUP)
        session.send(TOPIC, [{"body": "new"}])
        assert len(java5.receive(old, rest + 1)) == rest + 1
        session.close()
