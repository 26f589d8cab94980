"""What operators do, against a real name server and broker."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from rocketmq_client import ConsumeFrom
from rocketmq_client.blocking import Producer, PushConsumer
from rocketmq_tools.cli.tests.nouns import Command
from rocketmq_tools.errors import ExitCode
from rocketmq_tools.testing import LocalServer

WAIT_S = 40.0


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A name server and a broker for all tests here."""
    with LocalServer() as running:
        yield running


@pytest.fixture(autouse=True)
def _address(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAMESRV_ADDR", server.name_server)


def test_name_servers_are_listed_and_configured(server: LocalServer, rocketmq: Command) -> None:
    (row,) = rocketmq("namesrv", "ls", "-o", "json").data
    assert (row["address"], row["answers"], row["brokers"]) == (server.name_server, True, 1)
    assert rocketmq("namesrv", "config", "set", "waitSecondsForService=44").code == ExitCode.OK
    assert rocketmq("namesrv", "config", "get", "-o", "json").data["waitSecondsForService"] == "44"
    assert rocketmq("namesrv", "config", "set", "kvConfigPath=/x").code != ExitCode.OK


def test_pairs_of_name_servers_are_set_shown_and_removed(rocketmq: Command) -> None:
    assert rocketmq("namesrv", "kv", "put", "PLACES", "orders", "broker-a:4").code == ExitCode.OK
    assert rocketmq("namesrv", "kv", "ls", "PLACES", "-o", "json").data == {"orders": "broker-a:4"}
    assert rocketmq("namesrv", "kv", "delete", "PLACES", "orders").code == ExitCode.OK
    assert rocketmq("namesrv", "kv", "ls", "PLACES").code == ExitCode.NOT_FOUND


def test_a_drained_broker_takes_nothing_until_it_is_given_back(rocketmq: Command) -> None:
    rocketmq("topic", "create", "drained", "-q", "1")
    assert rocketmq("broker", "drain", "broker-a").code == ExitCode.OK
    try:
        (route,) = rocketmq("topic", "route", "drained", "-o", "json").data
        assert route["perm"] == "r"
    finally:
        assert rocketmq("broker", "undrain", "broker-a").code == ExitCode.OK
    assert rocketmq("produce", "drained", "x").code == ExitCode.OK
    assert rocketmq("broker", "drain", "nobody").code == ExitCode.NOT_FOUND


@pytest.mark.parametrize("what", ["log", "queues", "topics"])
def test_brokers_clean_up_when_told(rocketmq: Command, what: str) -> None:
    assert [r["cleaned"] for r in rocketmq("broker", "gc", "--what", what, "-o", "json").data] == [what]


def test_producers_and_raw_queue_entries_are_shown(server: LocalServer, rocketmq: Command) -> None:
    rocketmq("topic", "create", "raw", "-q", "1")
    with Producer(server.name_server, group="raw-producers") as producer:
        for number in range(3):
            producer.send("raw", b"%d" % number, tag="t")
        deadline = time.monotonic() + WAIT_S
        found: list[str] = []
        while "raw-producers" not in found and time.monotonic() < deadline:
            found = [row["group"] for row in rocketmq("broker", "producers", "-o", "json").data]
        assert "raw-producers" in found
    data = rocketmq("broker", "cq", "raw", "broker-a:0", "--offset", "1", "-o", "json").data
    assert (data["minQueueIndex"], data["maxQueueIndex"], len(data["queueData"])) == (0, 3, 2)
    table = rocketmq("broker", "cq", "raw", "broker-a:0", "--offset", "1").lines
    assert [line.split()[0] for line in table[1:]] == ["1", "2"]


def test_a_message_is_delivered_to_a_chosen_client_again(server: LocalServer, rocketmq: Command) -> None:
    rocketmq("topic", "create", "again", "-q", "1")
    sent = rocketmq("produce", "again", "x", "-o", "json").data["messages"][0]["message_id"]
    got: list[bytes] = []
    words = ("message", "deliver", sent, "--topic", "again", "--group", "again-group", "-o", "json")
    assert rocketmq("group", "create", "again-group").code == ExitCode.OK
    assert rocketmq(*words).code == ExitCode.NOT_FOUND  # nobody is online
    with PushConsumer(
        server.name_server,
        group="again-group",
        topics="again",
        listener=lambda message: got.append(message.body),
        consume_from=ConsumeFrom.FIRST,
    ):
        deadline = time.monotonic() + WAIT_S
        while not got and time.monotonic() < deadline:
            time.sleep(0.02)
        assert rocketmq(*words).data["consumeResult"] == "CR_SUCCESS"
        assert got == [b"x", b"x"]


def test_a_trace_that_is_not_there_is_said(rocketmq: Command) -> None:
    rocketmq("topic", "create", "traces", "-q", "1")
    printed = rocketmq("message", "trace", "0" * 32, "--topic", "traces")
    assert printed.code == ExitCode.NOT_FOUND
    assert re.search(r"nothing is known", printed.err)
