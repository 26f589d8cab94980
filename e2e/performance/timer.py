"""Timer messages that are due within one second: how late each reaches a consumer that waits in a long poll."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.performance import pools
from e2e.performance.consuming import (
    FOUND,
    GROUP,
    NOT_FOUND,
    OFFSET_MOVED,
    PULL_COUNT_MAX,
    RETRY_IMMEDIATELY,
    STAMP,
    Frames,
)
from e2e.performance.generator import LoadFailed, connect

# The first one is due so long after the sending begins: time to send them all, also to a slow broker.
LEAD_SECONDS = 8.0
WITHIN_SECONDS = 1.0
STRAGGLERS_SECONDS = 60.0
WINDOW = 64


@dataclass(slots=True)
class Punctuality:
    """Seconds from each message's due time to the consumer; negative is early."""

    lateness: list[float] = field(repr=False)


def timer_send(topic: str, due_ms: int, key: int, queue_id: int, opaque: int) -> bytes:
    """One send of 128 bytes whose body tells when it is due, in ns."""
    properties = pools.PROPERTIES.format(key=key) + f"TIMER_DELIVER_MS\\u0001{due_ms}\\u0002"
    body = b"T=%0*x|" % (pools.STAMP_DIGITS, due_ms * 1_000_000)
    ext = pools.send_ext(topic, queue_id, properties)
    return pools.frame(pools.header(pools.SEND_MESSAGE_V2, ext, opaque), body + b"x" * (128 - len(body)))


def burst(
    address: str,
    topic: str,
    messages: int,
    offsets: list[int],
    *,
    run: int,
    on_measure: Callable[[], None],
    on_end: Callable[[], None],
) -> Punctuality:
    """Send ``messages``, evenly due within `WITHIN_SECONDS`, then consume them all from ``offsets`` on.

    Measured is from the first due time on. Raises LoadFailed when some are lost, or too late to be sent.
    """
    base_ms = time.time_ns() // 1_000_000 + int(LEAD_SECONDS * 1000)
    sender, receiver = connect(address), connect(address)
    try:
        answers = Frames(sender)
        sent = answered = 0
        while answered < messages:
            while sent < messages and sent - answered < WINDOW:
                due_ms = base_ms + int(sent * WITHIN_SECONDS * 1000) // messages
                sender.sendall(
                    timer_send(topic, due_ms, run << 64 | sent, sent % pools.QUEUE_COUNT, pools.OPAQUE_BASE + sent)
                )
                sent += 1
            for head, _ in answers.read():
                if head["code"] != 0:
                    raise LoadFailed(f"send: code {head['code']}, {head.get('remark')}")
                answered += 1
        left = base_ms / 1000 - time.time()
        if left <= 0:
            raise LoadFailed(f"sending took {-left:.1f} s longer than the first message waits")
        return Punctuality(_consume(Frames(receiver), topic, messages, offsets, base_ms, on_measure, on_end))
    finally:
        sender.close()
        receiver.close()


def _consume(
    frames: Frames,
    topic: str,
    messages: int,
    offsets: list[int],
    base_ms: int,
    on_measure: Callable[[], None],
    on_end: Callable[[], None],
) -> list[float]:
    receiver = frames.connection
    positions = list(offsets)
    lateness: list[float] = []

    def poll(queue: int) -> bytes:
        return pools.pull(GROUP, topic, queue, positions[queue], PULL_COUNT_MAX, queue, is_suspended=True)

    receiver.sendall(b"".join(poll(queue) for queue in range(pools.QUEUE_COUNT)))
    time.sleep(max(base_ms / 1000 - time.time() - 0.2, 0))
    on_measure()
    deadline = base_ms / 1000 + WITHIN_SECONDS + STRAGGLERS_SECONDS
    while len(lateness) < messages:
        if time.time() > deadline:
            raise LoadFailed(f"{len(lateness)} of {messages} messages came")
        for head, body in frames.read():
            now_ns = time.time_ns()
            queue, code = int(str(head["opaque"])), head["code"]
            if code not in (FOUND, NOT_FOUND, RETRY_IMMEDIATELY, OFFSET_MOVED):
                raise LoadFailed(f"long poll of queue {queue}: code {code}, {head.get('remark')}")
            positions[queue] = int(head["extFields"]["nextBeginOffset"])  # type: ignore[index]
            receiver.sendall(poll(queue))
            lateness.extend((now_ns - int(stamp, 16)) / 1e9 for stamp in STAMP.findall(body))
    on_end()
    return lateness
