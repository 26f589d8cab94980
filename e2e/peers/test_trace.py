"""The trace that Apache's Java clients write of sends and consumption, read again by mqadmin."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC"


def test_sends_and_consumption_leave_a_trace_that_mqadmin_shows(
    java: Driver, java5: Driver, cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, producer, consumer = unique("Topic"), unique("producer"), unique("consumer")
    group, producers, namesrv = unique("group"), unique("pg"), cluster.namesrv_address
    # Traces go into a topic that exists: clients of 4.9 do not make it.
    java5.mqadmin("updateTopic", "-n", namesrv, "-b", cluster.broker.address, "-t", TRACE_TOPIC, "-r", "1", "-w", "1")
    clients(java, "producer", producer)
    clients(java, "consumer", consumer)
    java.call("producer.start", name=producer, group=producers, namesrv=namesrv, trace=True)
    (sent,) = java.call("producer.send", name=producer, topic=topic, messages=[{"body": "x", "keys": "k", "tag": "T"}])
    java.call(
        "consumer.start", name=consumer, group=group, namesrv=namesrv, subscriptions=[{"topic": topic}], trace=True
    )
    java.receive(consumer, 1)

    def shown() -> str | None:
        out = java5.mqadmin("queryMsgTraceById", "-n", namesrv, "-i", sent["message_id"])
        return out.output if {"Pub", "Sub"} <= set(out.output.split()) and group in out.output else None

    text = wait_until(shown, "both traces are found", 90, poll_seconds=0.5)
    (published,) = [line.split() for line in text.splitlines() if line.startswith("Pub")]
    assert published[1] == producers
    assert "success" in published


def test_without_trace_a_client_writes_none(
    java: Driver, java5: Driver, cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, silent, traced = unique("Topic"), unique("producer"), unique("producer")
    namesrv = cluster.namesrv_address
    java5.mqadmin("updateTopic", "-n", namesrv, "-b", cluster.broker.address, "-t", TRACE_TOPIC, "-r", "1", "-w", "1")
    sent = []
    for name in (silent, traced):
        clients(java, "producer", name)
        java.call("producer.start", name=name, group=unique("pg"), namesrv=namesrv, trace=name == traced)
        sent += java.call("producer.send", name=name, topic=topic, messages=[{"body": "x"}])

    def trace(number: int) -> str | None:
        out = java5.mqadmin("queryMsgTraceById", "-n", namesrv, "-i", sent[number]["message_id"]).output
        return out if "Pub" in out else None

    # The later trace is there: the earlier one would be, too.
    wait_until(lambda: trace(1), "the trace of the later send", 90, poll_seconds=0.5)
    assert trace(0) is None
