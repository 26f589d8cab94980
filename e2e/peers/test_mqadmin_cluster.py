"""mqadmin 5.5 with more than one broker: commands that go to all of a cluster, and views that put their answers together."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.drivers import Driver
from e2e.peers.mqadmin import Admin, prepared
from e2e.processes import wait_until
from rocketmq_client import MessageQueue
from rocketmq_client.blocking import Admin as OurAdmin
from rocketmq_client.blocking import Producer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(240)]
BROKERS = ("broker-a", "broker-b")


@pytest.fixture(scope="module")
def two(peer_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two masters behind two name servers."""
    directory = tmp_path_factory.mktemp("two") / "cluster"
    with Cluster(peer_kind, directory, namesrv_count=2, broker_names=BROKERS, settings=TEST_BROKER_SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def admin(java5: Driver, two: Cluster) -> Iterator[Admin]:
    with prepared(java5, two) as made:
        yield made


def topic_of(admin: Admin, suffix: str) -> str:
    """A topic of two queues at each broker."""
    topic = f"{admin.topic}-{suffix}"
    admin("updateTopic", "-c", "PeerCluster", "-t", topic, "-r", "2", "-w", "2")
    wait_until(
        lambda: len(admin.tries("topicRoute", "-t", topic, "-l").rows) >= len(BROKERS), "both brokers in the route"
    )
    return topic


def test_both_brokers_are_listed(admin: Admin) -> None:
    rows = admin("clusterList").rows
    assert [row[:3] for row in rows] == [["PeerCluster", name, "0"] for name in BROKERS]
    assert [row[1] for row in admin("clusterList", "-m").rows] == list(BROKERS)


def test_a_topic_is_made_measured_and_deleted_at_both(admin: Admin) -> None:
    topic = topic_of(admin, "made")
    status = admin("topicStatus", "-t", topic).rows
    assert [row[:2] for row in status if row[0] in BROKERS] == [[b, q] for b in BROKERS for q in ("0", "1")]
    assert "PeerCluster" in admin("topicClusterList", "-t", topic).output.split()
    assert admin("deleteTopic", "-c", "PeerCluster", "-t", topic).output.count("success") >= 1
    wait_until(lambda: topic not in admin("topicList").output.split(), "the topic is gone from the name servers")


def test_messages_of_both_are_found_and_printed(admin: Admin) -> None:
    topic = topic_of(admin, "found")
    with Producer(admin.cluster.namesrv_address) as producer:
        for broker in BROKERS:
            producer.send(topic, f"from {broker}", keys="shared-key", queue=MessageQueue(topic, broker, 1))
    found = wait_until(
        lambda: rows if len(rows := admin.tries("queryMsgByKey", "-t", topic, "-k", "shared-key").rows) >= 2 else None,
        "both are in the index",
        30,
        poll_seconds=0.5,
    )
    assert len({row[0] for row in found}) == 2
    assert set(re.findall(r"from (broker-\w)", admin("printMsg", "-t", topic, "-d", "true").output)) == set(BROKERS)


def test_settings_of_all_brokers_of_the_cluster_are_shown_and_changed(admin: Admin) -> None:
    shown = admin("getBrokerConfig", "-c", "PeerCluster").output
    assert {name for name in BROKERS if re.search(rf"brokerName +=  {name}\b", shown)} == set(BROKERS)
    changed = admin("updateBrokerConfig", "-c", "PeerCluster", "-k", "fileReservedTime", "-v", "49").output
    assert changed.count("success") == len(BROKERS)
    assert len(re.findall(r"fileReservedTime +=  49", admin("getBrokerConfig", "-c", "PeerCluster").output)) == 2
    status = admin("brokerStatus", "-c", "PeerCluster").output
    assert status.count("brokerVersionDesc") == len(BROKERS)


def test_a_group_of_both_is_made_moved_copied_and_deleted(admin: Admin) -> None:
    topic, group = topic_of(admin, "moved"), f"{admin.group}-moved"
    assert admin("updateSubGroup", "-c", "PeerCluster", "-g", group).output.count("success") == len(BROKERS)
    with Producer(admin.cluster.namesrv_address) as producer:
        for broker in BROKERS:
            producer.send(topic, "x", queue=MessageQueue(topic, broker, 0))
    moved = admin("resetOffsetByTime", "-g", group, "-t", topic, "-s", "0").rows
    assert {(row[0], row[1]) for row in moved if row[0] in BROKERS} == {(b, q) for b in BROKERS for q in ("0", "1")}

    def behind(of: str, on: str = topic) -> list[tuple[str, str, int]]:
        # mqadmin shows no progress of a group that never was online: it wants the route of its retry topic.
        with OurAdmin(admin.cluster.namesrv_address) as ours:
            queues = ours.groups.progress(of, topic=on).queues
        return sorted((q.queue.broker_name, str(q.queue.queue_id), q.lag) for q in queues)

    assert behind(group) == [(b, q, int(q == "0")) for b in BROKERS for q in ("0", "1")]
    copy = f"{group}-copy"
    admin("updateSubGroup", "-c", "PeerCluster", "-g", copy)
    # Like the progress, a copy is only made of a group that was online.
    wait_until(lambda: {row[2] for row in behind(admin.group, admin.topic)} == {0}, "all offsets are committed", 30)
    assert "success" in admin("cloneGroupOffset", "-s", admin.group, "-d", copy, "-t", admin.topic).output
    assert behind(copy, admin.topic) == behind(admin.group, admin.topic) != []
    admin("skipAccumulatedMessage", "-g", group, "-t", topic)
    assert {row[2] for row in behind(group)} == {0}
    assert admin("deleteSubGroup", "-c", "PeerCluster", "-g", copy).output.count("success") == len(BROKERS)


def test_write_permission_is_taken_from_one_broker_at_every_name_server(admin: Admin, two: Cluster) -> None:
    topic = topic_of(admin, "wiped")
    wiped = admin("wipeWritePerm", "-b", "broker-a").output
    try:
        assert len(re.findall(r"OK, \d+", wiped)) == two.namesrv_count, wiped
        rows = {row[1]: row[-1] for row in admin("topicRoute", "-t", topic, "-l").rows if row[0] == "PeerCluster"}
        assert rows == {"broker-a": "4", "broker-b": "6"}
    finally:
        admin("addWritePerm", "-b", "broker-a")


@pytest.mark.parametrize("command", ["cleanExpiredCQ", "cleanUnusedTopic", "deleteExpiredCommitLog"])
def test_house_keeping_goes_to_the_whole_cluster(admin: Admin, command: str) -> None:
    assert "success" in admin(command, "-c", "PeerCluster").output


def test_statistics_and_replication_of_all_are_shown(admin: Admin) -> None:
    assert any(admin.topic.startswith(row[0][:40]) for row in admin("statsAll", "-t", admin.topic).rows)
    out = admin("haStatus", "-c", "PeerCluster").output
    assert len(re.findall(r"#MasterAddr", out)) == len(BROKERS), out
