"""Offsets moved by an operator under live consumers of each generation, and other requests that reach through into a client."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
COUNT = 8
WAIT_SECONDS = 90.0


class Group:
    """A live consumer of ``java`` that has consumed a topic of eight messages, and mqadmin 5.5 beside it."""

    def __init__(self, java: Driver, java5: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> None:
        self.java, self.java5, self.cluster, self.unique = java, java5, cluster, unique
        self.topic, self.group = unique("Topic"), unique("group")
        self.producer, self.consumer = unique("producer"), unique("consumer")
        clients(java, "producer", self.producer)
        clients(java, "consumer", self.consumer)
        java.call("producer.start", name=self.producer, namesrv=cluster.namesrv_address)
        self.sent = self.send(*(f"old {n}" for n in range(COUNT)))
        subscriptions = [{"topic": self.topic}]
        java.call(
            "consumer.start", name=self.consumer, group=self.group, namesrv=cluster.namesrv_address,
            subscriptions=subscriptions,
        )  # fmt: skip
        java.receive(self.consumer, COUNT)

    def send(self, *bodies: str) -> list[dict[str, str]]:
        messages = [{"body": body} for body in bodies]
        sent: list[dict[str, str]] = self.java.call(
            "producer.send", name=self.producer, topic=self.topic, messages=messages
        )
        return sent

    def admin(self, command: str, *arguments: str) -> str:
        out = self.java5.mqadmin(command, "-n", self.cluster.namesrv_address, *arguments)
        assert not out.failed, out.output + out.errors
        return out.output

    def bodies(self) -> list[str]:
        return [message["body"] for message in self.java.call("consumer.received", name=self.consumer)]

    @property
    def client_id(self) -> str:
        connected = self.admin("consumerConnection", "-g", self.group)
        return next(word for word in connected.split() if self.consumer in word)


@pytest.fixture
def live(java: Driver, java5: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> Group:
    return Group(java, java5, cluster, unique, clients)


def test_a_reset_by_time_gives_a_live_consumer_what_is_younger_again(live: Group) -> None:
    between_ms = time.time_ns() // 1_000_000 + 1
    wait_until(lambda: time.time_ns() // 1_000_000 > between_ms + 5, "another millisecond")
    young = {f"young {n}" for n in range(COUNT)}
    live.send(*sorted(young))
    live.java.receive(live.consumer, 2 * COUNT)

    shown = live.admin("resetOffsetByTime", "-g", live.group, "-t", live.topic, "-s", str(between_ms))

    assert len([line for line in shown.splitlines() if line.startswith("broker-a")]) == 4, shown
    wait_until(lambda: all(live.bodies().count(body) >= 2 for body in young), "the young come again", WAIT_SECONDS)
    assert all(live.bodies().count(f"old {n}") == 1 for n in range(COUNT))


def test_a_reset_to_the_beginning_gives_a_live_consumer_everything_again(live: Group) -> None:
    live.admin("resetOffsetByTime", "-g", live.group, "-t", live.topic, "-s", "0")
    old = {f"old {n}" for n in range(COUNT)}
    wait_until(lambda: all(live.bodies().count(body) >= 2 for body in old), "all come again", WAIT_SECONDS)


def test_a_clone_of_offsets_lets_another_group_go_on_there(live: Group, clients: Clients) -> None:
    copy = live.unique("copy")
    live.admin("updateSubGroup", "-b", live.cluster.broker.address, "-g", copy)

    def no_lag() -> bool:
        return "Diff Total: 0" in re.sub(r" +", " ", live.admin("consumerProgress", "-g", live.group))

    wait_until(no_lag, "the offsets are committed", WAIT_SECONDS, poll_seconds=0.5)
    assert "success" in live.admin("cloneGroupOffset", "-s", live.group, "-d", copy, "-t", live.topic)
    other = live.unique("consumer")
    clients(live.java, "consumer", other)
    live.java.call(
        "consumer.start", name=other, group=copy, namesrv=live.cluster.namesrv_address,
        subscriptions=[{"topic": live.topic}],
    )  # fmt: skip
    live.send("new")
    assert [message["body"] for message in live.java.receive(other, 1)] == ["new"]


def test_running_info_status_and_a_message_on_demand_reach_the_client(live: Group) -> None:
    version = {"java-5.5.0": "V5_5_0", "java-4.9.8": "V4_9_8"}[live.java.name]
    assert version in live.admin("consumerConnection", "-g", live.group)
    shown = live.admin("consumerStatus", "-g", live.group, "-i", live.client_id, "-s", "true")
    assert "#Consumer Subscription#" in shown
    assert live.topic in shown
    assert "PullMessageService" in shown, "no stack traces"
    delivered = live.admin(
        "queryMsgById", "-t", live.topic, "-i", live.sent[3]["offset_message_id"], "-g", live.group,
        "-d", live.client_id,
    )  # fmt: skip
    assert "CR_SUCCESS" in delivered, delivered
    assert live.bodies().count("old 3") == 2
