"""The load generator: one thread, blocking sockets, prebuilt frames, many in flight, every answer counted.

It must never be the bottleneck. Answers are cut by their length words, opaques and codes found by two C-level scans of the
whole read, and latencies taken once per read; ``python -m e2e.performance.echo`` measures its ceiling.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from e2e.performance.pools import OPAQUE_BASE, Pool

LENGTH = struct.Struct(">i")
OPAQUE = re.compile(rb'"opaque":(-?\d+)')
CODE_OK = re.compile(rb'"code":0[,}]')
CODE = re.compile(rb'"code":(-?\d+)')
READ_SIZE = 1 << 20
SOCKET_TIMEOUT_SECONDS = 30.0


class LoadFailed(Exception):
    """An answer was missing or the connection broke: the figures would be worthless."""


@dataclass(slots=True)
class Load:
    """Outcome of a closed loop; latencies are seconds from send to answer, ``messages`` those answered in the measured time."""

    seconds: float
    messages: int
    requests: int
    latencies: list[float] = field(repr=False)
    codes: dict[int, int]
    slices: list[int] = field(repr=False)

    @property
    def messages_per_second(self) -> float:
        return self.messages / self.seconds

    def quantile_ms(self, share: float) -> float:
        """The latency in ms that ``share`` of the requests did not exceed; ``share`` 1 is the maximum."""
        return quantile(self.latencies, share) * 1000


def quantile(values: list[float], share: float) -> float:
    """Nearest-rank quantile; ``values`` is sorted in place."""
    values.sort()
    return values[min(len(values) - 1, int(len(values) * share))] if values else float("nan")


def connect(address: str) -> socket.socket:
    host, port = address.rsplit(":", 1)
    connection = socket.create_connection((host, int(port)), timeout=SOCKET_TIMEOUT_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    return connection


def closed_loop(
    address: str,
    pool: Pool,
    window: int,
    seconds: float,
    *,
    ramp_seconds: float = 0.0,
    requests_max: int | None = None,
    on_measure: Callable[[], None] = lambda: None,
    on_end: Callable[[], None] = lambda: None,
) -> Load:
    """Keep ``window`` requests in flight for ``ramp_seconds`` and then ``seconds`` (or until ``requests_max`` are answered).

    Only what is answered after the ramp counts. ``on_measure`` and ``on_end`` are called at both ends of the measured time, to take
    the broker's CPU there. ``slices`` counts the answers of each second from the very start, the ramp included.
    """
    connection = connect(address)
    clock = time.perf_counter
    size, count, data = pool.frame_size, pool.count, pool.data
    sent_at = [0.0] * count
    latencies: list[float] = []
    codes: dict[int, int] = {}
    slices: list[int] = []
    pending = b""
    position = outstanding = answered = answered_before = latencies_before = 0
    sent_total = 0
    start = clock()
    measure_from = start + ramp_seconds
    deadline = measure_from + seconds
    is_measuring = False
    end = deadline
    try:
        if ramp_seconds == 0:
            on_measure()
            is_measuring = True
        room = window
        while True:
            now = clock()
            if now < deadline and (requests_max is None or sent_total < requests_max):
                while room:
                    run = min(room, count - position)
                    if requests_max is not None:
                        run = min(run, requests_max - sent_total)
                        if run <= 0:
                            break
                    sent_at[position : position + run] = [now] * run
                    connection.sendall(data[position * size : (position + run) * size])
                    position = (position + run) % count
                    outstanding += run
                    sent_total += run
                    room -= run
            if outstanding == 0:
                break
            block = connection.recv(READ_SIZE)
            now = clock()
            if not block:
                raise LoadFailed(f"the broker closed the connection with {outstanding} answers missing")
            if pending:
                block = pending + block
            cut, size_read, answers = 0, len(block), 0
            while size_read - cut >= 4:
                after = cut + 4 + LENGTH.unpack_from(block, cut)[0]
                if after > size_read:
                    break
                cut = after
                answers += 1
            if cut == size_read:
                pending = b""
            else:
                pending = block[cut:]
                block = block[:cut]
            if not answers:
                continue
            opaques = OPAQUE.findall(block)
            if len(opaques) != answers:
                raise LoadFailed(f"{answers} answers but {len(opaques)} opaques")
            latencies += [now - sent_at[int(opaque) - OPAQUE_BASE] for opaque in opaques]
            well = len(CODE_OK.findall(block))
            if well == answers:
                codes[0] = codes.get(0, 0) + answers
            else:
                for text in CODE.findall(block)[:answers]:
                    codes[int(text)] = codes.get(int(text), 0) + 1
            answered += answers
            outstanding -= answers
            room = window - outstanding
            second = int(now - start)
            while len(slices) <= second:
                slices.append(0)
            slices[second] += answers
            if not is_measuring and now >= measure_from:
                is_measuring = True
                measure_from = now
                answered_before, latencies_before = answered, len(latencies)
                on_measure()
        end = clock()
        on_end()
    finally:
        connection.close()
    requests = answered - answered_before
    return Load(
        end - measure_from,
        requests * pool.messages_per_frame,
        requests,
        latencies[latencies_before:],
        codes,
        [slice_ * pool.messages_per_frame for slice_ in slices],
    )
