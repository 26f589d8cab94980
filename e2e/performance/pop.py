"""POP under load: pops of 32 from a backlog, a few in flight, and an acknowledgement for every single message."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.performance.consuming import FOUND, Frames, count_records
from e2e.performance.generator import LoadFailed, connect
from e2e.performance.pools import frame, header

POP_MESSAGE, ACK_MESSAGE = 200050, 200051
POP_COUNT_MAX = 32
INVISIBLE_MS = 60_000
# A queue that another pop just emptied, or is reading, is passed over.
NOTHING = frozenset({209, 210})
EMPTY_POPS_MAX = 200
ACK_OPAQUE = 1_000_000


@dataclass(slots=True)
class Popped:
    """Messages that were popped and acknowledged in the measured time; latencies of pops in seconds."""

    seconds: float
    messages: int
    latencies: list[float] = field(repr=False)


def acknowledgement(group: str, topic: str, handle: str, queue: str, offset: str, opaque: int) -> bytes:
    """A whole frame."""
    ext = f'"consumerGroup":"{group}","extraInfo":"{handle}","offset":"{offset}","queueId":"{queue}","topic":"{topic}"'
    return frame(header(ACK_MESSAGE, ext, opaque), b"")


def pop(
    address: str,
    topic: str,
    group: str,
    messages: int,
    window: int,
    seconds: float,
    *,
    on_measure: Callable[[], None],
    on_end: Callable[[], None],
) -> Popped:
    """Keep ``window`` pops in flight until ``messages`` have come or ``seconds`` are over, then wait for the answers."""
    connection = connect(address)
    frames = Frames(connection)
    sent_at = [0.0] * window
    latencies: list[float] = []
    seen: set[tuple[str, str]] = set()
    acks_waiting = acked = empty = 0
    pops_waiting = window

    def request(slot: int) -> bytes:
        sent_at[slot] = time.perf_counter()
        ext = (
            f'"bornTime":"{time.time_ns() // 1_000_000}","consumerGroup":"{group}","exp":"*","expType":"TAG","initMode":"0",'
            f'"invisibleTime":"{INVISIBLE_MS}","maxMsgNums":"{POP_COUNT_MAX}","order":"false","pollTime":"0","queueId":"-1",'
            f'"topic":"{topic}"'
        )
        return frame(header(POP_MESSAGE, ext, slot), b"")

    on_measure()
    start = time.perf_counter()
    deadline = start + seconds
    try:
        connection.sendall(b"".join(request(slot) for slot in range(window)))
        while pops_waiting or acks_waiting:
            out: list[bytes] = []
            for head, body in frames.read():
                slot, code = int(str(head["opaque"])), head["code"]
                if slot >= ACK_OPAQUE:
                    if code != 0:
                        raise LoadFailed(f"acknowledgement: code {code}, {head.get('remark')}")
                    acks_waiting -= 1
                    acked += 1
                    continue
                now = time.perf_counter()
                latencies.append(now - sent_at[slot])
                if code == FOUND:
                    empty = 0
                    acks = _acknowledgements(group, topic, head, seen)
                    if len(acks) != count_records(body):
                        raise LoadFailed(f"{count_records(body)} messages, {len(acks)} offsets")
                    acks_waiting += len(acks)
                    out += acks
                elif code in NOTHING:
                    empty += 1
                else:
                    raise LoadFailed(f"pop: code {code}, {head.get('remark')}")
                if len(seen) < messages and now < deadline and empty < EMPTY_POPS_MAX:
                    out.append(request(slot))
                else:
                    pops_waiting -= 1
            if out:
                connection.sendall(b"".join(out))
        seconds = time.perf_counter() - start
        on_end()
    finally:
        connection.close()
    return Popped(seconds, acked, latencies)


def _acknowledgements(group: str, topic: str, head: dict[str, object], seen: set[tuple[str, str]]) -> list[bytes]:
    fields: dict[str, str] = head["extFields"]  # type: ignore[assignment]
    starts = {}
    for entry in fields["startOffsetInfo"].split(";"):
        flag, queue, start = entry.split(" ")
        starts[flag, queue] = start
    acks = []
    for entry in fields["msgOffsetInfo"].split(";"):
        flag, queue, offsets = entry.split(" ")
        start, pop_time = starts[flag, queue], fields["popTime"]
        prefix = f"{start} {pop_time} {fields['invisibleTime']} {fields['reviveQid']} {flag} broker-a {queue}"
        for offset in offsets.split(","):
            if (queue, offset) in seen:
                raise LoadFailed(f"message {offset} of queue {queue} was given twice within its invisible time")
            seen.add((queue, offset))
            acks.append(acknowledgement(group, topic, f"{prefix} {offset}", queue, offset, ACK_OPAQUE))
    return acks
