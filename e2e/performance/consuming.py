"""Consumers of the bench: draining a backlog, and waiting at the broker for what is sent at a fixed rate."""

from __future__ import annotations

import json
import re
import selectors
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.frames import RESPONSE_FLAG
from e2e.performance import pools
from e2e.performance.generator import LoadFailed, connect

FOUND, NOT_FOUND, RETRY_IMMEDIATELY, OFFSET_MOVED = 0, 19, 20, 21
PULL_COUNT_MAX = 32
GROUP = "bench_consumer"
STAMP = re.compile(rb"T=([0-9a-f]{16})\|")
READ_SIZE = 1 << 20
SIZE = struct.Struct(">i")
STRAGGLERS_SECONDS = 15.0


class Frames:
    """Answers of one socket, cut from the stream."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self._pending = b""

    def read(self) -> list[tuple[dict[str, object], bytes]]:
        """Block for at least some bytes and return the whole answers among them, header and body; notices are left out."""
        block = self.connection.recv(READ_SIZE)
        if not block:
            raise LoadFailed("the broker closed the connection of the consumer")
        data = self._pending + block
        out, cut = [], 0
        while len(data) - cut >= 8:
            size, marked = struct.unpack_from(">ii", data, cut)
            if len(data) - cut < 4 + size:
                break
            head_end = cut + 8 + (marked & 0xFFFFFF)
            head = json.loads(data[cut + 8 : head_end])
            if head["flag"] & RESPONSE_FLAG:
                out.append((head, data[head_end : cut + 4 + size]))
            cut += 4 + size
        self._pending = data[cut:]
        return out


@dataclass(slots=True)
class Subscription:
    """What a draining consumer wants, and how many messages that is."""

    group: str
    expression: str
    expression_type: str
    messages: int


@dataclass(slots=True)
class Drain:
    """Outcome of draining: messages as counted by the offsets, latencies per pull in seconds."""

    seconds: float
    messages: int
    latencies: list[float] = field(repr=False)


def drain(
    address: str,
    topic: str,
    messages: int,
    *,
    subscription: Subscription | None = None,
    on_measure: Callable[[], None],
    on_end: Callable[[], None],
) -> Drain:
    """Pull from all queues of ``topic``, one pull of 32 in flight per queue, until the offsets have passed ``messages``.

    Everything is pulled, or by a push consumer what its ``subscription`` lets through, counted.
    """
    connection = connect(address)
    frames = Frames(connection)
    sent_at = [0.0] * pools.QUEUE_COUNT
    offsets = [0] * pools.QUEUE_COUNT
    latencies: list[float] = []
    passed = received = 0
    if subscription is not None:
        wanted = subscription.expression, subscription.expression_type
        connection.sendall(pools.subscribe(subscription.group, topic, *wanted, pools.OPAQUE_BASE))
        answers: list[tuple[dict[str, object], bytes]] = []
        while not answers:
            answers = frames.read()
        head = answers[0][0]
        if head["code"] != FOUND:
            raise LoadFailed(f"heartbeat: code {head['code']}, {head.get('remark')}")
    group = GROUP if subscription is None else subscription.group

    def request(queue: int) -> bytes:
        sent_at[queue] = time.perf_counter()
        return pools.pull(
            group, topic, queue, offsets[queue], PULL_COUNT_MAX, queue, is_suspended=False,
            is_subscribed=subscription is not None,
        )  # fmt: skip

    on_measure()
    start = time.perf_counter()
    try:
        connection.sendall(b"".join(request(queue) for queue in range(pools.QUEUE_COUNT)))
        while passed < messages:
            again = []
            for head, body in frames.read():
                queue, code = int(str(head["opaque"])), head["code"]
                latencies.append(time.perf_counter() - sent_at[queue])
                if code == NOT_FOUND:
                    continue  # this queue is empty
                if (code != FOUND or not body) and (code != RETRY_IMMEDIATELY or subscription is None):
                    raise LoadFailed(f"pull of queue {queue} at {offsets[queue]}: code {code}, {head.get('remark')}")
                if subscription is not None:
                    received += count_records(body)
                following = int(head["extFields"]["nextBeginOffset"])  # type: ignore[index]
                passed += following - offsets[queue]
                offsets[queue] = following
                again.append(request(queue))
            if again:
                connection.sendall(b"".join(again))
        seconds = time.perf_counter() - start
        on_end()
    finally:
        connection.close()
    if subscription is not None and received != subscription.messages:
        raise LoadFailed(f"{received} messages came through {subscription.expression!r}, not {subscription.messages}")
    return Drain(seconds, passed, latencies)


def count_records(body: bytes) -> int:
    """Messages in the body of an answer."""
    count = position = 0
    while position < len(body):
        position += SIZE.unpack_from(body, position)[0]
        count += 1
    return count


@dataclass(slots=True)
class Delivery:
    """Outcome of a paced run; seconds from the send to the consumer, and from the send to its own answer."""

    sent: int
    received: int
    end_to_end: list[float] = field(repr=False)
    send_latencies: list[float] = field(repr=False)


def paced(
    address: str,
    topic: str,
    per_second: float,
    seconds: float,
    *,
    delay_level: int = 0,
    delay_seconds: float = 0.0,
    offsets: list[int] | None = None,
) -> Delivery:
    """Send at a fixed rate on one connection while another waits in long polls on all queues; a late broker cannot slow the sends.

    ``offsets`` are where the consumer starts. With a delay level the end-to-end time is the lateness against ``delay_seconds``.
    """
    sender, receiver = connect(address), connect(address)
    answers, deliveries = Frames(sender), Frames(receiver)
    positions = list(offsets or [0] * pools.QUEUE_COUNT)
    selector = selectors.DefaultSelector()
    selector.register(sender, selectors.EVENT_READ, answers)
    selector.register(receiver, selectors.EVENT_READ, deliveries)
    total = int(per_second * seconds)
    out = Delivery(0, 0, [], [])
    sent_at: dict[int, int] = {}

    def poll(queue: int) -> bytes:
        return pools.pull(GROUP, topic, queue, positions[queue], PULL_COUNT_MAX, queue, is_suspended=True)

    def take_delivery(head: dict[str, object], body: bytes, now_ns: int) -> None:
        queue, code = int(str(head["opaque"])), head["code"]
        if code in (FOUND, NOT_FOUND, RETRY_IMMEDIATELY, OFFSET_MOVED):
            positions[queue] = int(head["extFields"]["nextBeginOffset"])  # type: ignore[index]
        else:
            raise LoadFailed(f"long poll of queue {queue}: code {code}, {head.get('remark')}")
        receiver.sendall(poll(queue))
        for stamp in STAMP.findall(body):
            out.end_to_end.append((now_ns - int(stamp, 16)) / 1e9 - delay_seconds)
            out.received += 1

    try:
        receiver.sendall(b"".join(poll(queue) for queue in range(pools.QUEUE_COUNT)))
        start_ns = time.perf_counter_ns()
        interval_ns = int(1e9 / per_second)
        end_ns = start_ns + int((seconds + delay_seconds + STRAGGLERS_SECONDS) * 1e9)
        while out.received < total:
            now_ns = time.perf_counter_ns()
            if now_ns > end_ns:
                raise LoadFailed(f"{out.received} of {total} messages came through")
            due_ns = start_ns + out.sent * interval_ns
            if out.sent < total and now_ns >= due_ns:
                opaque = pools.OPAQUE_BASE + out.sent
                sent_at[opaque] = now_ns
                sender.sendall(
                    pools.stamped_send(topic, out.sent % pools.QUEUE_COUNT, opaque, now_ns, delay_level=delay_level)
                )
                out.sent += 1
                continue
            timeout = max(0.0, (due_ns - now_ns) / 1e9) if out.sent < total else 1.0
            for key, _ in selector.select(timeout):
                arrivals = key.data.read()
                now_ns = time.perf_counter_ns()
                for head, body in arrivals:
                    if key.data is deliveries:
                        take_delivery(head, body, now_ns)
                        continue
                    if head["code"] != 0:
                        raise LoadFailed(f"send: code {head['code']}, {head.get('remark')}")
                    out.send_latencies.append((now_ns - sent_at.pop(int(str(head["opaque"])))) / 1e9)
    finally:
        selector.close()
        sender.close()
        receiver.close()
    return out
