"""Whoever can reach the replication port may say anything there: nothing of it may answer a send, and nobody else is hurt."""

from __future__ import annotations

import random
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from e2e import frames
from e2e.chaos.kills import SMALL, TOPIC, is_answering, log_end
from e2e.chaos.outcomes import Outcome, Scale
from e2e.clusters import Broker, Cluster, Kind
from e2e.local.history import body_of
from e2e.local.writer import QUEUE_COUNT, SEND_MESSAGE_V2

FLUSH_SLAVE_TIMEOUT: Final = 12
SLAVE_NOT_AVAILABLE: Final = 11
ROUNDS: Final = (40, 1000)
CLOSE_S_MAX: Final = 20.0
SLAVE_TIMEOUT_MS: Final = 400
REPORT: Final = struct.Struct(">q")
# Log bytes may come first; forged reports must be answered by the end of the connection all the same.
READ_SIZE_MAX: Final = 8 << 20

Attack = Callable[[random.Random, int], bytes]


def _noise(chance: random.Random, end: int) -> bytes:
    return b"\xff" + chance.randbytes(chance.randrange(7, 400))


def _beyond_the_end(chance: random.Random, end: int) -> bytes:
    return REPORT.pack(end + chance.choice((1, 1000, 1 << 40)))


def _negative(chance: random.Random, end: int) -> bytes:
    return REPORT.pack(-chance.randrange(1, 1 << 40))


def _highest_of_all(chance: random.Random, end: int) -> bytes:
    return REPORT.pack((1 << 63) - 1)


def _first_honest_then_beyond(chance: random.Random, end: int) -> bytes:
    return REPORT.pack(0) + REPORT.pack(end + (1 << 30))


def _backwards(chance: random.Random, end: int) -> bytes:
    return REPORT.pack(end) + REPORT.pack(end // 2)


def _http(chance: random.Random, end: int) -> bytes:
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def _a_remoting_frame(chance: random.Random, end: int) -> bytes:
    return frames.encode(GET_RUNTIME_INFO, opaque=1)


GET_RUNTIME_INFO: Final = 28
ATTACKS: Final[tuple[Attack, ...]] = (
    _noise, _beyond_the_end, _negative, _highest_of_all, _first_honest_then_beyond, _backwards, _http, _a_remoting_frame,
)  # fmt: skip


def run(directory: Path, scale: Scale) -> Outcome:
    """A synchronous master without a slave is attacked while a send waits for one."""
    outcome, chance = Outcome(), random.Random(scale.seed)
    settings = SMALL | {
        "brokerRole": "SYNC_MASTER", "inSyncReplicas": "2", "slaveTimeout": str(SLAVE_TIMEOUT_MS),
        "haHousekeepingInterval": "3000", "haSendHeartbeatInterval": "500",
    }  # fmt: skip
    with Cluster(Kind.OURS, directory / "cluster", settings=settings) as cluster:
        broker = cluster.broker
        _send(broker, 0)
        for number in range(scale.of(*ROUNDS)):
            attack = ATTACKS[number % len(ATTACKS)]
            _round(broker, attack, chance, number + 1, outcome)
            if outcome.problems:
                break
        if not is_answering(broker.address) or not broker.process.is_running:
            outcome.errors.append(f"the broker does not answer any more: {broker.process.tail()}")
    return outcome


def _round(broker: Broker, attack: Attack, chance: random.Random, number: int, outcome: Outcome) -> None:
    outcome.runs += 1
    label = f"round {number}, {attack.__name__.strip('_')}"
    codes: list[int] = []
    sender = threading.Thread(target=lambda: codes.append(_send(broker, number)), name="chaos-send")
    data = attack(chance, log_end(broker))
    with socket.create_connection(("127.0.0.1", broker.port + 1), timeout=CLOSE_S_MAX) as attacker:
        sender.start()
        attacker.sendall(data)
        is_closed = _is_closed(attacker)
    sender.join()
    if not is_closed:
        outcome.errors.append(f"{label}: the connection is not closed")
    if codes not in ([FLUSH_SLAVE_TIMEOUT], [SLAVE_NOT_AVAILABLE]):
        outcome.lost.append(f"{label}: a send that no slave has was answered {codes}")


def _send(broker: Broker, number: int) -> int:
    fields = {
        "a": "chaos", "b": TOPIC, "c": "TBW102", "d": str(QUEUE_COUNT), "e": str(number % QUEUE_COUNT), "f": "0", "g": "0",
        "h": "0", "i": "WAIT\x01true\x02", "j": "0", "k": "false", "m": "false",
    }  # fmt: skip
    return frames.call(broker.address, SEND_MESSAGE_V2, fields, body_of(number, 100), timeout_seconds=30.0).code


def _is_closed(attacker: socket.socket) -> bool:
    got = 0
    with suppress(ConnectionResetError):
        while got < READ_SIZE_MAX:
            try:
                data = attacker.recv(1 << 16)
            except TimeoutError:
                return False
            if not data:
                return True
            got += len(data)
        return False
    return True
