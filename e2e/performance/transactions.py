"""Transactions under load: half messages with a window, each committed one-way once its answer is there, as Java's client does.

The closed loop counts half answers; since the broker answers half messages and ends of one connection in their order, a
transaction is done when the loop is. That everything was committed, once, is counted in the topic's queues afterwards.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.frames import HEAD
from e2e.performance.generator import CODE_OK, LENGTH, READ_SIZE, LoadFailed, connect
from e2e.performance.pools import BORN_MS, OPAQUE_BASE, SEND_MESSAGE_V2, frame, header

END_TRANSACTION = 37
GROUP = "bench_transactions"
PLACE = re.compile(rb'"(msgId|queueOffset|opaque)":"?([0-9A-F]+)')
OFFSET_DIGITS = 16


@dataclass(slots=True)
class Outcome:
    """``latencies``: seconds from half message to its answer, of the measured time; ``total``: with the ramp."""

    seconds: float
    transactions: int
    total: int
    latencies: list[float] = field(repr=False)


def half_send(topic: str, body: bytes, key: int, opaque: int) -> bytes:
    """One half message for queue 0 of ``topic``."""
    properties = (
        f"TRAN_MSG\\u0001true\\u0002PGROUP\\u0001{GROUP}\\u0002UNIQ_KEY\\u0001{key:032X}\\u0002WAIT\\u0001true\\u0002"
    )
    ext = (
        f'"a":"{GROUP}","b":"{topic}","c":"TBW102","d":"4","e":"0","f":"4","g":"{BORN_MS}","h":"0","i":"{properties}",'
        f'"j":"0","k":"false","m":"false","n":"broker-a"'
    )
    return frame(header(SEND_MESSAGE_V2, ext, opaque), body)


def commit(answer: bytes) -> bytes:
    """The one-way commit of the half message that ``answer`` (a whole frame) is about."""
    found = dict(PLACE.findall(answer))
    offset = int(found[b"msgId"][-OFFSET_DIGITS:], 16)
    head = (
        b'{"code":%d,"extFields":{"bname":"broker-a","commitLogOffset":"%d","commitOrRollback":"8","fromTransactionCheck":"false",'
        b'"msgId":"m","producerGroup":"%b","tranStateTableOffset":"%b"},"flag":2,"language":"JAVA","opaque":0,'
        b'"serializeTypeCurrentRPC":"JSON","version":513}'
        % (END_TRANSACTION, offset, GROUP.encode(), found[b"queueOffset"])
    )
    return HEAD.pack(4 + len(head), len(head)) + head


def transact(
    address: str,
    topic: str,
    body_size: int,
    window: int,
    seconds: float,
    *,
    run: int,
    ramp_seconds: float,
    on_measure: Callable[[], None],
    on_end: Callable[[], None],
) -> Outcome:
    """Keep ``window`` half messages unanswered for ``ramp_seconds`` and then ``seconds``; commit each that is answered."""
    connection = connect(address)
    clock = time.perf_counter
    body = b"x" * body_size
    sent_at: dict[int, float] = {}
    latencies: list[float] = []
    pending = b""
    number = done = done_before = 0
    start = clock()
    measure_from = start + ramp_seconds
    deadline = measure_from + seconds
    is_measuring = False
    out: list[bytes] = []
    try:
        while True:
            now = clock()
            while now < deadline and len(sent_at) < window:
                opaque = OPAQUE_BASE + number
                out.append(half_send(topic, body, run << 64 | number, opaque))
                sent_at[opaque] = now
                number += 1
            if out:
                connection.sendall(b"".join(out))
                out.clear()
            if not sent_at:
                break
            block = connection.recv(READ_SIZE)
            if not block:
                raise LoadFailed(f"the broker closed the connection with {len(sent_at)} answers missing")
            now = clock()
            block = pending + block
            position = 0
            while len(block) - position >= 4:
                end = position + 4 + LENGTH.unpack_from(block, position)[0]
                if end > len(block):
                    break
                answer = block[position:end]
                if CODE_OK.search(answer) is None:
                    raise LoadFailed(f"a half message is refused: {answer!r}")
                latencies.append(now - sent_at.pop(int(dict(PLACE.findall(answer))[b"opaque"])))
                out.append(commit(answer))
                done += 1
                position = end
            pending = block[position:]
            if not is_measuring and now >= measure_from:
                is_measuring, measure_from, done_before = True, now, done
                latencies.clear()
                on_measure()
        finished = clock()
        on_end()
    finally:
        connection.close()
    return Outcome(finished - measure_from, done - done_before, done, latencies)
