"""Fuzzed, giant, cut and slow frames against real processes: closed with a reason in the log, others unhurt, memory flat."""

from __future__ import annotations

import json
import random
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from e2e import frames
from e2e.clusters import Cluster, Kind
from e2e.performance.observation import memory
from e2e.processes import Process, wait_until

pytestmark = [pytest.mark.local, pytest.mark.timeout(120)]
CLOSE_SECONDS_MAX = 5.0
SEED = 20261124
FUZZED_CONNECTIONS = 300
MEMORY_GROWTH_MIB_MAX = 30.0
HALF_SENT_CONNECTIONS = 200
QUESTION = {"broker": 28, "namesrv": 106}


class Target:
    """One server process under attack, with an honest connection to it."""

    def __init__(self, role: str, address: str, process: Process) -> None:
        self.role, self.address, self.process = role, address, process
        self.honest = frames.Link(address, timeout_seconds=10.0)

    def assert_well(self) -> None:
        """The honest connection is served, and so is a new one."""
        assert self.honest.call(QUESTION[self.role]).code == 0
        assert frames.call(self.address, QUESTION[self.role]).code == 0

    def attack(self) -> socket.socket:
        host, port = self.address.split(":")
        return socket.create_connection((host, int(port)), timeout=CLOSE_SECONDS_MAX)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(Kind.OURS, tmp_path_factory.mktemp("hostile") / "cluster") as running:
        yield running


@pytest.fixture(params=["broker", "namesrv"])
def target(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Target]:
    if request.param == "broker":
        made = Target("broker", cluster.broker.address, cluster.broker.process)
    else:
        made = Target("namesrv", cluster.namesrv_address, cluster.namesrvs[0])
    yield made
    made.honest.close()


HEADER = json.dumps({"code": 105, "opaque": 1, "flag": 0, "language": "JAVA", "version": 513}).encode()
BROKEN = {
    "a length over the limit": struct.pack(">i", 0x7FFFFFFF) + b"x" * 64,
    "a negative length": struct.pack(">i", -1) + b"x" * 64,
    "a length of zero": struct.pack(">i", 0) + b"x" * 64,
    "a header longer than its frame": struct.pack(">ii", 20, 4000) + b"x" * 64,
    "a header that is no JSON": struct.pack(">ii", 4 + 10, 10) + b"not json!!",
    "a header that is no object": struct.pack(">ii", 4 + 2, 2) + b"[]",
    "a serialization that nobody knows": struct.pack(">ii", 4 + len(HEADER), 7 << 24 | len(HEADER)) + HEADER,
    "a cut binary header": struct.pack(">ii", 4 + 10, 1 << 24 | 10) + b"\x00" * 10,
    "another protocol": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" + b" " * 64,
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_frame_closes_its_connection_with_a_reason_and_hurts_nobody(target: Target, what: str) -> None:
    size = target.process.output.stat().st_size
    with target.attack() as attacker:
        port = attacker.getsockname()[1]
        attacker.sendall(BROKEN[what])
        assert read_to_end(attacker) is not None, f"{what}: the connection stays open"

    def logged() -> bool:
        return any(str(port) in line for line in target.process.output.read_text(errors="replace")[size:].splitlines())

    wait_until(logged, f"{what}: a line about the peer in the log of the {target.role}", 5)
    target.assert_well()


def read_to_end(connection: socket.socket) -> bytes | None:
    """All bytes until the peer closes; ``None`` when it does not within the socket's timeout."""
    got = b""
    try:
        while data := connection.recv(65536):
            got += data
    except TimeoutError:
        return None
    except ConnectionResetError:
        pass  # closed with our bytes unread: a reset is a close too
    return got


def test_random_bytes_leave_the_server_well_and_its_memory_flat(target: Target) -> None:
    chance = random.Random(SEED)
    before = memory(target.process.pid).private_mib
    for _ in range(FUZZED_CONNECTIONS):
        with target.attack() as attacker:
            attacker.sendall(fuzzed(chance))
            attacker.shutdown(socket.SHUT_WR)
            assert read_to_end(attacker) is not None
    target.assert_well()
    assert memory(target.process.pid).private_mib < before + MEMORY_GROWTH_MIB_MAX


def fuzzed(chance: random.Random) -> bytes:
    """Valid frames with damage, or plain noise."""
    frame = bytearray(
        frames.encode(
            chance.choice([10, 11, 12, 34, 105, 106, 310, 320]),
            {"topic": "t", "queueId": "0"},
            chance.randbytes(40),
            opaque=7,
        )
    )
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 400))
    if kind == 1:
        return bytes(frame[: chance.randrange(1, len(frame))])
    for _ in range(chance.randrange(1, 8)):
        frame[chance.randrange(len(frame) if kind == 2 else 8)] = chance.randrange(256)
    return bytes(frame)


def test_promised_but_unsent_bytes_cost_no_memory(target: Target) -> None:
    before = memory(target.process.pid).private_mib
    attackers = [target.attack() for _ in range(HALF_SENT_CONNECTIONS)]
    try:
        for attacker in attackers:
            # 8 MiB each is within the limit of a frame; together it would be 1.6 GiB if it were allocated on promise.
            attacker.sendall(struct.pack(">ii", 8 * 1024 * 1024, 100) + b"{")
        target.assert_well()
        assert memory(target.process.pid).private_mib < before + MEMORY_GROWTH_MIB_MAX
    finally:
        for attacker in attackers:
            attacker.close()
    target.assert_well()


def test_a_frame_that_comes_byte_by_byte_is_answered_and_nobody_waits_for_it(target: Target) -> None:
    frame = frames.encode(QUESTION[target.role], opaque=3)
    with target.attack() as slow:
        slow.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for index in range(len(frame)):
            slow.sendall(frame[index : index + 1])
            if index % 40 == 0:
                started = time.monotonic()
                target.assert_well()
                assert time.monotonic() - started < 1.0
        (size,) = struct.unpack(">i", slow.recv(4, socket.MSG_WAITALL))
        assert frames.decode(slow.recv(size, socket.MSG_WAITALL)).opaque == 3


def test_a_peer_that_never_reads_its_answers_does_not_grow_the_server(target: Target) -> None:
    before = memory(target.process.pid).private_mib
    question = frames.encode(QUESTION[target.role], opaque=5) * 500
    with target.attack() as deaf:
        deaf.settimeout(0.5)
        try:
            for _ in range(400):
                deaf.sendall(question)
        except (TimeoutError, ConnectionError):
            pass  # the server stopped reading, or gave up on us: both are its right
        target.assert_well()
        assert memory(target.process.pid).private_mib < before + 2 * MEMORY_GROWTH_MIB_MAX
    target.assert_well()


def test_an_unknown_request_code_is_answered_as_not_supported(target: Target) -> None:
    assert frames.call(target.address, 31_999).code == 3
    target.assert_well()
