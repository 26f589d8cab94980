"""Optional companions: OpenTelemetry and CloudEvents, and what is said where they are not installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from rocketmq_client import (
    ConsumeFrom,
    InvalidArgument,
    LitePullConsumer,
    Message,
    MessageView,
    Producer,
    PushConsumer,
    RequestRefused,
    SendReceipt,
    TransactionProducer,
    TransactionState,
)
from rocketmq_client.tests.conftest import until
from rocketmq_remoting.codes import RequestCode, ResponseCode


@pytest.mark.parametrize(
    ("module", "package", "extra"),
    [("otel", "opentelemetry", "opentelemetry"), ("cloud_events", "cloudevents.core.base", "cloudevents")],
)
def test_a_missing_package_is_named_with_the_extra_that_brings_it(monkeypatch, module, package, extra):
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"rocketmq_client.{module}", raising=False)
    with pytest.raises(ImportError, match=rf"rocketmq-kube\[{extra}\]"):
        importlib.import_module(f"rocketmq_client.{module}")


async def test_spans_and_metrics_of_sends_and_listeners_are_linked(cluster):
    sdk = "opentelemetry.sdk"
    metrics = pytest.importorskip(f"{sdk}.metrics", reason="the OpenTelemetry SDK is not installed")
    metrics_export = pytest.importorskip(f"{sdk}.metrics.export")
    trace = pytest.importorskip(f"{sdk}.trace")
    trace_export = pytest.importorskip(f"{sdk}.trace.export")
    in_memory = pytest.importorskip(f"{sdk}.trace.export.in_memory_span_exporter")
    from rocketmq_client.otel import OpenTelemetry

    spans, reader = in_memory.InMemorySpanExporter(), metrics_export.InMemoryMetricReader()
    tracers = trace.TracerProvider()
    tracers.add_span_processor(trace_export.SimpleSpanProcessor(spans))
    telemetry = OpenTelemetry(tracer_provider=tracers, meter_provider=metrics.MeterProvider([reader]))
    seen: list[str] = []

    async def listener(message):
        seen.append(message.properties["traceparent"])
        if len(seen) == 1:
            raise RuntimeError("boom")

    async with Producer(cluster.name_server, telemetry=telemetry) as producer:
        receipt = await producer.send("orders", b"x", tag="t", keys="k")
        await producer.send_batch([Message(topic="orders", body=b"1"), Message(topic="orders", body=b"2")])
        cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, ResponseCode.MESSAGE_ILLEGAL)
        with pytest.raises(RequestRefused):
            await producer.send("orders", b"refused")
        async with PushConsumer(
            cluster.name_server, group="g", topics="orders", listener=listener, consume_from=ConsumeFrom.FIRST,
            telemetry=telemetry,
        ):  # fmt: skip
            await until(lambda: len(spans.get_finished_spans()) >= 7)
    by_name: dict[str, list[Any]] = {}
    for span in spans.get_finished_spans():
        by_name.setdefault(span.name, []).append(span)
    assert {name: len(found) for name, found in by_name.items()} == {"send orders": 3, "process orders": 4}
    send = by_name["send orders"][0]
    assert send.kind.name == "PRODUCER"
    assert send.attributes["messaging.message.id"] == receipt.message_id
    assert send.attributes["messaging.rocketmq.message.tag"] == "t"
    assert by_name["send orders"][1].attributes["messaging.batch.message_count"] == 2
    assert by_name["send orders"][2].attributes["error.type"] == "RequestRefused"
    mine = [s for s in by_name["process orders"] if s.attributes["messaging.message.id"] == receipt.message_id]
    assert mine[0].links[0].context.span_id == send.context.span_id
    assert mine[0].attributes["messaging.consumer.group.name"] == "g"
    assert sum(s.status.status_code.name == "ERROR" for s in by_name["process orders"]) == 1
    data = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
    sums = {m.name: sum(getattr(p, "value", getattr(p, "count", 0)) for p in m.data.data_points) for m in data}
    assert sums["messaging.client.sent.messages"] == 4
    assert sums["messaging.client.consumed.messages"] == 4
    assert sums["messaging.client.operation.duration"] == 3
    assert sums["messaging.process.duration"] == 4


class Told:
    """A telemetry that notes what it was told and adds a property."""

    def __init__(self) -> None:
        self.sends: list[tuple[str, int, bool]] = []
        self.processed: list[str] = []
        self.receipts = 0
        self.messages: list[Message] = []

    @contextmanager
    def sending(self, group: str, messages: Sequence[Message]) -> Iterator[Told]:
        self.messages = [replace(m, properties={**m.properties, "traced": "yes"}) for m in messages]
        before = self.receipts
        try:
            yield self
        finally:
            self.sends.append((group, len(messages), self.receipts > before))

    def sent(self, receipt: SendReceipt) -> None:
        self.receipts += 1

    @contextmanager
    def processing(self, group: str, message: MessageView) -> Iterator[None]:
        yield
        self.processed.append(message.properties["traced"])


async def test_every_kind_of_send_and_every_listener_is_told_to_whatever_measures(cluster):
    told = Told()
    options: dict[str, Any] = {"telemetry": told}
    async with (
        Producer(cluster.name_server, group="pg", **options) as producer,
        TransactionProducer(
            cluster.name_server, group="tg", check=lambda message: TransactionState.UNKNOWN, **options
        ) as bank,
    ):
        await producer.send("orders", b"x")
        await producer.send_batch([Message(topic="orders", body=b"1"), Message(topic="orders", body=b"2")])
        await bank.send_in_transaction("orders", b"y", execute=lambda message: TransactionState.COMMIT)
        cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, ResponseCode.MESSAGE_ILLEGAL)
        with pytest.raises(RequestRefused):
            await producer.send("orders", b"refused")
        assert told.sends == [("pg", 1, True), ("pg", 2, True), ("tg", 1, True), ("pg", 1, False)]
        async with PushConsumer(
            cluster.name_server, group="g", topics="orders", listener=lambda message: None,
            consume_from=ConsumeFrom.FIRST, telemetry=told,
        ):  # fmt: skip
            await until(lambda: len(told.processed) == 4)
    assert set(told.processed) == {"yes"}


@pytest.mark.parametrize("structured", [False, True])
async def test_events_survive_the_way_through_a_topic(cluster, structured):
    module = pytest.importorskip("cloudevents.core.v1.event", reason="the CloudEvents SDK is not installed")
    from rocketmq_client.cloud_events import event_of, message_of

    attributes = {
        "id": "1", "source": "/shop", "type": "order.created", "specversion": "1.0", "partitionkey": "customer-7",
        "time": datetime(2026, 11, 24, 12, 0, tzinfo=UTC), "datacontenttype": "application/json",
    }  # fmt: skip
    event = module.CloudEvent(attributes, {"total": 7})
    async with Producer(cluster.name_server) as producer, LitePullConsumer(cluster.name_server) as reader:
        await producer.send(message_of("orders", event, structured=structured))
        await producer.send("orders", b"no event", sharding_key="customer-7")
        await reader.assign(dict.fromkeys(await reader.queues("orders"), 0))
        got: list[MessageView] = []
        while len(got) < 2:
            got += await reader.poll()
    assert got[0].keys == ("1",)
    assert got[0].sharding_key == "customer-7"
    if not structured:
        assert got[0].properties["CE_type"] == "order.created"
        assert got[0].properties["CE_contenttype"] == "application/json"
    back = event_of(got[0])
    assert back.get_attributes() == event.get_attributes()
    assert back.get_data() == {"total": 7}
    with pytest.raises(InvalidArgument, match="no CloudEvent"):
        event_of(got[1])
