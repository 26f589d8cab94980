"""OpenTelemetry spans and metrics of producers and consumers (extra ``opentelemetry``).

```python
from rocketmq_client.otel import OpenTelemetry

async with Producer("127.0.0.1:9876", telemetry=OpenTelemetry()) as producer:
    await producer.send("orders", b"hi")
```

Names follow the semantic conventions for messaging, 1.38, whose RocketMQ attributes are ``messaging.rocketmq.*``. A send is a span
``send TOPIC`` of kind PRODUCER; its context travels in the properties ``traceparent`` and ``tracestate`` (whatever propagator is
set). A listener's work is a span ``process TOPIC`` of kind CONSUMER, a child of the local context with a link to the sender's. Who
iterates over messages wraps the work with `OpenTelemetry.processing`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Final

try:
    from opentelemetry import metrics, propagate, trace  # type: ignore[import-not-found,unused-ignore]
    from opentelemetry.trace import Link, SpanKind, Status, StatusCode  # type: ignore[import-not-found,unused-ignore]
except ModuleNotFoundError as error:
    raise ImportError(
        "rocketmq_client.otel needs the OpenTelemetry API: pip install 'rocketmq-kube[opentelemetry]'"
    ) from error

from rocketmq_client.messages import Message, MessageView, SendReceipt

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider  # type: ignore[import-not-found,unused-ignore]
    from opentelemetry.propagators.textmap import TextMapPropagator  # type: ignore[import-not-found,unused-ignore]
    from opentelemetry.trace import Span, TracerProvider  # type: ignore[import-not-found,unused-ignore]

SCOPE: Final = "rocketmq_client"
Attributes = dict[str, str | int | Sequence[str]]
# Bounds that the conventions ask for, in seconds.
DURATION_BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)


class OpenTelemetry:
    """A `rocketmq_client.telemetry.Telemetry`; one serves any number of clients. Defaults are the global providers."""

    def __init__(
        self,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        propagator: TextMapPropagator | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(SCOPE, meter_provider=meter_provider)
        self._propagator = propagator or propagate.get_global_textmap()
        self._sent = meter.create_counter("messaging.client.sent.messages", "{message}", "Messages that were sent")
        self._consumed = meter.create_counter(
            "messaging.client.consumed.messages", "{message}", "Messages given to the application"
        )
        self._send_duration = meter.create_histogram(
            "messaging.client.operation.duration", "s", "Duration of sends with all their attempts",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
        )  # fmt: skip
        self._process_duration = meter.create_histogram(
            "messaging.process.duration", "s", "Duration of the work on a message",
            explicit_bucket_boundaries_advisory=DURATION_BOUNDS,
        )  # fmt: skip

    @contextmanager
    def sending(self, group: str, messages: Sequence[Message]) -> Iterator[_Sending]:
        """See `Telemetry.sending`."""
        topic = messages[0].topic
        common = _common("send", topic) | {"messaging.rocketmq.client_group": group}
        attributes = common | (
            _of_message(messages[0]) if len(messages) == 1 else {"messaging.batch.message_count": len(messages)}
        )
        started = time.perf_counter()
        with self._tracer.start_as_current_span(f"send {topic}", kind=SpanKind.PRODUCER, attributes=attributes) as span:
            carrier: dict[str, str] = {}
            self._propagator.inject(carrier)
            # A property without a value would be refused.
            carried = {name: value for name, value in carrier.items() if value}
            under_way = _Sending(span, [replace(m, properties={**m.properties, **carried}) for m in messages])
            outcome: Attributes = dict(common)
            try:
                yield under_way
            except BaseException as error:
                outcome["error.type"] = type(error).__name__
                span.set_attribute("error.type", type(error).__name__)
                raise
            finally:
                self._send_duration.record(time.perf_counter() - started, outcome)
                self._sent.add(len(messages), outcome)

    @contextmanager
    def processing(self, group: str, message: MessageView) -> Iterator[None]:
        """See `Telemetry.processing`."""
        common = _common("process", message.topic) | {"messaging.consumer.group.name": group}
        attributes: Attributes = common | {
            "messaging.message.id": message.message_id,
            "messaging.message.body.size": message.size,
            "messaging.rocketmq.message.tag": message.tag,
            "messaging.rocketmq.message.keys": list(message.keys),
            "messaging.rocketmq.message.reconsume_times": message.reconsume_times,
        }
        self._consumed.add(1, common)
        started = time.perf_counter()
        with self._tracer.start_as_current_span(
            f"process {message.topic}", kind=SpanKind.CONSUMER, attributes=_set(attributes),
            links=self._links(message.properties),
        ) as span:  # fmt: skip
            outcome: Attributes = dict(common)
            try:
                yield
            except BaseException as error:
                outcome["error.type"] = type(error).__name__
                span.set_attribute("error.type", type(error).__name__)
                span.set_status(Status(StatusCode.ERROR, str(error)))
                raise
            finally:
                self._process_duration.record(time.perf_counter() - started, outcome)

    def _links(self, properties: Mapping[str, str]) -> list[Link]:
        remote = trace.get_current_span(self._propagator.extract(dict(properties))).get_span_context()
        # Without a sender's context the extraction gives the present one, which is the parent already.
        here = trace.get_current_span().get_span_context()
        return [Link(remote)] if remote.is_valid and remote != here else []


class _Sending:
    def __init__(self, span: Span, messages: Sequence[Message]) -> None:
        self._span = span
        self.messages = messages

    def sent(self, receipt: SendReceipt) -> None:
        self._span.set_attributes(
            {
                "messaging.message.id": receipt.message_id,
                "messaging.destination.partition.id": str(receipt.queue.queue_id),
                "messaging.rocketmq.broker.name": receipt.queue.broker_name,
                "messaging.rocketmq.send.status": receipt.status.name,
            }
        )


def _common(operation: str, topic: str) -> Attributes:
    return {
        "messaging.system": "rocketmq",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": topic,
    }


def _of_message(message: Message) -> Attributes:
    kind = "delay" if message.delay_level or message.deliver_at_ms else "fifo" if message.sharding_key else "normal"
    return _set(
        {
            "messaging.message.body.size": len(message.body),
            "messaging.rocketmq.message.type": kind,
            "messaging.rocketmq.message.tag": message.tag,
            "messaging.rocketmq.message.keys": list(message.keys),
            "messaging.rocketmq.message.group": message.sharding_key,
            "messaging.rocketmq.message.delay_time_level": message.delay_level,
            "messaging.rocketmq.message.delivery_timestamp": message.deliver_at_ms,
        }
    )


def _set(attributes: Attributes) -> Attributes:
    """Without what is empty, sizes aside."""
    return {name: value for name, value in attributes.items() if value or name.endswith(".size")}
