"""mqadmin 5.5 against a cluster, with something in it to look at."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from e2e.clusters import Cluster
from e2e.drivers import AdminOutput, Driver

MESSAGE_COUNT = 8


class Admin:
    """mqadmin against the cluster, with a topic of eight messages and an online group that has consumed them."""

    def __init__(self, java: Driver, cluster: Cluster, topic: str, group: str) -> None:
        self.java, self.cluster, self.topic, self.group = java, cluster, topic, group
        self.sent: list[dict[str, Any]] = []
        self.producer = f"producer-of-{topic}"

    def __call__(self, *arguments: str) -> AdminOutput:
        """Run one command, which must not print an exception."""
        out = self.tries(*arguments)
        assert not out.failed, f"{arguments}\n{out.output}\n{out.errors}"
        return out

    def tries(self, command: str, *arguments: str) -> AdminOutput:
        """Run one command that may fail."""
        return self.java.mqadmin(command, "-n", self.cluster.namesrv_address, *arguments)

    @property
    def broker(self) -> str:
        return self.cluster.broker.address

    def route_row(self, read: int, write: int, permission: int) -> list[str]:
        """The line of ``topicRoute -l`` for the one broker."""
        return ["PeerCluster", "broker-a", f"{{0={self.broker}}}", str(read), str(write), str(permission)]


@contextmanager
def prepared(java5: Driver, cluster: Cluster) -> Iterator[Admin]:
    """An `Admin` with its producer and consumer running."""
    stamp = time.time_ns()
    admin = Admin(java5, cluster, f"Admin-{stamp}", f"admin-group-{stamp}")
    java5.call("producer.start", name=admin.producer, group=f"pg-{stamp}", namesrv=cluster.namesrv_address)
    messages = [{"body": f"body {n}", "keys": f"key-{n}", "tag": f"Tag{n % 2}"} for n in range(MESSAGE_COUNT)]
    admin.sent = java5.call("producer.send", name=admin.producer, topic=admin.topic, messages=messages)
    java5.call(
        "consumer.start",
        name=admin.group,
        group=admin.group,
        namesrv=cluster.namesrv_address,
        subscriptions=[{"topic": admin.topic}],
    )
    java5.receive(admin.group, MESSAGE_COUNT)
    yield admin
    java5.call("consumer.stop", name=admin.group)
    java5.call("producer.stop", name=admin.producer)
