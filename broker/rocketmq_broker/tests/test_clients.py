"""Heartbeats, groups, notices, locks."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.clients.consumers import ConsumerGroup
from rocketmq_broker.clients.locks import QueueLocks
from rocketmq_broker.services import ClientExpiry
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common.clock import ManualClock
from rocketmq_remoting.bodies import (
    BROADCASTING,
    CheckClientRequestBody,
    ConsumerListBody,
    HeartbeatData,
    LockBatchRequestBody,
    LockBatchResponseBody,
    MessageQueue,
    ProducerData,
    SubscriptionData,
)
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.headers.clients import ConsumerGroupHeader, UnregisterClientRequestHeader


class Notices:
    """A client that notes the groups it is told about."""

    def __init__(self) -> None:
        self.groups: list[str] = []
        self.came = asyncio.Event()
        self.client = RemotingClient(
            routes=[Route(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, ConsumerGroupHeader, self.note)]
        )

    def note(self, connection: Connection, command: Command, header: ConsumerGroupHeader) -> None:
        assert command.is_oneway
        self.groups.append(header.consumer_group)
        self.came.set()

    async def wait(self) -> None:
        async with asyncio.timeout(5):
            await self.came.wait()
        self.came.clear()


async def client_ids(peer: Peer, group: str = "cg") -> list[str]:
    answer = await peer.ask(RequestCode.GET_CONSUMER_LIST_BY_GROUP, ConsumerGroupHeader(consumer_group=group))
    if answer.code != 0:
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert "no consumer for this group" in (answer.remark or "")
        return []
    return msgspec.json.decode(answer.body, type=ConsumerListBody).consumer_id_list


async def test_a_heartbeat_lists_the_client_and_makes_the_groups_retry_topic(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert await client_ids(peer) == []
        await peer.heartbeat(client_id="c1")
        assert await client_ids(peer) == ["c1"]
        config = peer.broker.topics.get("%RETRY%cg")
        assert config is not None
        assert (config.read_queue_nums, config.perm) == (1, 6)
        assert b"%RETRY%cg" in (tmp_path / "store" / "config" / "topics.json").read_bytes()


async def test_a_group_that_may_not_be_created_is_skipped_silently(tmp_path: Path) -> None:
    async with serving(tmp_path, autoCreateSubscriptionGroup="false") as peer:
        assert (await peer.heartbeat()).code == ResponseCode.SUCCESS
        assert await client_ids(peer) == []


async def test_newcomer_and_members_are_told_of_each_change_and_only_of_changes(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        first, second = Notices(), Notices()
        one, two = Peer(peer.broker, first.client), Peer(peer.broker, second.client)
        await one.heartbeat(client_id="c1")
        await first.wait()
        await two.heartbeat(client_id="c2")
        await asyncio.gather(first.wait(), second.wait())
        await one.heartbeat(client_id="c1")
        await two.heartbeat(client_id="c2")
        assert (first.groups, second.groups) == (["cg"] * 2, ["cg"])
        assert sorted(await client_ids(peer)) == ["c1", "c2"]
        await second.client.close()
        await first.wait()
        assert await client_ids(peer) == ["c1"]
        await first.client.close()


async def test_leaving_in_order_tells_those_who_stay(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        first, second = Notices(), Notices()
        one, two = Peer(peer.broker, first.client), Peer(peer.broker, second.client)
        await one.heartbeat(client_id="c1")
        await first.wait()
        await two.heartbeat(client_id="c2")
        await asyncio.gather(first.wait(), second.wait())
        header = UnregisterClientRequestHeader(client_id="c2", consumer_group="cg")
        assert (await two.ask(RequestCode.UNREGISTER_CLIENT, header)).code == ResponseCode.SUCCESS
        await first.wait()
        assert await client_ids(peer) == ["c1"]
        await asyncio.gather(first.client.close(), second.client.close())


async def test_broadcasting_groups_and_groups_that_do_not_want_it_are_not_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        notices = Notices()
        one = Peer(peer.broker, notices.client)
        await one.heartbeat("broadcast", message_model=BROADCASTING)
        config = peer.broker.groups.find("quiet")
        assert config is not None
        config.notify_consumer_ids_changed_enable = False
        await one.heartbeat("quiet")
        await one.heartbeat("loud")
        await notices.wait()
        assert notices.groups == ["loud"]
        await notices.client.close()


async def test_producers_are_listed_by_group_until_they_leave(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        data = HeartbeatData(client_id="p1", producer_data_set=[ProducerData(group_name="pg")])
        await peer.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(data))
        producers = peer.broker.producers
        (member,) = producers.members("pg")
        assert (member.client_id, member.language) == ("p1", "PYTHON")
        assert producers.find("p1") is member
        await peer.ask(
            RequestCode.UNREGISTER_CLIENT, UnregisterClientRequestHeader(client_id="p1", producer_group="pg")
        )
        assert producers.members("pg") == []


async def test_silent_clients_are_dropped_after_two_minutes(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        notices = Notices()
        await Peer(peer.broker, notices.client).heartbeat()
        broker = peer.broker
        expiry = ClientExpiry(broker.producers, broker.consumers, broker.locks)
        expiry.scan()
        (member,) = broker.consumers.expired() or broker.consumers.groups["cg"].members.values()
        member.last_heartbeat -= 121
        expiry.scan()
        assert await client_ids(peer) == []
        await notices.client.close()


async def test_a_heartbeat_without_subscriptions_keeps_those_known(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat(expression="TagA")
        body = {
            "clientID": "client-1",
            "consumerDataSet": [{"groupName": "cg", "subscriptionDataSet": []}],
            "heartbeatFingerprint": 5,
            "withoutSub": True,
        }
        await peer.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(body))
        subscription = peer.broker.consumers.subscription("cg", "T")
        assert subscription is not None
        assert subscription.sub_string == "TagA"


async def test_a_heartbeat_that_is_no_json_is_answered_with_an_error(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await peer.ask(RequestCode.HEART_BEAT, None, b"{not json")
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert (await peer.heartbeat()).code == ResponseCode.SUCCESS


def test_subscriptions_follow_the_newest_version_and_the_latest_set_of_topics() -> None:
    group = ConsumerGroup("g", "CONSUME_PASSIVELY", "CLUSTERING", "CONSUME_FROM_LAST_OFFSET")
    old = [SubscriptionData(topic="a", sub_string="1", sub_version=1), SubscriptionData(topic="b", sub_version=1)]
    assert group.update_subscriptions(old)
    assert not group.update_subscriptions(old)
    newer = SubscriptionData(topic="a", sub_string="2", sub_version=2)
    assert not group.update_subscriptions([newer, old[1]])
    assert not group.update_subscriptions(old)
    assert group.subscriptions["a"].sub_string == "2"
    assert group.update_subscriptions([newer])
    assert set(group.subscriptions) == {"a"}


async def check(peer: Peer, expression_type: str | None) -> int:
    body = CheckClientRequestBody(
        client_id="c",
        group="cg",
        subscription_data=SubscriptionData(topic="T", sub_string="a > 1", expression_type=expression_type),
    )
    return (await peer.ask(RequestCode.CHECK_CLIENT_CONFIG, None, msgspec.json.encode(body))).code


async def test_a_starting_consumer_learns_whether_its_filter_is_supported(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert await check(peer, "TAG") == ResponseCode.SUCCESS
        assert await check(peer, None) == ResponseCode.SUCCESS
        assert await check(peer, "SQL92") == ResponseCode.SYSTEM_ERROR


def queue(queue_id: int) -> MessageQueue:
    return MessageQueue("T", "broker-a", queue_id)


async def lock(peer: Peer, client_id: str, queue_ids: list[int], code: int = RequestCode.LOCK_BATCH_MQ) -> list[int]:
    body = LockBatchRequestBody(consumer_group="cg", client_id=client_id, mq_set=[queue(n) for n in queue_ids])
    answer = await peer.ask(code, None, msgspec.json.encode(body))
    assert answer.code == ResponseCode.SUCCESS
    if code == RequestCode.UNLOCK_BATCH_MQ:
        return []
    return [q.queue_id for q in msgspec.json.decode(answer.body, type=LockBatchResponseBody).lock_ok_mq_set]


async def test_a_queue_is_locked_by_one_client_at_a_time(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert await lock(peer, "c1", [0, 1]) == [0, 1]
        assert await lock(peer, "c2", [1, 2]) == [2]
        assert await lock(peer, "c1", [1]) == [1]
        await lock(peer, "c2", [1], RequestCode.UNLOCK_BATCH_MQ)
        assert await lock(peer, "c2", [1]) == []
        await lock(peer, "c1", [1], RequestCode.UNLOCK_BATCH_MQ)
        assert await lock(peer, "c2", [1]) == [1]


@pytest.mark.parametrize(("idle_ms", "granted"), [(60_000, []), (60_001, [queue(0)])])
def test_a_lock_that_is_not_renewed_for_a_minute_is_free(idle_ms: int, granted: list[Any]) -> None:
    clock = ManualClock()
    locks = QueueLocks(clock)
    locks.lock("g", "c1", [queue(0)])
    clock.advance(idle_ms)
    assert locks.lock("g", "c2", [queue(0)]) == granted


def test_expired_locks_are_forgotten_and_do_not_count_as_ordered_consumption() -> None:
    clock = ManualClock()
    locks = QueueLocks(clock)
    locks.lock("g", "c1", [queue(0), queue(1)])
    assert locks.is_group_locking("g")
    clock.advance(60_001)
    assert not locks.is_group_locking("g")
    assert locks.remove_expired() == 2
    assert locks.groups == {}


async def test_members_that_subscribe_differently_are_noticed_until_they_agree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(tmp_path) as peer:
        other = RemotingClient()
        try:
            await peer.heartbeat(expression="TagA", client_id="c1")

            def is_inconsistent() -> bool:
                return peer.broker.consumers.groups["cg"].is_inconsistent

            assert not is_inconsistent()
            second = Peer(peer.broker, other)
            await second.heartbeat(expression="TagB", client_id="c2", sub_version=2)
            assert is_inconsistent()
            await second.heartbeat(expression="TagB", client_id="c2", sub_version=2)
            await second.heartbeat(expression="TagA", client_id="c2", sub_version=3)
            assert not is_inconsistent()
            await second.heartbeat(message_model=BROADCASTING, expression="TagA", client_id="c2", sub_version=3)
            assert is_inconsistent()
            await second.ask(
                RequestCode.UNREGISTER_CLIENT, UnregisterClientRequestHeader(client_id="c2", consumer_group="cg")
            )
            assert not is_inconsistent()
        finally:
            await other.close()
    warnings = [record.getMessage() for record in caplog.records if "subscribe differently" in record.getMessage()]
    assert len(warnings) == 2
    assert "'TagA'" in warnings[0]
    assert "'TagB'" in warnings[0]
    assert "rocketmq group diagnose cg" in warnings[0]
