"""The client without async, from ordinary threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from rocketmq_client import ClientClosed, ConsumeFrom, NameServerUnavailable, TransactionState
from rocketmq_client.blocking import Admin, LitePullConsumer, Producer, PushConsumer, TransactionProducer
from rocketmq_testkit.cluster_thread import ClusterThread

WAIT_MS = 20_000


@pytest.fixture
def running() -> Iterator[ClusterThread]:
    """A cluster on a loop of its own."""
    with ClusterThread() as cluster:
        yield cluster


def test_messages_go_and_come_without_async(running):
    with Producer(running.name_server) as producer:
        receipts = [producer.send("orders", b"%d" % n, tag="t") for n in range(5)]
        assert len({r.message_id for r in receipts}) == 5
        assert len(producer.queues("orders")) == 4
    with PushConsumer(running.name_server, group="g", topics="orders", consume_from=ConsumeFrom.FIRST) as consumer:
        got = []
        for message in consumer.receive(timeout_ms=WAIT_MS, count_max=5):
            got.append((message.body, message.tag))
            message.ack()
        assert sorted(got) == [(b"%d" % n, "t") for n in range(5)]
        assert list(consumer.receive(timeout_ms=1)) == []  # nothing is there
        with Producer(running.name_server) as producer:
            producer.send("orders", b"late")
        (late,) = consumer.receive(timeout_ms=WAIT_MS, count_max=1)
        assert late.body == b"late"
        late.ack()
    assert running.call(lambda cluster: cluster.committed("g", "orders")) == 6


def test_one_producer_serves_many_threads(running):
    with Producer(running.name_server) as producer, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: producer.send("orders", b"%d" % n), range(80)))
    assert sorted(running.call(lambda c: c.messages("orders"))) == sorted(b"%d" % n for n in range(80))


def test_a_listener_runs_in_a_thread_and_may_send(running):
    done = threading.Event()
    with Producer(running.name_server) as producer:

        def listener(message):
            producer.send("copies", message.body)
            done.set()

        producer.send("orders", b"x")
        with PushConsumer(
            running.name_server, group="g", topics="orders", listener=listener, consume_from=ConsumeFrom.FIRST
        ):
            assert done.wait(WAIT_MS / 1000)
    assert running.call(lambda c: c.messages("copies")) == [b"x"]


def test_administration_polling_and_transactions_have_blocking_forms(running):
    with Admin(running.name_server) as admin:
        admin.topics.create("orders", queues=1)
        assert admin.topics.names() == ["orders"]
        assert admin.dead_letters.groups() == []
        admin.groups.create("g")
        assert [f.check for f in admin.diagnose("g").findings] == ["nobody"]
    with TransactionProducer(
        running.name_server, group="pg", check=lambda message: TransactionState.UNKNOWN
    ) as producer:
        ended = producer.send_in_transaction("orders", b"x", execute=lambda message: TransactionState.COMMIT)
        assert ended.state is TransactionState.COMMIT
    with LitePullConsumer(running.name_server) as reader:
        reader.assign(dict.fromkeys(reader.queues("orders"), 0))
        assert [m.body for m in reader.poll(timeout_ms=WAIT_MS)] == [b"x"]


def test_failures_come_as_the_same_errors_and_leave_no_thread():
    before = threading.active_count()
    consumer = PushConsumer("127.0.0.1:1", group="g", topics="orders")
    with pytest.raises(NameServerUnavailable):
        consumer.start()
    with pytest.raises(ClientClosed):
        Producer("127.0.0.1:1").send("orders", b"x")
    assert threading.active_count() == before
