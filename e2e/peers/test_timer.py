"""Timer messages and recall with Apache's 5.5 client; and one store whose waiting messages change brokers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import pytest

from e2e.clusters import Cluster, Kind
from e2e.conftest import SHARED_SETTINGS, tools
from e2e.drivers import Driver, PeerError
from e2e.golden.stores import STORE_SETTINGS
from e2e.peers.test_store_interchange import Session, reopen
from e2e.toolchain import apache
from rocketmq_client import Producer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
# Apache's broker delivers at the end of a slot of a second, and a loaded machine later.
LATE_MS_MAX = 20_000


@pytest.fixture
def session(java5: Driver, cluster: Cluster, clients: Clients, unique: Unique) -> Session:
    """A producer, and consumers by its method."""
    return Session(java5, cluster, clients, unique)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def check_punctual(message: dict[str, Any], earliest_ms: int) -> None:
    assert 0 <= message["store_timestamp"] - earliest_ms <= LATE_MS_MAX


@pytest.mark.parametrize(
    ("setter", "value"), [("setDelayTimeMs", 1500), ("setDelayTimeSec", 2), ("setDeliverTimeMs", 0)]
)
def test_a_timer_message_comes_when_it_is_due(session: Session, unique: Unique, setter: str, value: int) -> None:
    topic = unique("Timer")
    session.send(topic, [{"body": "first"}])
    consumer = session.consume(topic, unique("group"))
    session.java.receive(consumer, 1)
    before_ms = now_ms()
    wanted = before_ms + 1700 if setter == "setDeliverTimeMs" else value
    (sent,) = session.send(topic, [{"body": "later", setter: wanted, "tag": "TagA", "keys": "k"}])
    assert sent["recall_handle"]
    message = session.java.receive(consumer, 2)[1]
    earliest = {"setDelayTimeMs": before_ms + value, "setDelayTimeSec": before_ms + 1000 * value}
    check_punctual(message, earliest.get(setter, wanted))
    assert (message["body"], message["tags"], message["keys"]) == ("later", "TagA", "k")
    assert message["message_id"] == sent["message_id"]


def test_a_client_that_knows_no_timer_messages_may_set_the_property(
    java4: Driver, cluster: Cluster, clients: Clients, unique: Unique
) -> None:
    session, topic = Session(java4, cluster, clients, unique), unique("Timer")
    session.send(topic, [{"body": "first"}])
    consumer = session.consume(topic, unique("group"))
    java4.receive(consumer, 1)
    before_ms = now_ms()
    session.send(topic, [{"body": "later", "properties": {"TIMER_DELAY_SEC": "2"}}])
    message = java4.receive(consumer, 2, timeout_seconds=60)[1]
    assert message["body"] == "later"
    check_punctual(message, before_ms + 2000)


def test_messages_with_different_times_come_in_their_order(session: Session, unique: Unique) -> None:
    topic = unique("Timer")
    session.send(topic, [{"body": "first"}])
    consumer = session.consume(topic, unique("group"))
    start_ms = now_ms() + 2000
    # Seconds apart: within one, Apache's broker keeps no order.
    session.send(topic, [{"body": str(n), "setDeliverTimeMs": start_ms + n * 2000} for n in (2, 0, 1)])
    messages = session.java.receive(consumer, 4, timeout_seconds=60)[1:]
    assert [message["body"] for message in sorted(messages, key=lambda m: m["store_timestamp"])] == ["0", "1", "2"]


def test_a_recalled_message_does_not_come(session: Session, unique: Unique) -> None:
    topic = unique("Timer")
    session.send(topic, [{"body": "first"}])
    consumer = session.consume(topic, unique("group"))
    gone, kept = session.send(
        topic, [{"body": "gone", "setDelayTimeMs": 6000}, {"body": "kept", "setDelayTimeMs": 6000}]
    )
    handle = gone["recall_handle"]
    assert session.java.call("producer.recall", name=session.producer, topic=topic, handle=handle) == gone["message_id"]
    session.send(topic, [{"body": "last", "setDelayTimeMs": 8000}])
    bodies = sorted(message["body"] for message in session.java.receive(consumer, 3, timeout_seconds=60))
    assert bodies == ["first", "kept", "last"]
    assert kept["recall_handle"] != handle


def test_a_message_that_was_delivered_cannot_be_recalled(session: Session, unique: Unique) -> None:
    topic = unique("Timer")
    session.send(topic, [{"body": "first"}])
    consumer = session.consume(topic, unique("group"))
    (sent,) = session.send(topic, [{"body": "later", "setDelayTimeMs": 1000}])
    session.java.receive(consumer, 2)
    with pytest.raises(PeerError):
        session.java.call(
            "producer.recall", name=session.producer, topic=topic, handle=sent["recall_handle"]
        )  # fmt: skip


@pytest.mark.parametrize("delay", [{"setDelayTimeSec": 259_300}, {"setDeliverTimeMs": 1 << 42}])
def test_a_delay_beyond_the_limit_is_refused(session: Session, unique: Unique, delay: dict[str, int]) -> None:
    topic = unique("Timer")
    session.send(topic, [{"body": "first"}])
    with pytest.raises(PeerError) as refused:
        session.send(topic, [{"body": "never", **delay}])
    assert refused.value.code == 13


def test_our_client_delays_and_recalls(cluster: Cluster, session: Session, unique: Unique) -> None:
    topic = unique("Timer")
    session.send(topic, [{"body": "first"}])
    consumer = session.consume(topic, unique("group"))

    async def go() -> tuple[str, str]:
        async with Producer(cluster.namesrv_address) as producer:
            gone = await producer.send(topic, "gone", delay=timedelta(seconds=5))
            await producer.send(topic, "kept", delay=timedelta(seconds=5))
            assert gone.recall_handle is not None
            return gone.message_id, await producer.recall(gone.recall_handle)

    assert len(set(asyncio.run(go()))) == 1
    assert sorted(m["body"] for m in session.java.receive(consumer, 2, timeout_seconds=60)) == ["first", "kept"]


@pytest.mark.parametrize("ending", ["SIGTERM", "SIGKILL"])
def test_a_restart_keeps_what_waits(
    java5: Driver, peer_kind: Kind, tmp_path: Any, clients: Clients, unique: Unique, ending: str
) -> None:
    if peer_kind is Kind.APACHE and ending == "SIGKILL":
        pytest.skip("Apache's broker repeats or loses timer messages after a kill")
    topic = unique("Timer")
    with Cluster(peer_kind, tmp_path / "first", settings=SHARED_SETTINGS) as first:
        session = Session(java5, first, clients, unique)
        session.send(topic, [{"body": "first"}])
        session.send(topic, [{"body": str(n), "setDelayTimeMs": 6000 + 500 * n} for n in range(10)])
        session.close()
        if ending == "SIGKILL":
            first.broker.process.kill()
        else:
            first.broker.process.stop()
    with ExitStack() as stack:
        second = reopen(peer_kind, tmp_path / "second", first.broker, SHARED_SETTINGS)
        stack.callback(second.stop)
        session = Session(java5, second, clients, unique)
        consumer = session.consume(topic, unique("group"))
        messages = java5.receive(consumer, 11, timeout_seconds=90)
        assert sorted(message["body"] for message in messages) == sorted(["first", *map(str, range(10))])


@pytest.mark.parametrize(("writer", "reader"), [(Kind.APACHE, Kind.OURS), (Kind.OURS, Kind.APACHE)])
def test_the_other_broker_delivers_and_recalls_what_waits_in_a_store(
    java5: Driver, tmp_path: Any, clients: Clients, unique: Unique, writer: Kind, reader: Kind
) -> None:
    with tools():
        apache()
    topic = unique("Timer")
    settings = {**STORE_SETTINGS, "timerWheelEnable": "true", "recallMessageEnable": "true"}
    with Cluster(writer, tmp_path / "first", settings=settings) as first:
        session = Session(java5, first, clients, unique)
        session.send(topic, [{"body": "first"}])
        due_ms = now_ms() + 50_000
        sent = session.send(topic, [{"body": str(n), "setDeliverTimeMs": due_ms + 700 * n} for n in range(10)])
        session.send(topic, [{"body": "soon", "setDelayTimeMs": 1000}])
        consumer = session.consume(topic, unique("group"))
        assert {m["body"] for m in java5.receive(consumer, 2, timeout_seconds=60)} == {"first", "soon"}
        java5.call("consumer.stop", name=consumer)
        session.close()
        first.broker.process.stop()
    with ExitStack() as stack:
        second = reopen(reader, tmp_path / "second", first.broker, settings)
        stack.callback(second.stop)
        session = Session(java5, second, clients, unique)
        handle = sent[8]["recall_handle"]
        java5.call("producer.recall", name=session.producer, topic=topic, handle=handle)
        consumer = session.consume(topic, unique("other"))
        messages = java5.receive(consumer, 11, timeout_seconds=120)
        assert sorted(m["body"] for m in messages) == sorted(["first", "soon", *(str(n) for n in range(10) if n != 8)])
        for message in messages:
            if message["body"].isdigit():
                check_punctual(message, due_ms + 700 * int(message["body"]))
