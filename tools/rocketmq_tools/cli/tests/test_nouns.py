"""Every noun and verb against a cluster with behaviour."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import click
import msgspec
import pytest
import yaml

from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_testkit.cluster_thread import ClusterThread
from rocketmq_testkit.fake_cluster import FakeCluster
from rocketmq_tools.cli.names import complete_broker, complete_group, complete_topic
from rocketmq_tools.cli.tests.nouns import Command
from rocketmq_tools.errors import ExitCode

# Where a shell started the tests in the background, they and their children ignore interrupts, as it told them to.
INTERRUPTIBLE = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
MAIN = "import sys; from rocketmq_tools.cli import main; sys.exit(main())"
NOUNS = (
    "produce",
    "consume",
    "topic",
    "group",
    "cluster",
    "broker",
    "message",
    "dlq",
    "context",
    "bench",
    "delayed",
    "top",
    "export",
    "apply",
)


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_and_verb_has_help_and_leaf_commands_have_examples(noun: str, rocketmq: Command) -> None:
    def look(*words: str) -> None:
        printed = rocketmq(*words, "--help")
        assert printed.code == ExitCode.OK
        head, _, commands = printed.out.partition("Commands:\n")
        if not commands:
            assert "Example" in head, words
            return
        for line in commands.splitlines():
            match = re.match(r"  ([a-z-]+)(  |$)", line)
            if match:
                look(*words, match[1])

    words = (noun, "ls") if noun == "broker" else (noun,)  # `broker --help` is the role's
    look(*words)


# -- topics ----------------------------------------------------------------------------------------------------------


def test_topics_are_created_listed_described_and_deleted(running: ClusterThread, rocketmq: Command) -> None:
    created = rocketmq("topic", "create", "orders", "-q", "3", "--attribute", "message.type=FIFO")
    assert created.code == ExitCode.OK
    assert [line.split()[:2] for line in created.lines[1:]] == [["orders", "broker-a"], ["orders", "broker-b"]]
    assert rocketmq("topic", "ls", "-o", "json").data == [{"topic": "orders"}]
    wide = rocketmq("topic", "ls", "--wide", "-o", "json").data
    assert wide == [
        {"topic": "orders", "brokers": ["broker-a", "broker-b"], "read_queues": 6, "write_queues": 6, "perm": "rw"}
    ]
    described = rocketmq("topic", "describe", "orders", "-o", "json").data
    assert described["brokers"][0]["attributes"] == {"message.type": "FIFO"}
    assert rocketmq("topic", "delete", "orders", "--yes").code == ExitCode.OK
    assert rocketmq("topic", "ls", "-o", "json").data == []


def test_the_table_of_a_topic_looks_exactly_so(running: ClusterThread, rocketmq: Command) -> None:
    running.call(lambda cluster: cluster.create_topic("orders", 2, 4))
    assert rocketmq("topic", "describe", "orders").out == (
        "BROKER    READ  WRITE  PERM  ORDER  ATTRIBUTES\n"
        "broker-a     2      2  r     no     -\n"
        "broker-b     2      2  r     no     -\n"
        "\n"
        "0 messages stored, last at -; groups: none\n"
    )


def test_creating_a_topic_twice_fails_unless_that_is_fine(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders")
    again = rocketmq("topic", "create", "orders")
    assert again.code == ExitCode.FAILED
    assert "exists already" in again.err
    assert "rocketmq topic alter orders" in again.err
    assert rocketmq("topic", "create", "orders", "--if-not-exists").code == ExitCode.OK


def test_alter_changes_only_what_is_named(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders", "--read-queues", "4", "--write-queues", "4", "--order")
    data = rocketmq("topic", "alter", "orders", "--write-queues", "2", "-o", "json").data
    assert {(b["read_queues"], b["write_queues"], b["perm"], b["order"]) for b in data} == {(4, 2, "rw", True)}
    data = rocketmq("topic", "perm", "orders", "r", "--broker", "broker-b", "-o", "json").data
    assert [(b["broker"], b["perm"]) for b in data] == [("broker-a", "rw"), ("broker-b", "r")]
    assert rocketmq("topic", "alter", "orders").code == ExitCode.USAGE


def test_an_unknown_topic_is_not_found_and_says_what_to_do(running: ClusterThread, rocketmq: Command) -> None:
    for words in (("describe",), ("route",), ("stats",), ("delete", "--yes"), ("alter", "-q", "2")):
        printed = rocketmq("topic", words[0], "nothing", *words[1:])
        assert printed.code == ExitCode.NOT_FOUND, words
        assert "rocketmq topic create" in printed.err


def test_deleting_without_a_terminal_needs_yes(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders")
    printed = rocketmq("topic", "delete", "orders")
    assert printed.code == ExitCode.USAGE
    assert "--yes" in printed.err
    assert rocketmq("topic", "ls", "-o", "json").data == [{"topic": "orders"}]


def test_routes_and_stats_name_every_broker_and_queue(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders", "-q", "2")
    rocketmq("produce", "orders", "x", "--queue", "broker-b:1")
    addresses = running.call(lambda cluster: [b.address for b in cluster.brokers.values()])
    assert [row["address"] for row in rocketmq("topic", "route", "orders", "-o", "json").data] == addresses
    stats = rocketmq("topic", "stats", "orders", "-o", "json").data
    assert {(r["broker"], r["queue_id"]): r["messages"] for r in stats} == {
        ("broker-a", 0): 0,
        ("broker-a", 1): 0,
        ("broker-b", 0): 0,
        ("broker-b", 1): 1,
    }


# -- produce and consume ---------------------------------------------------------------------------------------------


def test_a_message_goes_in_and_comes_out_whole(running: ClusterThread, rocketmq: Command) -> None:
    sent = rocketmq(
        "produce", "orders", "hello", "-k", "k1", "-k", "k2", "-t", "created", "-H", "source=cli", "-o", "json"
    )
    assert sent.code == ExitCode.OK
    assert sent.data["sent"] == 1
    got = msgspec.json.decode(rocketmq("consume", "orders", "-o", "json").out)
    assert (got["body"], got["keys"], got["tag"], got["properties"]["source"]) == (
        "hello", ["k1", "k2"], "created", "cli",
    )  # fmt: skip
    assert got["message_id"] == sent.data["messages"][0]["message_id"]


def test_each_line_of_standard_input_is_a_message(running: ClusterThread, rocketmq: Command) -> None:
    assert rocketmq("produce", "orders", stdin="a\nb\n\nc\n").code == ExitCode.OK
    assert sorted(rocketmq("consume", "orders", "-F", r"%b;\n").lines) == [";", "a;", "b;", "c;"]


def test_a_dash_sends_standard_input_as_one_message(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("produce", "orders", "-", stdin="a\nb\n")
    assert rocketmq("consume", "orders", "-F", "%b").out == "a\nb\n"


def test_json_lines_describe_whole_messages(running: ClusterThread, rocketmq: Command) -> None:
    lines = '{"body":"x","key":"1","tag":"t","properties":{"a":"b"}}\n{"body":{"n":1},"sharding_key":"s"}\n'
    assert rocketmq("produce", "orders", "--jsonl", stdin=lines).code == ExitCode.OK
    got = [msgspec.json.decode(line) for line in rocketmq("consume", "orders", "-o", "json").lines]
    by_body = {message["body"]: message for message in got}
    assert by_body["x"]["keys"] == ["1"]
    assert by_body['{"n":1}']["properties"]["__SHARDINGKEY"] == "s"
    bad = rocketmq("produce", "orders", "--jsonl", stdin='{"bodi":"x"}\n')
    assert bad.code == ExitCode.FAILED
    assert "line 1" in bad.err
    assert "bodi" in bad.err


def test_a_template_counts_and_the_rate_is_kept(running: ClusterThread, rocketmq: Command) -> None:
    printed = rocketmq("produce", "orders", "n{n}", "--template", "--count", "5", "--rate", "50", "-o", "json")
    assert printed.data["sent"] == 5
    assert printed.data["elapsed_ms"] >= 60
    assert sorted(running.call(lambda cluster: cluster.messages("orders"))) == [b"n%d" % i for i in range(1, 6)]


def test_a_missing_topic_is_created_when_asked(running: ClusterThread, rocketmq: Command) -> None:
    running.call(lambda cluster: [b.topics.pop("TBW102") for b in cluster.brokers.values()])
    refused = rocketmq("produce", "orders", "x")
    assert refused.code == ExitCode.NOT_FOUND
    assert rocketmq("produce", "orders", "x", "--create").code == ExitCode.OK


def test_a_refused_message_is_the_brokers_word_and_a_failure(running: ClusterThread, rocketmq: Command) -> None:
    def refuse(cluster: FakeCluster) -> None:
        for broker in cluster.brokers.values():
            broker.fail(RequestCode.SEND_MESSAGE_V2, ResponseCode.MESSAGE_ILLEGAL, "not like this", times=99)

    running.call(refuse)
    printed = rocketmq("produce", "orders", "x")
    assert printed.code == ExitCode.FAILED
    assert "not like this" in printed.err


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        ("start", ["0", "1", "2", "3", "4"]),
        ("end", []),
        ("-2", ["3", "4"]),
        ("+1", ["1", "2", "3", "4"]),
        ("3", ["3", "4"]),
    ],
)
def test_reading_begins_where_it_is_told(
    running: ClusterThread, rocketmq: Command, position: str, expected: list[str]
) -> None:
    rocketmq("topic", "create", "orders", "-q", "1", "--broker", "broker-a")
    for index in range(5):
        rocketmq("produce", "orders", str(index))
    assert rocketmq("consume", "orders", "--from", position, "-F", r"%b\n").lines == expected


def test_reading_begins_at_a_time(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders", "-q", "1", "--broker", "broker-a")
    rocketmq("produce", "orders", "old")
    running.call(lambda cluster: setattr(cluster.broker.messages("orders")[0], "store_timestamp", 1_000))
    rocketmq("produce", "orders", "new")
    assert rocketmq("consume", "orders", "--from", "@-1h", "-F", "%b").out == "new"
    assert rocketmq("consume", "orders", "--from", "@1970-01-01T00:00:00Z", "-F", "%b").out == "oldnew"


def test_a_group_remembers_what_it_printed(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders", "-q", "1", "--broker", "broker-a")
    for index in range(5):
        rocketmq("produce", "orders", str(index))
    assert rocketmq("consume", "orders", "-g", "g", "--from", "start", "-n", "3", "-F", r"%b\n").lines == [
        "0",
        "1",
        "2",
    ]
    assert running.call(lambda cluster: cluster.committed("g", "orders")) == 3
    assert rocketmq("consume", "orders", "-g", "g", "--wait", "200ms", "-F", r"%b\n").lines == ["3", "4"]
    assert rocketmq("group", "lag", "g", "-o", "json").data["lag"] == 0


def test_the_wait_of_a_group_begins_when_its_queues_have_answered(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("produce", "orders", "x")

    def refuse(cluster: FakeCluster) -> None:
        for broker in cluster.brokers.values():
            # The client tries again after a second, five times the silence.
            broker.fail(RequestCode.PULL_MESSAGE, ResponseCode.SYSTEM_ERROR, times=6)

    running.call(refuse)
    printed = rocketmq("consume", "orders", "-g", "g", "--from", "start", "--wait", "200ms", "-F", "%b")
    assert (printed.out, printed.code) == ("x", ExitCode.OK)


def test_an_interrupt_ends_following_with_a_count_and_success(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("produce", "orders", "x")
    following = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE + MAIN, "consume", "orders", "-f", "-F", r"%b\n"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert following.stdout is not None
        assert following.stdout.readline() == "x\n"
        following.send_signal(signal.SIGINT)
        _, err = following.communicate(timeout=60)
    finally:
        following.kill()
        following.communicate()
    assert following.returncode == 0, err
    assert err == "1 messages\n"


def test_tags_choose_messages(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("produce", "orders", "yes", "-t", "a")
    rocketmq("produce", "orders", "no", "-t", "b")
    assert rocketmq("consume", "orders", "--tag", "a || c", "-F", "%b").out == "yes"


def test_binary_bodies_survive_and_are_marked(running: ClusterThread, rocketmq: Command) -> None:
    lines = '{"body_base64":"/wA="}\n'
    rocketmq("produce", "orders", "--jsonl", stdin=lines)
    assert msgspec.json.decode(rocketmq("consume", "orders", "-o", "json").out)["body_base64"] == "/wA="
    assert r"\xff" in rocketmq("consume", "orders").out


@pytest.mark.parametrize(
    "words",
    [
        ("consume", "orders", "-F", "%z"),
        ("consume", "orders", "--from", "yesterday"),
        ("consume", "orders", "--broadcast"),
        ("consume", "orders", "--tag", "a", "--sql", "b > 1"),
        ("produce", "orders", "x", "-H", "novalue"),
        ("produce", "orders", "x", "--jsonl"),
        ("produce", "orders", "--count", "3"),
        ("topic", "perm", "orders", "x"),
        ("group", "seek", "g", "orders", "--to", "5"),
        ("message", "get"),
        ("message", "find", "orders"),
        ("message", "decode", "xyz"),
        ("message", "scan", "orders", "--grep", "("),
    ],
)
def test_wrong_usage_is_exit_code_2(running: ClusterThread, rocketmq: Command, words: tuple[str, ...]) -> None:
    printed = rocketmq(*words)
    assert printed.code == ExitCode.USAGE
    assert printed.err


# -- groups ----------------------------------------------------------------------------------------------------------


def test_groups_are_created_changed_described_and_deleted(running: ClusterThread, rocketmq: Command) -> None:
    assert rocketmq("group", "create", "billing", "--retries", "5").code == ExitCode.OK
    rocketmq("group", "create", "billing", "--no-broadcast")
    described = rocketmq("group", "describe", "billing", "-o", "json").data
    assert described["config"]["retry_max_times"] == 5
    assert described["config"]["consume_broadcast_enable"] is False
    assert rocketmq("group", "ls", "-o", "json").data == [{"group": "billing"}]
    assert rocketmq("group", "delete", "billing", "--yes").code == ExitCode.OK
    assert rocketmq("group", "describe", "billing").code == ExitCode.NOT_FOUND
    assert rocketmq("group", "lag", "billing").code == ExitCode.NOT_FOUND


def test_seek_shows_before_it_moves_and_moves_offline_groups(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders", "-q", "1", "--broker", "broker-a")
    for index in range(4):
        rocketmq("produce", "orders", str(index))
    rocketmq("group", "create", "g")
    plan = rocketmq("group", "seek", "g", "orders", "--to", "-1", "--dry-run", "-o", "json").data
    assert plan == [{"broker": "broker-a", "queue_id": 0, "from": None, "to": 3}]
    assert running.call(lambda cluster: cluster.committed("g", "orders")) == 0
    assert rocketmq("group", "seek", "g", "orders", "--to", "-1", "--yes").code == ExitCode.OK
    assert running.call(lambda cluster: cluster.committed("g", "orders")) == 3
    lag = rocketmq("group", "lag", "g", "-o", "json").data
    assert (lag["lag"], lag["queues"][0]["consumer_offset"]) == (1, 3)
    rocketmq("group", "create", "h")
    assert rocketmq("group", "copy-offsets", "g", "h", "orders").code == ExitCode.OK
    assert running.call(lambda cluster: cluster.committed("h", "orders")) == 3
    assert rocketmq("group", "ls", "--lag", "-o", "json").data == [{"group": "g", "lag": 1}, {"group": "h", "lag": 1}]


def test_clients_of_a_silent_group_are_not_found(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("group", "create", "g")
    printed = rocketmq("group", "clients", "g")
    assert printed.code == ExitCode.NOT_FOUND
    assert "no consumer of group g is connected" in printed.err


def test_skipping_and_diagnosing_a_group(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders", "-q", "1", "--broker", "broker-a")
    rocketmq("produce", "orders", "a", "--count", "3")
    rocketmq("group", "create", "g")
    running.call(lambda cluster: cluster.broker.offsets.update({("g", "orders", 0): 1}))
    sick = rocketmq("group", "diagnose", "g", "-o", "json")
    assert sick.code == ExitCode.UNHEALTHY
    assert (sick.data["lag"], [f["check"] for f in sick.data["findings"]]) == (2, ["nobody"])
    skipped = rocketmq("group", "skip", "g", "orders", "--yes")
    assert "skipped 2 messages" in skipped.err
    assert rocketmq("group", "lag", "g", "-o", "json").data["lag"] == 0
    well = rocketmq("group", "diagnose", "g")
    assert well.code == ExitCode.OK
    assert "warning" in well.out


# -- cluster and broker ----------------------------------------------------------------------------------------------


def test_a_healthy_cluster_is_0_and_a_dead_broker_is_7(running: ClusterThread, rocketmq: Command) -> None:
    assert rocketmq("cluster", "health", "-o", "json").data["healthy"] is True
    assert [row["broker"] for row in rocketmq("cluster", "info", "-o", "json").data] == ["broker-a", "broker-b"]

    def kill(cluster: FakeCluster) -> None:
        server = cluster.broker.server
        assert server is not None
        assert server._server is not None
        server._server.close()
        for connection in list(server.connections):
            connection.abort("killed by the test")

    running.call(kill)
    printed = rocketmq("cluster", "health")
    assert printed.code == ExitCode.UNHEALTHY
    assert re.search(r"broker +broker-a:0 +no", printed.out)
    waited = rocketmq("cluster", "health", "--wait", "--timeout", "100ms")
    assert waited.code == ExitCode.UNHEALTHY


def test_a_cluster_that_does_not_answer_is_unreachable(rocketmq: Command) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        for words in (("topic", "ls"), ("produce", "orders", "x"), ("consume", "orders"), ("broker", "ls")):
            printed = rocketmq("-n", address, *words)
            assert printed.code == ExitCode.UNREACHABLE, printed.err
            assert address in printed.err
        assert rocketmq("-n", address, "cluster", "health").code == ExitCode.UNHEALTHY


def test_broker_configuration_is_shown_and_changed(running: ClusterThread, rocketmq: Command) -> None:
    assert rocketmq("broker", "config", "get", "broker-a", "flushDiskType", "-o", "json").data == {
        "flushDiskType": "ASYNC_FLUSH"
    }
    assert rocketmq("broker", "config", "set", "broker-a", "fileReservedTime=48").code == ExitCode.OK
    assert rocketmq("broker", "config", "get", "broker-a", "fileReservedTime", "-o", "yaml").out == (
        "fileReservedTime: '48'\n"
    )
    assert rocketmq("broker", "config", "get", "broker-a", "nonsense").code == ExitCode.NOT_FOUND
    assert rocketmq("broker", "config", "set", "broker-a", "storePathRootDir=/x").code == ExitCode.NOT_AUTHORISED
    assert rocketmq("broker", "status", "broker-z").code == ExitCode.NOT_FOUND
    status = rocketmq("broker", "status", "broker-a", "-o", "json").data
    assert status["brokerVersionDesc"] == "V5_5_0"
    listed = rocketmq("broker", "ls", "-o", "json").data
    assert [(b["broker"], b["in_tps"], b["disk_used"]) for b in listed] == [
        ("broker-a", 1.0, "25%"),
        ("broker-b", 1.0, "25%"),
    ]


# -- messages --------------------------------------------------------------------------------------------------------


def test_a_message_is_found_by_every_way(running: ClusterThread, rocketmq: Command) -> None:
    sent = rocketmq("produce", "orders", "hello", "-k", "k1", "-o", "json").data["messages"][0]
    broker, _, queue_id = sent["queue"].rpartition(":")
    place = ("--topic", "orders", "--queue", f"{broker}:{queue_id}", "--offset", "0")
    for words in (
        (sent["offset_message_id"],),
        (sent["message_id"], "--topic", "orders"),
        place,
    ):
        got = rocketmq("message", "get", *words, "-o", "json")
        assert got.code == ExitCode.OK, got.err
        assert got.data["message_id"] == sent["message_id"]
    assert rocketmq("message", "get", *place, "--body").out == "hello"
    found = rocketmq("message", "find", "orders", "--key", "k1", "-o", "json").data
    assert [m["body"] for m in found] == ["hello"]
    assert rocketmq("message", "find", "orders", "--id", sent["message_id"]).code == ExitCode.OK
    assert rocketmq("message", "find", "orders", "--key", "other").code == ExitCode.NOT_FOUND
    missing = rocketmq("message", "get", "--topic", "orders", "--queue", f"{broker}:{queue_id}", "--offset", "9")
    assert missing.code == ExitCode.NOT_FOUND


def test_scan_looks_into_bodies(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("produce", "orders", "n{n}", "--template", "--count", "20")
    found = rocketmq("message", "scan", "orders", "--from", "start", "--grep", "^n1[0-3]$", "-o", "json").data
    assert sorted(m["body"] for m in found) == ["n10", "n11", "n12", "n13"]
    assert len(rocketmq("message", "scan", "orders", "-c", "3", "-o", "json").data) == 3


def test_ids_explain_themselves(rocketmq: Command) -> None:
    data = rocketmq("message", "decode", "0A00000100002A9F0000000000000003", "-o", "json").data
    assert data == {"kind": "offset id", "host": "10.0.0.1", "port": 10911, "physical_offset": 3}
    data = rocketmq("message", "decode", "7F0000014C2B18B4AAC2000003E80007", "--unique", "-o", "json").data
    assert (data["host"], data["pid"], data["counter"]) == ("127.0.0.1", 0x4C2B, 7)
    assert data["created"].endswith("01.000Z")


def test_yaml_is_the_same_data_as_json(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders")
    as_json = rocketmq("topic", "describe", "orders", "-o", "json").data
    assert yaml.safe_load(rocketmq("topic", "describe", "orders", "-o", "yaml").out) == as_json


def test_names_are_completed_and_kept_for_a_moment(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders")
    rocketmq("topic", "create", "payments")
    rocketmq("group", "create", "billing")
    context = click.Context(click.Command("x"))
    parameter = click.Argument(["topic"])
    assert complete_topic(context, parameter, "o") == ["orders"]
    assert complete_group(context, parameter, "") == ["billing"]
    assert complete_broker(context, parameter, "broker-") == ["broker-a", "broker-b"]
    asked = running.call(lambda cluster: len(cluster.broker.requests))
    assert complete_topic(context, parameter, "p") == ["payments"]
    assert running.call(lambda cluster: len(cluster.broker.requests)) == asked


def test_completion_is_silent_when_nothing_answers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("NAMESRV_ADDR", f"127.0.0.1:{closed.getsockname()[1]}")
        assert complete_topic(click.Context(click.Command("x")), click.Argument(["topic"]), "") == []


# -- bench -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [("produce", "-w", "8"), ("produce", "--batch", "10"), ("latency", "--rate", "200")])
def test_bench_reports_rates_and_percentiles(running: ClusterThread, rocketmq: Command, words: tuple[str, ...]) -> None:
    printed = rocketmq("bench", *words, "-d", "400ms", "--warmup", "50ms", "-o", "json")
    assert printed.code == ExitCode.OK, printed.err
    data = printed.data
    assert data["messages"] > 0
    assert data["failed"] == 0
    assert 0 < data["p50_ms"] <= data["p99_ms"] <= data["max_ms"]
    assert data["broker-a_rss_mb"] > 1  # the fake brokers are processes of this machine too


def test_bench_consume_counts_what_is_there(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("produce", "BenchmarkTest", "x", "--count", "100")
    printed = rocketmq("bench", "consume", "--from-start", "-d", "1s", "--warmup", "0s", "-o", "json")
    assert printed.data["messages"] == 100


def test_a_delayed_message_is_recalled_by_the_handle_of_its_receipt(running, rocketmq):
    sent = rocketmq("produce", "orders", "later", "--create", "--delay", "1h", "-o", "json")
    assert sent.code == 0, sent.err
    handle = sent.data["messages"][0]["recall_handle"]
    recalled = rocketmq("delayed", "recall", handle, "-o", "json")
    assert recalled.data == {"recalled": [sent.data["messages"][0]["message_id"]]}
    assert rocketmq("delayed", "recall", handle).code != 0


def test_a_time_of_delivery_that_is_none_is_explained(running, rocketmq):
    refused = rocketmq("produce", "orders", "x", "--at", "tomorrow")
    assert refused.code == 2
    assert "'tomorrow' is no time" in refused.err
