"""``rocketmq dlq`` against a cluster with behaviour."""

from __future__ import annotations

import csv
import io

import msgspec
import pytest

from rocketmq_common import names
from rocketmq_common.properties import encode_properties
from rocketmq_common.records import StoredMessage
from rocketmq_testkit.cluster_thread import ClusterThread
from rocketmq_testkit.fake_cluster import FakeCluster
from rocketmq_tools.cli.tests.nouns import Command
from rocketmq_tools.errors import ExitCode

DLQ = names.dlq_topic("billing")
RETRY = names.retry_topic("billing")


@pytest.fixture
def letters(running: ClusterThread) -> ClusterThread:
    """Three dead letters of the group billing at each of two brokers, from two topics."""

    def fill(cluster: FakeCluster) -> None:
        cluster.create_topic("orders", 1)
        cluster.create_topic("payments", 1)
        cluster.create_topic(DLQ, 1)
        cluster.create_topic(RETRY, 1)
        for number, broker in enumerate(cluster.brokers.values()):
            for index in range(3):
                origin = "orders" if index < 2 else "payments"
                found = {
                    "KEYS": f"k{number}{index}",
                    "UNIQ_KEY": f"id{number}{index}",
                    "RETRY_TOPIC": origin,
                    "DLQ_ORIGIN_TOPIC": origin,
                    "ORIGIN_MESSAGE_ID": "x",
                    "RECONSUME_TIME": "16",
                    "colour": "red",
                }
                broker.put(
                    StoredMessage(
                        topic=DLQ, body=b"%d-%d" % (number, index), properties=encode_properties(found),
                        reconsume_times=16, born_host=bytes(8),
                    )
                )  # fmt: skip

    running.call(fill)
    return running


def test_dead_letters_are_counted_and_shown_with_their_origin(letters: ClusterThread, rocketmq: Command) -> None:
    assert [(r["group"], r["letters"], r["pending"]) for r in rocketmq("dlq", "ls", "-o", "json").data] == [
        ("billing", 6, 6)
    ]
    shown = rocketmq("dlq", "show", "billing", "-o", "json").data
    assert {(m["body"], m["origin_topic"], m["reconsume_times"]) for m in shown} == {
        (f"{n}-{i}", "orders" if i < 2 else "payments", 16) for n in range(2) for i in range(3)
    }
    (one,) = rocketmq("dlq", "show", "billing", "--key", "k01", "-o", "json").data
    assert one["body"] == "0-1"
    assert len(rocketmq("dlq", "show", "billing", "--topic", "payments", "-c", "1", "-o", "json").data) == 1
    assert rocketmq("dlq", "show", "nobody").code == ExitCode.NOT_FOUND


def test_each_letter_is_sent_again_once_to_its_group_over_several_runs(
    letters: ClusterThread, rocketmq: Command
) -> None:
    assert len(rocketmq("dlq", "resend", "billing", "--dry-run", "-o", "json").data) == 6
    assert letters.call(lambda cluster: cluster.messages(RETRY)) == []
    assert rocketmq("dlq", "resend", "billing").code == ExitCode.USAGE  # nobody said --yes
    assert len(rocketmq("dlq", "resend", "billing", "--yes", "-o", "json").data) == 6
    assert rocketmq("dlq", "resend", "billing", "--yes", "-o", "json").data == []

    def copies(cluster: FakeCluster) -> list[StoredMessage]:
        return [m for broker in cluster.brokers.values() for m in broker.messages(RETRY)]

    found = letters.call(copies)
    assert sorted(m.body for m in found) == [b"0-0", b"0-1", b"0-2", b"1-0", b"1-1", b"1-2"]
    assert {m.reconsume_times for m in found} == {0}
    properties = found[0].property_map()
    assert properties["colour"] == "red"
    assert properties["RETRY_TOPIC"] in ("orders", "payments")
    assert "RECONSUME_TIME" not in properties
    assert [(r["letters"], r["pending"]) for r in rocketmq("dlq", "ls", "-o", "json").data] == [(6, 0)]
    assert len(rocketmq("dlq", "show", "billing", "--all", "-o", "json").data) == 6


def test_chosen_letters_go_to_their_topics_when_asked(letters: ClusterThread, rocketmq: Command) -> None:
    words = ("dlq", "resend", "billing", "--id", "id12", "--to", "origin", "--yes", "-o", "json")
    (row,) = rocketmq(*words).data
    assert row["topic"] == "payments"
    assert letters.call(lambda cluster: cluster.messages("payments")) == [b"1-2"]
    (copy,) = letters.call(lambda c: [m for b in c.brokers.values() for m in b.messages("payments")])
    assert "RETRY_TOPIC" not in copy.property_map()
    # A choice says nothing about the others, nor about itself: it can be sent again.
    assert len(rocketmq(*words).data) == 1


def test_letters_are_exported_whole_and_purged(letters: ClusterThread, rocketmq: Command) -> None:
    lines = [msgspec.json.decode(line) for line in rocketmq("dlq", "export", "billing").lines]
    assert {line["properties"]["colour"] for line in lines} == {"red"}
    assert sorted(line["body"] for line in lines)[0] == "0-0"
    rows = list(csv.DictReader(io.StringIO(rocketmq("dlq", "export", "billing", "--csv").out)))
    assert {(row["topic"], row["tries"]) for row in rows} == {("orders", "16"), ("payments", "16")}
    purged = rocketmq("dlq", "purge", "billing", "--yes")
    assert purged.code == ExitCode.OK, purged.err
    assert "6 dead letters" in purged.err
    assert rocketmq("dlq", "ls", "-o", "json").data == []
