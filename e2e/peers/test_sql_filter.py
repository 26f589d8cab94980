"""SQL92 subscriptions of Apache's Java push consumers, 4.9 and 5.5."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.drivers import Driver, PeerError

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
END = "end"
SYSTEM_ERROR = 1
SUBSCRIPTION_PARSE_FAILED = 23

MESSAGES: tuple[tuple[str, dict[str, str]], ...] = (
    ("eu-50", {"region": "eu", "amount": "50"}),
    ("eu-150", {"region": "eu", "amount": "150"}),
    ("us-150", {"region": "us", "amount": "150"}),
    ("huge", {"region": "eu", "amount": "3000000000"}),
    ("text", {"region": "eu", "amount": "many"}),
    ("no-amount", {"region": "asia-1"}),
    ("none", {}),
)
EXPECTED: tuple[tuple[str, set[str]], ...] = (
    ("region = 'eu' AND amount > 100", {"eu-150"}),
    ("region = 'eu' AND amount > 100.0", {"eu-150", "huge"}),
    ("region IN ('us', 'asia-1') OR amount BETWEEN 40 AND 60", {"eu-50", "us-150", "no-amount"}),
    ("amount IS NULL", {"no-amount", "none"}),
    ("region NOT CONTAINS 'eu'", {"us-150", "no-amount"}),
    ("region <> 'eu'", {"us-150", "no-amount"}),
    ("NOT (amount = 150)", {"eu-50"}),
    ("TAGS = 'TagB' OR region STARTSWITH 'asia'", {"no-amount"}),
)


@pytest.fixture(scope="module")
def sql_cluster(peer_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Servers that filter by properties, which is off by default."""
    settings = TEST_BROKER_SETTINGS | {"enablePropertyFilter": "true"}
    with Cluster(peer_kind, tmp_path_factory.mktemp("cluster") / "sql", settings=settings) as running:
        yield running


def consume(java: Driver, cluster: Cluster, name: str, group: str, topic: str, sql: str) -> None:
    java.call(
        "consumer.start",
        name=name,
        group=group,
        namesrv=cluster.namesrv_address,
        subscriptions=[{"topic": topic, "sql": sql}],
    )


def test_each_expression_delivers_exactly_what_it_says(
    java: Driver, sql_cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, producer = unique("Topic"), unique("producer")
    clients(java, "producer", producer)
    java.call("producer.start", name=producer, namesrv=sql_cluster.namesrv_address)
    messages = [{"body": body, "tag": "TagA", "properties": properties} for body, properties in MESSAGES]
    java.call("producer.send", name=producer, topic=topic, messages=messages)
    consumers = []
    for sql, wanted in EXPECTED:
        name = unique("consumer")
        clients(java, "consumer", name)
        # The mark makes the end of each queue visible: whatever comes late would come before it.
        consume(java, sql_cluster, name, unique("group"), topic, f"({sql}) OR mark IS NOT NULL")
        consumers.append((name, wanted))
    java.call("producer.send", name=producer, topic=topic, messages=[{"body": END, "properties": {"mark": "1"}}] * 16)
    for name, wanted in consumers:
        java.receive(name, len(wanted) + 16)
        received = [str(message["body"]) for message in java.call("consumer.received", name=name)]
        assert sorted(body for body in received if body != END) == sorted(wanted), name


def test_a_consumer_with_an_expression_that_cannot_be_read_does_not_start(
    java: Driver, sql_cluster: Cluster, unique: Unique
) -> None:
    topic, producer = unique("Topic"), unique("producer")
    java.call("producer.start", name=producer, namesrv=sql_cluster.namesrv_address)
    java.call("producer.send", name=producer, topic=topic, messages=[{"body": "x"}])
    java.call("producer.stop", name=producer)
    with pytest.raises(PeerError) as caught:
        consume(java, sql_cluster, unique("consumer"), unique("group"), topic, "region > 'eu'")
    assert caught.value.code == SUBSCRIPTION_PARSE_FAILED
    if sql_cluster.kind is Kind.OURS:
        # Apache's broker says "Invalid MessageSelector." and no more.
        assert "position 10: > compares properties and numbers" in str(caught.value)


def test_a_broker_without_property_filters_lets_no_sql_consumer_start(
    java: Driver, cluster: Cluster, unique: Unique
) -> None:
    topic, producer = unique("Topic"), unique("producer")
    java.call("producer.start", name=producer, namesrv=cluster.namesrv_address)
    java.call("producer.send", name=producer, topic=topic, messages=[{"body": "x"}])
    java.call("producer.stop", name=producer)
    with pytest.raises(PeerError, match="filter message by SQL92") as caught:
        consume(java, cluster, unique("consumer"), unique("group"), topic, "region = 'eu'")
    assert caught.value.code == SYSTEM_ERROR
