"""What one process of a load does, and what came of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rocketmq_client import (
    ClientError,
    ConsumeFrom,
    Message,
    MessageView,
    Producer,
    PushConsumer,
)
from rocketmq_tools.load.histogram import Histogram

SENT_AT_PROPERTY = "bench_sent_ns"
LATENCY_DRAIN_MS = 200
RATE_BURST_MS = 100  # how much of a missed rate is caught up


@dataclass(slots=True)
class LoadResult:
    """Counts of one process or of all; ``elapsed_s`` is the longest."""

    messages: int = 0
    messages_with_warmup: int = 0
    bytes: int = 0
    failed: int = 0
    first_error: str = ""
    elapsed_s: float = 0.0
    cpu_s: float = 0.0
    latencies: Histogram = field(default_factory=Histogram)

    def merge(self, other: LoadResult) -> None:
        """Add what another process did."""
        self.messages += other.messages
        self.messages_with_warmup += other.messages_with_warmup
        self.bytes += other.bytes
        self.failed += other.failed
        self.first_error = self.first_error or other.first_error
        self.elapsed_s = max(self.elapsed_s, other.elapsed_s)
        self.cpu_s += other.cpu_s
        self.latencies.merge(other.latencies)

    def as_data(self) -> dict[str, Any]:
        """Plain values for printing."""
        seconds = self.elapsed_s or 1.0
        return {
            "messages": self.messages,
            "failed": self.failed,
            "elapsed_s": round(self.elapsed_s, 2),
            "messages_per_s": round(self.messages / seconds),
            "megabytes_per_s": round(self.bytes / seconds / 1e6, 2),
            "client_cpu_us_per_message": round(self.cpu_s * 1e6 / self.messages, 1) if self.messages else 0.0,
            **self.latencies.summary(),
        }


class Meter:
    """Counts after the warm-up and before the end."""

    def __init__(self, warmup_ms: int, duration_ms: int) -> None:
        self.result = LoadResult()
        self._start = time.monotonic() + warmup_ms / 1000
        self.end = self._start + duration_ms / 1000
        self._cpu_at_start: float | None = None

    def count(self, messages: int, size: int, latency_ms: float) -> None:
        """Note what has just been done."""
        self.result.messages_with_warmup += messages
        now = time.monotonic()
        if now < self._start or now > self.end:
            return
        if self._cpu_at_start is None:
            self._cpu_at_start = time.process_time()
        self.result.messages += messages
        self.result.bytes += size
        self.result.latencies.add(latency_ms, messages)

    def fail(self, error: Exception) -> None:
        """Note a request that failed."""
        self.result.failed += 1
        self.result.first_error = self.result.first_error or str(error)

    def finish(self) -> LoadResult:
        """The result, when the time is over."""
        self.result.elapsed_s = max(min(time.monotonic(), self.end) - self._start, 0.0)
        if self._cpu_at_start is not None:
            self.result.cpu_s = time.process_time() - self._cpu_at_start
        return self.result


@dataclass(frozen=True, slots=True, kw_only=True)
class ProducePlan:
    """Send for ``duration_ms`` after ``warmup_ms``."""

    name_servers: list[str]
    topic: str
    duration_ms: int
    warmup_ms: int
    size: int
    in_flight: int
    rate: float | None
    batch: int
    keys: bool
    tags: bool

    async def run(self, progress: Callable[[Meter], None]) -> LoadResult:
        """Do it in this process; ``progress`` is given the meter at the start."""
        body = bytes(ord("a") + i % 26 for i in range(self.size))
        meter = Meter(self.warmup_ms, self.duration_ms)
        progress(meter)
        pace = Pace(self.rate / self.batch if self.rate else None)
        async with Producer(self.name_servers, group="benchmark_producer", compression=None) as producer:

            async def lane(lane_number: int) -> None:
                sent = 0
                while time.monotonic() < meter.end:
                    await pace.wait()
                    messages = [
                        Message(
                            topic=self.topic,
                            body=body,
                            keys=(f"{lane_number}-{sent + i}",) if self.keys else (),
                            tag=f"tag{sent % 10}" if self.tags else "",
                        )
                        for i in range(self.batch)
                    ]
                    sent += self.batch
                    started = time.perf_counter()
                    try:
                        if self.batch == 1:
                            await producer.send(messages[0])
                        else:
                            await producer.send_batch(messages)
                    except ClientError as error:
                        meter.fail(error)
                        await asyncio.sleep(0.01)
                        continue
                    meter.count(self.batch, self.size * self.batch, (time.perf_counter() - started) * 1000)

            async with asyncio.TaskGroup() as group:
                for number in range(self.in_flight):
                    group.create_task(lane(number))
        return meter.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumePlan:
    """Receive for ``duration_ms`` after ``warmup_ms``."""

    name_servers: list[str]
    topic: str
    duration_ms: int
    warmup_ms: int
    group: str
    from_start: bool

    async def run(self, progress: Callable[[Meter], None]) -> LoadResult:
        """Do it in this process."""
        meter = Meter(self.warmup_ms, self.duration_ms)
        progress(meter)

        async def listener(message: MessageView) -> None:
            meter.count(1, message.size, max(time.time_ns() / 1e6 - message.born_timestamp_ms, 0.0))

        async with PushConsumer(
            self.name_servers,
            group=self.group,
            topics=self.topic,
            listener=listener,
            consume_from=ConsumeFrom.FIRST if self.from_start else ConsumeFrom.LAST,
        ):
            await asyncio.sleep(max(meter.end - time.monotonic(), 0))
        return meter.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyPlan:
    """Send at a rate and receive by long poll; the latency is end to end."""

    name_servers: list[str]
    topic: str
    duration_ms: int
    warmup_ms: int
    size: int
    rate: float

    async def run(self, progress: Callable[[Meter], None]) -> LoadResult:
        """Do it in this process, in a group of its own, so that several processes each get everything they sent."""
        body = bytes(self.size)
        run_id = f"{time.time_ns():x}"
        meter = Meter(self.warmup_ms, self.duration_ms)
        pace = Pace(self.rate)

        async def listener(message: MessageView) -> None:
            sent = message.properties.get(SENT_AT_PROPERTY, "")
            owner, _, sent_ns = sent.partition("-")
            if owner == run_id:
                meter.count(1, message.size, (time.perf_counter_ns() - int(sent_ns)) / 1e6)

        async with (
            PushConsumer(
                self.name_servers, group=f"benchmark_latency_{run_id}", topics=self.topic, listener=listener
            ) as consumer,
            Producer(self.name_servers, group="benchmark_producer", compression=None) as producer,
        ):
            await consumer.wait_assigned()
            meter = Meter(self.warmup_ms, self.duration_ms)
            progress(meter)

            async def send_one() -> None:
                stamp = f"{run_id}-{time.perf_counter_ns()}"
                try:
                    await producer.send(self.topic, body, properties={SENT_AT_PROPERTY: stamp})
                except ClientError as error:
                    meter.fail(error)

            async with asyncio.TaskGroup() as group:
                while time.monotonic() < meter.end:
                    await pace.wait()
                    group.create_task(send_one())
            await asyncio.sleep(LATENCY_DRAIN_MS / 1000)
        return meter.finish()


class Pace:
    """Lets callers through ``rate`` times a second; ``None`` does not hold anybody up."""

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._next = 0.0

    async def wait(self) -> None:
        """Until it is the caller's turn."""
        if not self._interval:
            return
        now = time.monotonic()
        self._next = max(self._next + self._interval, now - RATE_BURST_MS / 1000)
        if self._next > now:
            await asyncio.sleep(self._next - now)
