"""mqadmin 5.5, as its users type it: exit without exception, the columns and the values."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from e2e.clusters import Cluster, Kind
from e2e.drivers import Driver
from e2e.peers.mqadmin import MESSAGE_COUNT, Admin, prepared
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def admin(java5: Driver, cluster: Cluster) -> Iterator[Admin]:
    with prepared(java5, cluster) as made:
        yield made


def test_cluster_list_shows_the_broker_with_its_version(admin: Admin) -> None:
    out = admin("clusterList")
    (row,) = out.rows
    assert row[:4] == ["PeerCluster", "broker-a", "0", admin.broker]
    assert re.fullmatch(r"V5_\d+_\d+", row[4])
    assert "null" not in out.output
    assert row[-1] == "true"


def test_cluster_list_with_more_shows_totals(admin: Admin) -> None:
    (row,) = admin("clusterList", "-m").rows
    assert row[:2] == ["PeerCluster", "broker-a"]
    assert all(re.fullmatch(r"-?\d+", column) for column in row[2:]), row


def test_topic_list_holds_the_topic_and_the_system_topics(admin: Admin) -> None:
    topics = admin("topicList").output.split()
    assert {admin.topic, "TBW102", "SCHEDULE_TOPIC_XXXX", f"%RETRY%{admin.group}", "PeerCluster", "broker-a"} <= set(
        topics
    )


def test_topic_list_with_clusters_names_the_groups_that_consume(admin: Admin) -> None:
    rows = admin("topicList", "-c").rows
    assert ["PeerCluster", admin.topic, admin.group] in rows


def test_topic_route_is_the_json_of_queues_and_brokers(admin: Admin) -> None:
    route = json.loads(re.sub(r"(\d+)(:\")", r'"\1"\2', admin("topicRoute", "-t", admin.topic).output))
    assert route["queueDatas"] == [
        {"brokerName": "broker-a", "perm": 6, "readQueueNums": 4, "topicSysFlag": 0, "writeQueueNums": 4}
    ]
    assert route["brokerDatas"][0]["brokerAddrs"] == {"0": admin.broker}


def test_topic_route_as_a_list(admin: Admin) -> None:
    assert admin.route_row(4, 4, 6) in admin("topicRoute", "-t", admin.topic, "-l").rows


def test_topic_status_shows_the_bounds_of_each_queue(admin: Admin) -> None:
    out = admin("topicStatus", "-t", admin.topic)
    queues = [row for row in out.rows if row[0] == "broker-a"]
    assert [row[1] for row in queues] == ["0", "1", "2", "3"]
    assert {row[2] for row in queues} == {"0"}
    assert sum(int(row[3]) for row in queues) == MESSAGE_COUNT
    assert "Topic Put TPS" in out.output


def test_topic_cluster_list_names_the_cluster(admin: Admin) -> None:
    assert "PeerCluster" in admin("topicClusterList", "-t", admin.topic).output.split()


def test_update_topic_creates_changes_and_delete_topic_removes_it(admin: Admin) -> None:
    topic = f"{admin.topic}-made"
    out = admin(
        "updateTopic", "-c", "PeerCluster", "-t", topic, "-r", "3", "-w", "5", "-p", "6", "-a", "+message.type=NORMAL"
    )
    assert "create topic to" in out.output
    assert "success" in out.output
    assert admin.route_row(3, 5, 6) in wait_until(
        lambda: admin.tries("topicRoute", "-t", topic, "-l").rows, "the new route"
    )

    admin("updateTopicPerm", "-c", "PeerCluster", "-t", topic, "-p", "4")
    assert admin.route_row(3, 5, 4) in admin("topicRoute", "-t", topic, "-l").rows

    assert "success" in admin("deleteTopic", "-c", "PeerCluster", "-t", topic).output
    assert topic not in admin("topicList").output.split()


def test_update_topic_with_an_illegal_name_says_so(admin: Admin) -> None:
    out = admin.tries("updateTopic", "-b", admin.broker, "-t", "bad topic")
    assert out.failed
    assert "illegal characters" in out.output + out.errors


def test_order_configuration_is_kept_by_the_name_server(admin: Admin) -> None:
    topic = f"{admin.topic}-ordered"
    # mqadmin reads the item before it writes it: without this line `updateTopic -o true` prints an exception of its own.
    admin("updateOrderConf", "-t", topic, "-m", "put", "-v", "broker-b:1")
    admin("updateTopic", "-b", admin.broker, "-t", topic, "-r", "2", "-w", "2", "-o", "true")
    assert "broker-a:2" in admin("updateOrderConf", "-t", topic, "-m", "get").output


def test_update_sub_group_creates_it_and_delete_removes_it(admin: Admin) -> None:
    group = f"{admin.group}-made"
    out = admin("updateSubGroup", "-c", "PeerCluster", "-g", group, "-r", "7", "-q", "2", "-s", "true")
    assert "create subscription group to" in out.output
    shown = admin("getConsumerConfig", "-g", group).output
    assert re.search(r"retryMaxTimes\s+=\s+7", shown), shown
    assert re.search(r"retryQueueNums\s+=\s+2", shown), shown

    assert "success" in admin("deleteSubGroup", "-c", "PeerCluster", "-g", group).output
    # Asking for a group that is not there makes it anew, with the defaults.
    assert not re.search(r"retryMaxTimes\s+=\s+7", admin.tries("getConsumerConfig", "-g", group).output)


def test_consumer_progress_of_a_group_shows_no_lag_after_everything_was_consumed(admin: Admin) -> None:
    def rows() -> list[list[str]] | None:
        out = admin("consumerProgress", "-g", admin.group)
        assert "Consume TPS" in out.output
        return out.rows if "Diff Total: 0" in re.sub(r" +", " ", out.output) else None

    queues = [row for row in wait_until(rows, "offsets are committed", 20, poll_seconds=0.5) if row[0] == admin.topic]
    assert [row[1:3] for row in queues] == [["broker-a", str(n)] for n in range(4)]
    assert sum(int(row[3]) for row in queues) == sum(int(row[4]) for row in queues) == MESSAGE_COUNT


def test_consumer_progress_of_all_groups_lists_the_online_one(admin: Admin) -> None:
    row = next(row for row in admin("consumerProgress").rows if row[0].startswith(admin.group[:60]))
    assert row[1] == "1"
    assert row[2] == "V5_5_0"


def test_consumer_and_producer_connections_show_the_client(admin: Admin) -> None:
    consumers = admin("consumerConnection", "-g", admin.group).output
    assert admin.group in consumers
    assert "V5_5_0" in consumers
    assert re.search(rf"{admin.topic} +\*", consumers), consumers
    assert re.search(r"MessageModel: CLUSTERING", consumers)
    assert "CONSUME_FROM_FIRST_OFFSET" in consumers
    producers = admin("producerConnection", "-g", f"pg-{admin.group.rsplit('-', 1)[1]}", "-t", admin.topic).output
    assert "V5_5_0" in producers


def test_producer_lists_the_producers_of_a_broker(admin: Admin) -> None:
    assert f"pg-{admin.group.rsplit('-', 1)[1]}" in admin("producer", "-b", admin.broker).output


def test_consumer_status_reaches_through_the_broker_into_the_client(admin: Admin) -> None:
    out = admin("consumerStatus", "-g", admin.group)
    assert "Same subscription in the same group of consumer" in out.output
    assert "Rebalance OK" in out.output
    (running,) = [line for line in out.output.splitlines() if "@" in line and "V5_5_0" in line]
    client_id = next(word for word in running.split() if "@" in word)
    shown = admin("consumerStatus", "-g", admin.group, "-i", client_id).output
    assert "#Consumer Subscription#" in shown
    assert admin.topic in shown


def test_broker_status_holds_the_keys_that_other_tools_parse(admin: Admin) -> None:
    text = admin("brokerStatus", "-b", admin.broker).output
    keys = {line.split(":")[0].strip() for line in text.splitlines() if ":" in line}
    assert {
        "brokerVersionDesc", "brokerActive", "bootTimestamp", "msgPutTotalTodayNow", "msgGetTotalTodayNow",
        "putTps", "getFoundTps", "getMissTps", "getTotalTps", "getTransferredTps", "sendThreadPoolQueueSize",
        "pullThreadPoolQueueSize", "sendThreadPoolQueueHeadWaitTimeMills", "pageCacheLockTimeMills",
        "earliestMessageTimeStamp", "commitLogMinOffset", "commitLogMaxOffset", "commitLogDiskRatio",
        "consumeQueueDiskRatio", "dispatchBehindBytes", "putMessageTimesTotal", "putMessageSizeTotal",
        "putMessageAverageSize", "runtime", "startAcceptSendRequestTimeStamp", "commitLogDirCapacity",
        "remainHowManyDataToFlush",
    } <= keys  # fmt: skip
    # Three windows, of which a young broker of Apache's shows only those that it has filled.
    assert re.search(r"getTransferredTps +: [\d.]+[ \d.]*\n", text), text


@pytest.mark.parametrize("number", [0, 5])
def test_a_message_is_shown_by_its_id(admin: Admin, number: int) -> None:
    shown = admin("queryMsgById", "-t", admin.topic, "-i", admin.sent[number]["offset_message_id"]).output
    assert re.search(rf"Topic: +{admin.topic}", shown)
    assert re.search(rf"Keys: +\[key-{number}\]", shown), shown
    assert re.search(rf"Queue Offset: +{admin.sent[number]['queue_offset']}", shown)
    assert "Message Body" in shown


def test_a_message_is_found_by_key_by_unique_key_and_by_offset(admin: Admin) -> None:
    sent = admin.sent[3]
    assert sent["message_id"] in admin("queryMsgByKey", "-t", admin.topic, "-k", "key-3").output
    assert re.search(
        r"Keys: +\[key-3\]", admin("queryMsgByUniqueKey", "-t", admin.topic, "-i", sent["message_id"]).output
    )
    by_offset = admin(
        "queryMsgByOffset",
        "-t",
        admin.topic,
        "-b",
        "broker-a",
        "-i",
        str(sent["queue_id"]),
        "-o",
        str(sent["queue_offset"]),
    ).output
    assert sent["message_id"] in by_offset


def test_a_message_of_which_a_group_is_told_shows_its_track(admin: Admin) -> None:
    shown = wait_until(lambda: tracked(admin), "the group's track", 20, poll_seconds=0.5)
    assert admin.group in shown


def tracked(admin: Admin) -> str | None:
    out = admin("queryMsgById", "-t", admin.topic, "-i", admin.sent[0]["offset_message_id"]).output
    return out if "CONSUMED" in out else None


def test_print_msg_dumps_every_message(admin: Admin) -> None:
    out = admin("printMsg", "-t", admin.topic, "-d", "true").output
    assert sorted(re.findall(r"body (\d)", out)) == [str(n) for n in range(MESSAGE_COUNT)]
    assert "Tag1" in out


def test_consume_message_and_query_cq_read_a_queue(admin: Admin) -> None:
    sent = admin.sent[2]
    out = admin(
        "consumeMessage",
        "-t",
        admin.topic,
        "-b",
        "broker-a",
        "-i",
        str(sent["queue_id"]),
        "-o",
        str(sent["queue_offset"]),
        "-c",
        "1",
        "-g",
        "mqadmin-reader",
    ).output
    assert sent["message_id"] in out
    queue = admin(
        "queryCq", "-t", admin.topic, "-b", admin.broker, "-q", str(sent["queue_id"]), "-i", "0", "-c", "10"
    ).output
    assert "physicOffset" in queue.replace("PhysicOffset", "physicOffset") or "physic" in queue.lower(), queue


def test_send_message_and_check_msg_send_rt(admin: Admin) -> None:
    topic = f"{admin.topic}-sent"
    admin("updateTopic", "-b", admin.broker, "-t", topic, "-r", "2", "-w", "2")
    wait_until(lambda: not admin.tries("topicRoute", "-t", topic).failed, "the route")
    assert "SEND_OK" in admin("sendMessage", "-t", topic, "-p", "by mqadmin", "-k", "admin-key", "-c", "TagS").output
    rt = admin("checkMsgSendRT", "-t", topic, "-a", "3", "-s", "16").output
    assert rt.count("true") == 3, rt


def test_reset_offset_by_time_makes_the_online_group_consume_again(admin: Admin) -> None:
    before = len(admin.java.call("consumer.received", name=admin.group))

    out = admin("resetOffsetByTime", "-g", admin.group, "-t", admin.topic, "-s", "0")

    assert {row[1] for row in out.rows if row[0] == "broker-a"} == {"0", "1", "2", "3"}, out.output
    again = admin.java.receive(admin.group, before + MESSAGE_COUNT, 60)[before:]
    assert {message["body"] for message in again} == {f"body {n}" for n in range(MESSAGE_COUNT)}


def test_reset_offset_of_an_offline_group_moves_it(admin: Admin, clients: Callable[[Driver, str, str], None]) -> None:
    group = f"{admin.group}-offline"
    name = f"{group}-first"
    clients(admin.java, "consumer", name)
    admin.java.call(
        "consumer.start",
        name=name,
        group=group,
        namesrv=admin.cluster.namesrv_address,
        subscriptions=[{"topic": admin.topic}],
    )
    admin.java.receive(name, MESSAGE_COUNT)
    admin.java.call("consumer.stop", name=name)

    admin("resetOffsetByTime", "-g", group, "-t", admin.topic, "-s", "0")

    again = f"{group}-again"
    clients(admin.java, "consumer", again)
    admin.java.call(
        "consumer.start",
        name=again,
        group=group,
        namesrv=admin.cluster.namesrv_address,
        subscriptions=[{"topic": admin.topic}],
    )
    assert len(admin.java.receive(again, MESSAGE_COUNT, 60)) == MESSAGE_COUNT


def test_skip_accumulated_message_and_clone_group_offset(admin: Admin) -> None:
    assert not admin("skipAccumulatedMessage", "-g", admin.group, "-t", admin.topic).failed
    other = f"{admin.group}-clone"
    admin("updateSubGroup", "-b", admin.broker, "-g", other)
    assert "success" in admin("cloneGroupOffset", "-s", admin.group, "-d", other, "-t", admin.topic).output


def test_stats_all_lists_topic_and_group(admin: Admin) -> None:
    rows = admin("statsAll", "-t", admin.topic).rows
    assert any(admin.topic.startswith(row[0][:40]) for row in rows), rows
    assert any(admin.group[:60] in column for row in rows for column in row), rows


def test_broker_consume_stats_lists_the_group(admin: Admin) -> None:
    rows = admin("brokerConsumeStats", "-b", admin.broker).rows
    assert any(row[0] == admin.topic and row[1] == admin.group for row in rows), rows


def test_broker_configuration_is_shown_and_changed(admin: Admin) -> None:
    shown = admin("getBrokerConfig", "-b", admin.broker).output
    assert re.search(r"brokerName +=  broker-a", shown), shown[:2000]
    assert re.search(r"messageDelayLevel +=  1s", shown)

    assert "success" in admin("updateBrokerConfig", "-b", admin.broker, "-k", "traceOn", "-v", "true").output


def test_configuration_that_must_not_change_is_refused(admin: Admin, peer_kind: Kind) -> None:
    out = admin.tries("updateBrokerConfig", "-b", admin.broker, "-k", "brokerConfigPath", "-v", "anywhere")
    assert out.failed, out.output


def test_name_server_configuration_is_shown_and_changed(admin: Admin) -> None:
    assert re.search(r"listenPort +=  \d+", admin("getNamesrvConfig").output)
    assert "success" in admin("updateNamesrvConfig", "-k", "waitSecondsForService", "-v", "45").output


def test_kv_configuration_is_kept_and_deleted(admin: Admin) -> None:
    assert "success" in admin("updateKvConfig", "-s", "PEERS", "-k", "some-key", "-v", "some value").output
    assert "success" in admin("deleteKvConfig", "-s", "PEERS", "-k", "some-key").output


def test_write_permission_is_wiped_and_added_again(admin: Admin) -> None:
    wiped = admin("wipeWritePerm", "-b", "broker-a").output
    try:
        assert re.search(r"wipe write perm of broker\[broker-a\].*OK, \d+", wiped), wiped
        assert admin.route_row(4, 4, 4) in admin("topicRoute", "-t", admin.topic, "-l").rows
    finally:
        added = admin("addWritePerm", "-b", "broker-a").output
    assert re.search(r"add write perm of broker\[broker-a\].*OK, \d+", added), added
    assert admin.route_row(4, 4, 6) in admin("topicRoute", "-t", admin.topic, "-l").rows


def test_ha_status_of_a_lone_master(admin: Admin) -> None:
    out = admin("haStatus", "-b", admin.broker).output
    assert re.search(rf"#MasterAddr\s+{admin.broker}", out), out
    assert re.search(r"#MasterCommitLogMaxOffset\s+[1-9]\d*", out), out
    assert re.search(r"#SlaveNum\s+0", out), out


@pytest.mark.parametrize("command", ["cleanExpiredCQ", "cleanUnusedTopic", "deleteExpiredCommitLog"])
def test_house_keeping_reports_success(admin: Admin, command: str) -> None:
    assert "success" in admin(command, "-b", admin.broker).output


def test_unknown_topics_are_reported_as_such(admin: Admin) -> None:
    out = admin.tries("topicStatus", "-t", "nobody-made-this")
    assert out.failed
    assert "17" in out.output + out.errors
