"""Replication with Apache on the other end: its master and our slave, our master and its slave; then reading from the slave alone.

This is the live migration path: whoever follows must end up with the same bytes, and consumers must find their messages at it when
the master is gone.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from e2e import frames
from e2e.clusters import Broker, Kind
from e2e.conftest import tools
from e2e.drivers import Driver, PeerError
from e2e.peers.replicas import BROKER, Group, caught_up, ha_status, is_answering, log_end
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(400)]

SEND_MESSAGE_V2 = 310
GET_ALL_TOPIC_CONFIG = 21
UPDATE_CONSUMER_OFFSET = 15
QUERY_CONSUMER_OFFSET = 14
CREATE_GROUP = 200
FLUSH_SLAVE_TIMEOUT = 12
WINDOW = 64
# Apache's slave copies tables for the first time about a minute after its start.
TABLES_SECONDS = 110.0
PAIRS = [(Kind.APACHE, Kind.OURS), (Kind.OURS, Kind.APACHE), (Kind.OURS, Kind.OURS)]
IDS = ["apache-master-our-slave", "our-master-apache-slave", "our-master-our-slave"]


@contextmanager
def group_of(directory: Path, master_kind: Kind, slave_kind: Kind) -> Iterator[Group]:
    if Kind.APACHE in (master_kind, slave_kind):
        with tools():
            from e2e import toolchain

            toolchain.apache()
    group = Group(directory, master_kind, slave_kind)
    try:
        yield group
    finally:
        group.stop()


@pytest.fixture(params=PAIRS, ids=IDS)
def group(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Group]:
    with group_of(tmp_path, *request.param) as made:
        yield made


_numbers = itertools.count(1)


def send_all(broker: Broker, topic: str, bodies: list[bytes], queues: int = 4) -> list[int]:
    """Send with a window of requests in flight; the codes in the order of the bodies."""
    codes: dict[int, int] = {}
    with frames.Link(broker.address, timeout_seconds=20) as link:
        opaques: list[int] = []

        def take() -> None:
            answer = link.receive()
            codes[answer.opaque] = answer.code

        for number, body in enumerate(bodies):
            ext = {
                "a": "pg", "b": topic, "c": "TBW102", "d": "4", "e": str(number % queues), "f": "0",
                "g": str(time.time_ns() // 1_000_000), "h": "0", "i": f"UNIQ_KEY\x01{next(_numbers):032X}\x02TAGS\x01TagA\x02",
                "j": "0", "k": "false", "m": "false", "n": BROKER,
            }  # fmt: skip
            opaques.append(link.send(SEND_MESSAGE_V2, ext, body))
            if len(opaques) - len(codes) >= WINDOW:
                take()
        while len(codes) < len(opaques):
            take()
    return [codes[opaque] for opaque in opaques]


def log_bytes(broker: Broker, end: int) -> bytes:
    """The commit log as it stands in the files, from its beginning."""
    data = bytearray()
    for path in sorted((broker.store / "commitlog").iterdir()):
        start = int(path.name)
        if start < end:
            assert start == len(data), f"{path} does not continue {len(data)} bytes"
            data += path.read_bytes()[: end - start]
    return bytes(data)


def has_topic(broker: Broker, topic: str) -> bool:
    table = frames.call(broker.address, GET_ALL_TOPIC_CONFIG).json_lenient()["topicConfigTable"]
    return topic in table


def consume_all(java: Driver, group: Group, topic: str, name: str, count: int) -> list[dict[str, Any]]:
    java.call(
        "consumer.start",
        name=name,
        group=f"{name}-group",
        namesrv=group.masters.namesrv_address,
        subscriptions=[{"topic": topic}],
    )
    try:
        return java.receive(name, count, 90)
    finally:
        java.call("consumer.stop", name=name)


def test_a_slave_has_the_masters_bytes_and_serves_them_when_the_master_is_dead(
    group: Group, java5: Driver, unique: Callable[[str], str]
) -> None:
    master = group.start_master()
    topic = unique("Replicated")
    old = [b"old %d " % n + b"x" * 4000 for n in range(5000)]
    assert set(send_all(master, topic, old)) == {0}
    # Several segments before the slave starts: it must get the first one, too.
    assert log_end(master) > 16 * 1024 * 1024
    slave = group.start_slave()
    caught_up(master, slave)
    new = [b"new %d" % n for n in range(2000)]
    assert set(send_all(master, topic, new)) == {0}
    end = caught_up(master, slave)
    whole = log_bytes(master, end)
    assert len(whole) == end
    if group.slaves.kind is Kind.OURS or group.masters.kind is Kind.OURS:
        assert log_bytes(slave, end) == whole
    wait_until(lambda: has_topic(slave, topic), "the slave knows the topic", TABLES_SECONDS, poll_seconds=0.5)

    master.process.kill()
    wait_until(lambda: group.registered_ids() == {"1"}, "the name server notices", 30, poll_seconds=0.2)
    received = consume_all(java5, group, topic, unique("reader"), len(old) + len(new))
    assert {message["body_crc32"] for message in received} == {crc32(body) for body in old + new}


@pytest.mark.parametrize(("master_kind", "slave_kind"), PAIRS, ids=IDS)
def test_a_synchronous_master_answers_with_the_slave_and_not_without(
    tmp_path: Path, master_kind: Kind, slave_kind: Kind, unique: Callable[[str], str]
) -> None:
    with group_of(tmp_path, master_kind, slave_kind) as group:
        master = group.start_master(brokerRole="SYNC_MASTER", inSyncReplicas="2", slaveTimeout="1000")
        topic = unique("Sync")
        assert send_all(master, topic, [b"nobody there"]) == [FLUSH_SLAVE_TIMEOUT]
        slave = group.start_slave()
        wait_until(lambda: send_all(master, topic, [b"probe"]) == [0], "the slave acknowledges", 60, poll_seconds=0.2)
        assert set(send_all(master, topic, [b"%d" % n for n in range(2000)])) == {0}
        # What was answered is at the slave already.
        assert log_end(slave) == log_end(master)
        slave.process.kill()
        assert send_all(master, topic, [b"too late"]) == [FLUSH_SLAVE_TIMEOUT]


def test_a_slave_that_was_down_goes_on_where_it_stopped(group: Group, unique: Callable[[str], str]) -> None:
    master = group.start_master()
    topic = unique("Gap")
    slave = group.start_slave()
    send_all(master, topic, [b"before %d" % n for n in range(500)])
    caught_up(master, slave)
    slave.process.kill()
    send_all(master, topic, [b"meanwhile %d" % n for n in range(3000)])
    slave.process.start()
    wait_until(lambda: is_answering(slave), "the slave is back", 60, poll_seconds=0.2)
    end = caught_up(master, slave)
    assert log_bytes(slave, end) == log_bytes(master, end)


def test_consumer_offsets_reach_the_slave(group: Group, unique: Callable[[str], str]) -> None:
    master = group.start_master()
    topic, consumers = unique("Offsets"), unique("group")
    send_all(master, topic, [b"%d" % n for n in range(100)])
    created = frames.call(master.address, CREATE_GROUP, body=json.dumps({"groupName": consumers}).encode())
    assert created.code == 0
    fields = {"consumerGroup": consumers, "topic": topic, "queueId": "1"}
    assert frames.call(master.address, UPDATE_CONSUMER_OFFSET, {**fields, "commitOffset": "17"}).code == 0
    slave = group.start_slave()
    caught_up(master, slave)

    def copied() -> bool:
        answer = frames.call(slave.address, QUERY_CONSUMER_OFFSET, fields)
        return answer.code == 0 and answer.ext.get("offset") == "17"

    wait_until(copied, "the slave knows the group's offset", TABLES_SECONDS, poll_seconds=0.5)


def test_both_kinds_describe_replication_alike(tmp_path: Path, unique: Callable[[str], str]) -> None:
    shapes: dict[Kind, list[Any]] = {}
    for master_kind, slave_kind in PAIRS[:2]:
        with group_of(tmp_path / master_kind.value, master_kind, slave_kind) as group:
            master, slave = group.start_master(), group.start_slave()
            send_all(master, unique("Shape"), [b"x"] * 10)
            caught_up(master, slave)
            wait_acknowledged(master)
            for kind, broker in ((master_kind, master), (slave_kind, slave)):
                status = ha_status(broker)
                connection = status["haConnectionInfo"][0] if status["haConnectionInfo"] else {}
                shapes.setdefault(kind, []).append(
                    (status["master"], set(status), set(connection), set(status["haClientRuntimeInfo"]))
                )
    ours, theirs = (sorted(shapes[kind], key=lambda shape: shape[0]) for kind in (Kind.OURS, Kind.APACHE))
    for our, their in zip(ours, theirs, strict=True):
        assert our[0] == their[0]
        for our_fields, their_fields in zip(our[1:], their[1:], strict=True):
            assert their_fields <= our_fields, f"missing: {their_fields - our_fields}"


def wait_acknowledged(master: Broker) -> None:
    """Wait until the master's own account says that its one slave has everything."""
    end = log_end(master)

    def shown() -> bool:
        return [connection["slaveAckOffset"] for connection in ha_status(master)["haConnectionInfo"]] == [end]

    wait_until(shown, f"the slave acknowledges {end}", 30, poll_seconds=0.2)


def test_mqadmin_shows_the_slave(java5: Driver, tmp_path: Path, unique: Callable[[str], str]) -> None:
    with group_of(tmp_path, Kind.OURS, Kind.OURS) as group:
        master, slave = group.start_master(), group.start_slave()
        send_all(master, unique("Admin"), [b"x"] * 10)
        caught_up(master, slave)
        try:
            shown = java5.mqadmin("haStatus", "-b", master.address, "-n", group.masters.namesrv_address)
        except PeerError as error:
            pytest.fail(str(error))
        assert not shown.failed, shown.errors
        assert "127.0.0.1" in shown.output
