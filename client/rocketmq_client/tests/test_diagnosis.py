"""What is said about groups that do not consume as they should."""

from __future__ import annotations

from typing import Any

from rocketmq_client import Admin, ConsumeFrom, ConsumerConnections, GroupProgress, PushConsumer, QueueProgress
from rocketmq_client.admin.diagnosis import GroupEvidence, MemberReport, Severity, diagnose
from rocketmq_client.tests.conftest import send_all, until
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_remoting.bodies import MessageQueue, SubscriptionData
from rocketmq_remoting.codes import RequestCode

NOW_MS = 1_700_000_000_000
QUEUES = tuple(MessageQueue("orders", "broker-a", n) for n in range(2))


def evidence(*members: MemberReport, lag: int = 0, **changes: Any) -> GroupEvidence:
    values: dict[str, Any] = {
        "config": SubscriptionGroupConfig(group_name="g"),
        "progress": GroupProgress("g", (QueueProgress(QUEUES[0], lag, 0, 0, 0),), 0.0),
        "connections": ConsumerConnections(
            message_model="CLUSTERING", subscription_table={"orders": SubscriptionData(topic="orders")}
        ),
        "members": members,
        "queues": {"orders": QUEUES},
        "now_ms": NOW_MS,
    }
    return GroupEvidence(**(values | changes))


def member(name: str, *queue_ids: int, wish: str = "TAG *", **row: int) -> MemberReport:
    return MemberReport(name, {"orders": wish}, {QUEUES[n]: row for n in queue_ids})


def checks(found: GroupEvidence) -> list[tuple[str, str]]:
    return [(f.severity.value, f.check) for f in diagnose(found)]


def test_a_group_that_works_has_no_findings():
    assert diagnose(evidence(member("a", 0), member("b", 1))) == []


def test_members_that_subscribe_differently_are_named_with_what_they_want():
    (finding,) = diagnose(evidence(member("a", 0), member("b", 1, wish="TAG paid")))
    assert (finding.severity, finding.check) == (Severity.PROBLEM, "subscriptions")
    assert "TAG *: a" in finding.detail
    assert "TAG paid: b" in finding.detail
    (finding,) = diagnose(evidence(member("a", 0), MemberReport("b", {}, {QUEUES[1]: {}})))
    assert "not at all: b" in finding.detail


def test_queues_of_nobody_and_of_two_are_problems():
    (finding,) = diagnose(evidence(member("a", 0)))
    assert (finding.check, "broker-a:1" in finding.detail) == ("queues", True)
    (finding,) = diagnose(evidence(member("a", 0, 1), member("b", 1)))
    assert "broker-a:1 of orders is consumed by a and b" in finding.detail
    # Somebody who does not answer may have it.
    assert checks(evidence(member("a", 0), silent=["b"])) == [("warning", "silent")]


def test_broadcasting_members_all_have_all_queues():
    connections = ConsumerConnections(message_model="BROADCASTING")
    assert diagnose(evidence(member("a", 0, 1), member("b", 0, 1), connections=connections)) == []


def test_a_listener_that_hangs_is_a_problem_and_an_idle_member_a_warning():
    stuck = member("a", 0, 1, cachedMsgCount=5, lastConsumeTimestamp=NOW_MS - 90_000)
    found = diagnose(evidence(stuck, member("b")))
    assert [(f.severity.value, f.check) for f in found] == [
        ("problem", "stuck"),
        ("problem", "stuck"),
        ("warning", "idle"),
    ]
    assert "for 90 s" in found[0].detail
    fresh = member("a", 0, 1, cachedMsgCount=5, lastConsumeTimestamp=NOW_MS - 1000)
    assert diagnose(evidence(fresh)) == []


def test_nobody_is_a_problem_only_while_messages_wait():
    assert checks(evidence(lag=3, connections=None)) == [("problem", "nobody")]
    assert checks(evidence(connections=None)) == [("warning", "nobody")]
    config = SubscriptionGroupConfig(group_name="g", consume_enable=False)
    assert checks(evidence(config=config, connections=None)) == [("problem", "disabled")]


def test_offsets_left_behind_and_dead_letters_are_warnings():
    progress = GroupProgress("g", (QueueProgress(MessageQueue("old", "broker-a", 0), 5, 1, 1, 0),), 0.0)
    found = evidence(member("a", 0, 1), progress=progress, pending_dead_letters=4)
    assert checks(found) == [("warning", "left behind"), ("warning", "dead letters")]


async def test_a_real_group_is_asked_and_found_inconsistent_until_its_members_agree(cluster):
    cluster.create_topic("orders", 2)
    await send_all(cluster, "orders", [b"x"])
    await send_all(cluster, "orders", [b"dead"])

    def consumer(tags: str) -> PushConsumer:
        return PushConsumer(
            cluster.name_server,
            group="g",
            topics={"orders": tags},
            listener=lambda m: None,
            consume_from=ConsumeFrom.FIRST,
        )

    cluster.broker.groups["g"] = SubscriptionGroupConfig(group_name="g")
    async with Admin(cluster.name_server) as admin, consumer("*") as first:
        await until(lambda: first.is_idle)
        assert (await admin.diagnose("g")).findings == []
        async with consumer("paid") as second:
            await until(lambda: first.assigned and second.assigned and first.is_idle and second.is_idle)
            found = (await admin.diagnose("g")).findings
            assert "subscriptions" in {f.check for f in found}
            cluster.broker.fail(RequestCode.GET_CONSUMER_RUNNING_INFO, 1, times=1)
            evidence_found = (await admin.diagnose("g")).evidence
            assert len(evidence_found.silent) == 1
