"""The generator's own ceiling: a responder in another process which does nothing but answer.

``python -m e2e.performance.echo`` prints messages per second; below 150 000 the generator would limit what it measures.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import socket
import struct
import time
from multiprocessing.connection import Connection

from e2e.performance.generator import closed_loop
from e2e.performance.pools import single_sends

SECONDS = 5.0
TARGET_MESSAGES_PER_SECOND = 150_000
READ_SIZE = 1 << 18
OPAQUE_SIZE = 7
ANSWER = b'{"code":0,"extFields":{"msgId":"7F00000100002A9F0000000000000000","queueId":"0","queueOffset":"0"},"flag":1,"opaque":%s}'
OPAQUE = re.compile(rb'"opaque":(\d+)')


def respond(ready: Connection, core: int) -> None:
    """Answer every frame of one connection; the frames are all of one size, so only their count matters."""
    os.sched_setaffinity(0, {core})
    with socket.create_server(("127.0.0.1", 0)) as server:
        ready.send(server.getsockname()[1])
        connection, _ = server.accept()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head_size = len(ANSWER) - 2 + OPAQUE_SIZE
    prefix = struct.pack(">ii", 4 + head_size, head_size)
    whole = prefix + ANSWER
    pending = b""
    with connection:
        while data := connection.recv(READ_SIZE):
            data = pending + data
            size = 4 + struct.unpack_from(">i", data)[0]
            cut = len(data) // size * size
            pending = data[cut:]
            connection.sendall(b"".join([whole % opaque for opaque in OPAQUE.findall(data[:cut])]))


def ceiling(window: int, body_size: int, core: int, seconds: float = SECONDS) -> tuple[float, float]:
    """Messages per second between the generator and the responder on ``core``, and the generator's own CPU µs per message."""
    here, there = multiprocessing.Pipe()
    responder = multiprocessing.get_context("spawn").Process(target=respond, args=(there, core))
    responder.start()
    try:
        pool = single_sends("BenchTopic", body_size, 100_000)
        address = f"127.0.0.1:{here.recv()}"
        before = time.process_time()
        load = closed_loop(address, pool, window, seconds)
        return load.messages_per_second, (time.process_time() - before) / load.messages * 1e6
    finally:
        responder.join(5)
        responder.kill()


def main() -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    for body_size in (128, 1024):
        for window in (64, 512):
            rate, cpu_us = ceiling(window, body_size, cores[0])
            verdict = "enough" if rate >= TARGET_MESSAGES_PER_SECOND else f"less than {TARGET_MESSAGES_PER_SECOND}"
            print(
                f"{body_size} B, window {window}: {rate:,.0f} msg/s ({verdict}), {cpu_us:.2f} µs of generator CPU each"
            )


if __name__ == "__main__":
    main()
