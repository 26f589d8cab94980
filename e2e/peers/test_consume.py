"""Apache's Java push consumers: sharing, taking over, filters, order, broadcast, retries, dead letters."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e import toolchain
from e2e.clusters import Cluster
from e2e.conftest import tools
from e2e.drivers import Driver, PeerError, java_driver
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
TAKE_OVER_SECONDS_MAX = 10.0
CLIENT_REBALANCE_INTERVAL_MS = 20_000


class Bench:
    """A topic with messages, and consumers of it."""

    def __init__(self, java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> None:
        self.java, self.cluster, self.unique, self.clients = java, cluster, unique, clients
        self.topic, self.group = unique("Topic"), unique("group")
        self.producer = unique("producer")
        clients(java, "producer", self.producer)
        java.call("producer.start", name=self.producer, namesrv=cluster.namesrv_address)

    def send(self, *bodies: str, topic: str | None = None, **options: Any) -> list[dict[str, Any]]:
        messages = [{"body": body, **options} for body in bodies]
        sent: list[dict[str, Any]] = self.java.call(
            "producer.send", name=self.producer, topic=topic or self.topic, messages=messages
        )
        return sent

    def consume(self, java: Driver | None = None, **options: Any) -> str:
        java = java or self.java
        name = self.unique("consumer")
        self.clients(java, "consumer", name)
        options = {"subscriptions": [{"topic": self.topic}], "group": self.group} | options
        java.call("consumer.start", name=name, namesrv=self.cluster.namesrv_address, **options)
        return name

    def received(self, name: str) -> list[dict[str, Any]]:
        got: list[dict[str, Any]] = self.java.call("consumer.received", name=name)
        return got


@pytest.fixture
def bench(java: Driver, cluster: Cluster, unique: Unique, clients: Clients) -> Bench:
    return Bench(java, cluster, unique, clients)


@pytest.fixture
def patient(cluster: Cluster, tmp_path: Path) -> Iterator[Driver]:
    """A 5.5 client which rebalances of itself only every 20 s, as users run it: anything faster is the broker's notice."""
    with tools():
        peer = toolchain.apache()
    with java_driver(peer, tmp_path, rebalance_interval_ms=CLIENT_REBALANCE_INTERVAL_MS) as driver:
        yield driver


def test_a_tag_expression_filters_on_the_broker(bench: Bench) -> None:
    for tag in ("TagA", "TagB", "TagC"):
        bench.send(f"of {tag}", tag=tag)
    bench.send("without tag")

    name = bench.consume(subscriptions=[{"topic": bench.topic, "expression": "TagA || TagC"}])

    bench.java.receive(name, 2)
    bench.send("end", tag="TagA")
    bench.java.receive(name, 3)
    assert {message["body"] for message in bench.received(name)} == {"of TagA", "of TagC", "end"}


@pytest.mark.parametrize("where", ["LAST_OFFSET", "TIMESTAMP"])
def test_a_new_group_starts_a_fresh_topic_at_its_first_message_wherever_it_asks_to_start(
    bench: Bench, where: str
) -> None:
    # The broker answers offset 0 for a queue that has lost nothing yet: a late group must not miss the first messages.
    bench.send("before")

    later = time.strftime("%Y%m%d%H%M%S", time.localtime(time.time() + 3600))
    options: dict[str, Any] = {"from": where, "timestamp": later}
    name = bench.consume(None, **options)

    bench.java.receive(name, 1)
    bench.send("after")
    assert {message["body"] for message in bench.java.receive(name, 2)} == {"before", "after"}


def test_two_consumers_share_the_queues_and_the_one_that_stays_takes_over_within_seconds(
    patient: Driver, cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    bench = Bench(patient, cluster, unique, clients)
    bench.send("first")
    one = bench.consume()
    patient.wait_assigned(one, bench.topic, lambda queues: len(queues) == 4)

    two = bench.consume()
    started = time.monotonic()
    patient.wait_assigned(two, bench.topic, lambda queues: len(queues) == 2, TAKE_OVER_SECONDS_MAX)
    patient.wait_assigned(one, bench.topic, lambda queues: len(queues) == 2, TAKE_OVER_SECONDS_MAX)
    shared_seconds = time.monotonic() - started
    bench.send(*(f"shared {n}" for n in range(16)))
    wait_until(
        lambda: sum(m["body"].startswith("shared") for n in (one, two) for m in bench.received(n)) >= 16, "both consume"
    )
    # The first message may come to both: its offset need not be committed when the second consumer takes its queue.
    counts = Counter(message["body"] for name in (one, two) for message in bench.received(name))
    taken_by_two = sum(message["body"].startswith("shared") for message in bench.received(two))

    patient.call("consumer.stop", name=two)
    patient.wait_assigned(one, bench.topic, lambda queues: len(queues) == 4, TAKE_OVER_SECONDS_MAX)
    bench.send(*(f"alone {n}" for n in range(8)))
    wait_until(
        lambda: {f"alone {n}" for n in range(8)} <= {message["body"] for message in bench.received(one)},
        "the other's queues",
        TAKE_OVER_SECONDS_MAX,
    )

    assert shared_seconds < TAKE_OVER_SECONDS_MAX
    assert taken_by_two == 8
    assert {body: count for body, count in counts.items() if count > 1 and body != "first"} == {}


def test_a_consumer_that_dies_is_replaced_within_seconds(
    patient: Driver, java5: Driver, cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    bench = Bench(java5, cluster, unique, clients)
    bench.send("first")
    stays = bench.consume()
    dies = unique("consumer")
    patient.call(
        "consumer.start",
        name=dies,
        group=bench.group,
        namesrv=cluster.namesrv_address,
        subscriptions=[{"topic": bench.topic}],
    )
    java5.wait_assigned(stays, bench.topic, lambda queues: len(queues) == 2)

    patient.close()  # ends the JVM without any farewell to the broker

    java5.wait_assigned(stays, bench.topic, lambda queues: len(queues) == 4, TAKE_OVER_SECONDS_MAX)


def test_broadcast_gives_everything_to_everybody(bench: Bench) -> None:
    bench.send(*(f"all {n}" for n in range(8)))

    names = [bench.consume(broadcast=True, group=bench.group) for _ in range(2)]

    for name in names:
        assert {message["body"] for message in bench.java.receive(name, 8)} == {f"all {n}" for n in range(8)}


def test_orderly_consumption_keeps_the_order_of_each_queue_even_with_failures(bench: Bench) -> None:
    messages = [{"body": f"{n}", "shard": f"order-{n % 4}"} for n in range(40)]
    sent = bench.java.call("producer.send", name=bench.producer, topic=bench.topic, mode="ordered", messages=messages)
    queue_of_body = {message["body"]: result["queue_id"] for message, result in zip(messages, sent, strict=True)}

    name = bench.consume(orderly=True, fail_times=1, suspend_ms=20)

    received = bench.java.receive(name, 80, 60)
    for queue in set(queue_of_body.values()):
        seen = [int(str(message["body"])) for message in received if message["queue_id"] == queue]
        assert seen == sorted(seen), f"queue {queue}"
        assert Counter(seen) == {int(body): 2 for body, of in queue_of_body.items() if of == queue}


def test_only_one_orderly_consumer_holds_a_queue(bench: Bench) -> None:
    bench.send(*(f"{n}" for n in range(8)))
    names = [bench.consume(orderly=True) for _ in range(2)]
    for name in names:
        bench.java.wait_assigned(name, bench.topic, lambda queues: len(queues) == 2)

    bench.send(*(f"{n}" for n in range(8, 40)))

    wait_until(lambda: sum(len(bench.received(name)) for name in names) >= 40, "40 messages", 60)
    assert Counter(int(str(m["body"])) for name in names for m in bench.received(name)) == dict.fromkeys(range(40), 1)


def test_a_failed_message_comes_back_under_its_own_topic(bench: Bench) -> None:
    (sent,) = bench.send("fails twice", keys="retry-key", tag="TagA")

    name = bench.consume(fail_times=2)

    received = bench.java.receive(name, 3, 60)
    assert [message["reconsume_times"] for message in received] == [0, 1, 2]
    assert {(message["topic"], message["body"], message["tags"], message["message_id"]) for message in received} == {
        (bench.topic, "fails twice", "TagA", sent["message_id"])
    }
    # The client does not restore the origin by itself: the broker keeps where the message came from.
    assert received[1]["properties"]["ORIGIN_MESSAGE_ID"] == sent["offset_message_id"]


def test_a_message_that_always_fails_ends_in_the_dead_letter_queue(bench: Bench) -> None:
    (sent,) = bench.send("poison", keys="poison-key")

    name = bench.consume(fail_times=99, reconsume_max=1)

    assert [message["reconsume_times"] for message in bench.java.receive(name, 2, 60)] == [0, 1]
    dead_letters = f"%DLQ%{bench.group}"

    def dead() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = bench.java.call(
            "query.key", name=bench.producer, topic=dead_letters, key="poison-key"
        )
        return found

    # The route of the topic must first reach the client that asks.
    (letter,) = wait_until(lambda: quiet(dead), "the dead letter", 60, poll_seconds=0.5)
    assert letter["body"] == "poison"
    assert letter["properties"]["RETRY_TOPIC"] == bench.topic
    assert letter["properties"]["ORIGIN_MESSAGE_ID"] == sent["offset_message_id"]
    assert len(bench.received(name)) == 2


def quiet(query: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]] | None:

    try:
        return query()
    except PeerError:
        return None


def test_a_group_goes_on_where_it_stopped(bench: Bench) -> None:
    bench.send(*(f"before {n}" for n in range(8)))
    name = bench.consume()
    bench.java.receive(name, 8)
    bench.java.call("consumer.stop", name=name)
    bench.send(*(f"after {n}" for n in range(4)))

    again = bench.consume()

    assert {message["body"] for message in bench.java.receive(again, 4)} == {f"after {n}" for n in range(4)}


def test_a_listener_is_given_several_messages_at_once(bench: Bench) -> None:
    messages = [{"body": f"{n}"} for n in range(32)]
    bench.send("makes the topic")
    bench.java.call(
        "producer.send", name=bench.producer, topic=bench.topic, mode="queue", queue_id=0, messages=messages
    )

    received = bench.java.receive(bench.consume(batch_size=16), 33)

    assert max(message["batch_size"] for message in received) > 1
    assert Counter(
        message["body"] for message in received if message["queue_id"] == 0 and message["body"].isdigit()
    ) == {f"{n}": 1 for n in range(32)}


def test_a_suspended_consumer_takes_nothing_until_it_resumes(bench: Bench) -> None:
    bench.send("before")
    name, other = bench.consume(), bench.consume(group=bench.unique("group"))
    bench.java.receive(name, 1)
    bench.java.call("consumer.suspend", name=name)
    # A pull that waits at the broker still brings what comes first; it ends with this.
    bench.send(*(f"first {n}" for n in range(8)))
    bench.java.receive(other, 9)
    bench.send(*(f"second {n}" for n in range(8)))
    bench.java.receive(other, 17)
    assert not any(message["body"].startswith("second") for message in bench.received(name))

    bench.java.call("consumer.resume", name=name)

    assert {message["body"] for message in bench.java.receive(name, 17, 60)} == {
        "before", *(f"{part} {n}" for part in ("first", "second") for n in range(8)),
    }  # fmt: skip


def test_the_listener_decides_that_a_failed_message_is_a_dead_letter_at_once(bench: Bench) -> None:
    bench.send("hopeless", keys="hopeless-key")
    name = bench.consume(fail_times=99, delay_level_when_next=-1)
    bench.java.receive(name, 1)

    def dead() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = bench.java.call(
            "query.key", name=bench.producer, topic=f"%DLQ%{bench.group}", key="hopeless-key"
        )
        return found

    (letter,) = wait_until(lambda: quiet(dead), "the dead letter", 60, poll_seconds=0.5)
    assert letter["body"] == "hopeless"
    assert len(bench.received(name)) == 1


def test_an_orderly_message_that_always_fails_is_set_aside_and_the_queue_goes_on(bench: Bench) -> None:
    messages = [{"body": body, "keys": body, "shard": "one"} for body in ("poison", "after")]
    bench.java.call("producer.send", name=bench.producer, topic=bench.topic, mode="ordered", messages=messages)

    name = bench.consume(orderly=True, fail_times=3, suspend_ms=20, reconsume_max=1)

    def dead() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = bench.java.call(
            "query.key", name=bench.producer, topic=f"%DLQ%{bench.group}", key="after"
        )
        return found

    wait_until(lambda: quiet(dead), "both are dead letters", 90, poll_seconds=0.5)
    bodies = [message["body"] for message in bench.received(name)]
    assert bodies == sorted(bodies, reverse=True)
    assert set(bodies) == {"poison", "after"}
