"""Request-reply between Apache's Java clients, 4.9 and 5.5."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver, PeerError

pytestmark = [pytest.mark.peers, pytest.mark.timeout(120)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]


@pytest.fixture
def requester(java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> str:
    """Name of a started producer that asks."""
    name = unique("requester")
    clients(java, "transaction", name)
    java.call("transaction.start", name=name, group=unique("pg"), namesrv=cluster.namesrv_address)
    return name


@pytest.mark.parametrize("size", [10, 20_000])
def test_a_request_gets_its_reply_whole(
    java: Driver, cluster: Cluster, requester: str, unique: Unique, clients: Clients, size: int
) -> None:
    topic, replier = unique("Topic"), unique("replier")
    clients(java, "replier", replier)
    starter = unique("producer")
    clients(java, "producer", starter)
    java.call("producer.start", name=starter, group=unique("pg"), namesrv=cluster.namesrv_address)
    # The topic is there before the replier looks for it.
    java.call("query.create_topic", name=starter, topic=topic, queues=2)
    java.call("replier.start", name=replier, group=unique("group"), topic=topic, namesrv=cluster.namesrv_address)

    for text in ("one", "two"):
        body = text * size
        reply = java.call("transaction.request", name=requester, topic=topic, body=body, timeout_ms=30_000)
        assert reply["body"] == body.upper()
        assert reply["topic"] == f"{cluster.cluster_name}_REPLY_TOPIC"
        assert reply["properties"]["MSG_TYPE"] == "reply"
        assert int(reply["properties"]["PUSH_REPLY_TIME"]) > 0


def test_a_request_that_nobody_answers_times_out(java: Driver, requester: str, unique: Unique) -> None:
    with pytest.raises(PeerError, match="RequestTimeoutException"):
        java.call("transaction.request", name=requester, topic=unique("Topic"), body="x", timeout_ms=1500)
