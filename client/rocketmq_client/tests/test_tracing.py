"""The message trace, against a broker with behaviour."""

from __future__ import annotations

import pytest

from rocketmq_client import (
    Admin,
    ConsumeFrom,
    MessageView,
    Producer,
    PushConsumer,
    RequestRefused,
    Tracer,
    TransactionProducer,
    TransactionState,
    tracing,
)
from rocketmq_client.tests.conftest import until
from rocketmq_client.trace_records import ContextCode, MessageKind, Traced, consumed, published
from rocketmq_common.properties import parse_properties
from rocketmq_remoting.codes import RequestCode
from rocketmq_testkit.fake_cluster import FakeCluster

TRACE_TOPIC = "RMQ_SYS_TRACE_TOPIC"


def traces(cluster: FakeCluster) -> list[list[str]]:
    """The fields of every record that the trace topic holds."""
    text = b"".join(cluster.messages(TRACE_TOPIC)).decode()
    return [record.split("\x01") for record in text.split("\x02") if record]


def test_a_send_record_is_byte_for_byte_what_java_writes():
    record = published(
        Traced("T", "ID", "tag", ("k1", "k2"), "1.2.3.4:10911", MessageKind.DELAY),
        time_ms=17, region="r", group="g", body_size=5, cost_ms=3, offset_message_id="OFF", is_success=True,
    )  # fmt: skip
    fields = ["Pub", "17", "r", "g", "T", "ID", "tag", "k1|k2", "1.2.3.4:10911", "5", "3", "3", "OFF", "true"]
    assert record.text == "\x01".join(fields).replace("|", " ") + "\x02"
    assert record.keys == ("ID", "k1", "k2")


def test_separators_inside_values_cannot_shift_the_fields_behind_them():
    record = consumed(
        Traced("T", "ID", "", ("a\x01b\x02",), "h"), time_ms=1, group="g", request_id="R", cost_ms=2,
        code=ContextCode.FAILED,
    )  # fmt: skip
    assert record.text.count("\x02") == 1
    assert record.text[:-1].split("\x01") == ["SubAfter", "R", "ID", "2", "false", "a b ", "4", "1", "g"]


async def test_sends_and_their_consumption_are_found_in_the_trace_topic_by_message_id_and_key(cluster):
    taken: list[bytes] = []

    async def listen(message: MessageView) -> bool:
        taken.append(message.body)
        return message.reconsume_times > 0 or message.body != b"again"

    cluster.create_topic("orders", 1)
    async with Tracer(cluster.name_server) as tracer:
        async with Producer(cluster.name_server, group="pg", tracer=tracer) as producer:
            sent = await producer.send("orders", b"hi", tag="t", keys=["k1", "k2"])
            await producer.send("orders", b"again", sharding_key="s")
        async with PushConsumer(
            cluster.name_server, group="cg", topics="orders", listener=listen, consume_from=ConsumeFrom.FIRST,
            tracer=tracer,
        ):  # fmt: skip
            await until(lambda: len(taken) == 3, "deliveries")
    found = traces(cluster)
    (publication, ordered) = [record for record in found if record[0] == "Pub"]
    assert publication[3:9] == ["pg", "orders", sent.message_id, "t", "k1 k2", cluster.broker.address]
    assert (publication[9], publication[11:]) == ("2", ["0", sent.offset_message_id, "true"])
    assert ordered[11] == "4"
    before = [record for record in found if record[0] == "SubBefore"]
    after = {record[1]: record for record in found if record[0] == "SubAfter"}
    assert {record[4] for record in before} == after.keys()
    assert sorted(record[4] for record in after.values()) == ["false", "true", "true"]
    assert {record[6] for record in before} == {"0", "1"}
    keys = " ".join(parse_properties(m.properties)["KEYS"] for m in cluster.broker.messages(TRACE_TOPIC)).split()
    assert {sent.message_id, "k1", "k2"} <= set(keys)


async def test_administration_reads_the_way_of_a_message_back(cluster):
    async def listener(message: MessageView) -> None:
        del message

    async with Tracer(cluster.name_server) as tracer:
        async with Producer(cluster.name_server, group="pg", tracer=tracer) as producer:
            receipt = await producer.send("orders", b"x", tag="t", keys="k")
        async with PushConsumer(
            cluster.name_server, group="g", topics="orders", listener=listener, consume_from=ConsumeFrom.FIRST,
            tracer=tracer,
        ) as consumer:  # fmt: skip
            await until(lambda: consumer.is_idle)
    async with Admin(cluster.name_server) as admin:
        events = await admin.messages.trace(receipt.message_id)
        assert await admin.messages.trace("0" * 32) == []
    assert sorted((e.kind, e.group, e.is_success) for e in events) == [
        ("Pub", "pg", True), ("SubAfter", "g", True), ("SubBefore", "g", True),
    ]  # fmt: skip
    sent = next(e for e in events if e.kind == "Pub")
    assert (sent.topic, sent.tag, sent.keys, sent.host) == ("orders", "t", "k", cluster.broker.address)
    assert next(e for e in events if e.kind == "SubAfter").detail == "SUCCESS"


async def test_a_failed_send_is_traced_as_failed(cluster):
    cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, 13)
    async with Tracer(cluster.name_server) as tracer, Producer(cluster.name_server, tracer=tracer) as producer:
        with pytest.raises(RequestRefused):
            await producer.send("orders", b"hi")
    assert [(record[0], record[-1]) for record in traces(cluster)] == [("Pub", "false")]


async def test_the_end_of_a_transaction_is_traced(cluster):
    async with (
        Tracer(cluster.name_server) as tracer,
        TransactionProducer(
            cluster.name_server, group="tx", check=lambda message: TransactionState.COMMIT, tracer=tracer
        ) as producer,
    ):
        sent = await producer.send_in_transaction("orders", b"hi", execute=lambda message: TransactionState.UNKNOWN)
        await until(lambda: cluster.broker.producers["tx"], "heartbeat")
        cluster.broker.transactions.ask(next(iter(cluster.broker.transactions.halves)))
        await until(lambda: cluster.messages("orders"), "commit")
    found = traces(cluster)
    assert [record[11] for record in found if record[0] == "Pub"] == ["1"]
    ends = [record for record in found if record[0] == "EndTransaction"]
    assert [record[-2:] for record in ends] == [["UNKNOW", "false"], ["COMMIT_MESSAGE", "true"]]
    assert {record[5] for record in ends} == {record[-3] for record in ends} == {sent.message_id}


async def test_records_beyond_the_bound_and_of_an_unwritable_topic_are_dropped_and_counted(cluster, monkeypatch):
    monkeypatch.setattr(tracing, "RECORDS_MAX", 1)
    tracer = Tracer(cluster.name_server)
    async with tracer, Producer(cluster.name_server, tracer=tracer) as producer:
        await producer.send("orders", b"1")
        await producer.send("orders", b"2")
        cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, 13)
        await tracer.flush()
    assert tracer.dropped_count == 2
    assert traces(cluster) == []
