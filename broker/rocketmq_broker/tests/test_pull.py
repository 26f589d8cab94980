"""Pulling and long polling over a real connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rocketmq_broker import held_pulls
from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.bodies import BROADCASTING
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command

SUSPEND_WITH_SUBSCRIPTION = 6


async def held(peer: Peer, count: int = 1) -> None:
    """Wait until the broker holds ``count`` pulls."""
    async with asyncio.timeout(5):
        while peer.broker.pulling.held.count != count:
            await asyncio.sleep(0)


def place(answer: Command) -> tuple[int, int, int]:
    ext = answer.ext_fields()
    assert ext["suggestWhichBrokerId"] == "0"
    return int(ext["nextBeginOffset"]), int(ext["minOffset"]), int(ext["maxOffset"])


async def test_a_pull_gives_messages_back_to_back_and_the_offset_after_the_last(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for n in range(40):
            await peer.send(body=b"%d" % n)
        answer = await peer.pull(offset=3, max_msg_nums=10)
        assert (answer.code, answer.remark) == (0, "FOUND")
        assert [m.body for m in messages_of(answer)] == [b"%d" % n for n in range(3, 13)]
        assert place(answer) == (13, 0, 40)


async def test_lite_pull_is_answered_like_pull_and_can_be_switched_off(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        header = peer.pull_header(sys_flag=22)
        assert (await peer.ask(RequestCode.LITE_PULL_MESSAGE, header)).code == ResponseCode.SUCCESS
        peer.broker.settings.lite_pull_message_enable = False
        assert (await peer.ask(RequestCode.LITE_PULL_MESSAGE, header)).code == ResponseCode.NO_PERMISSION
        assert (await peer.ask(RequestCode.PULL_MESSAGE, header)).code == ResponseCode.SUCCESS


async def test_at_least_one_message_is_given_whatever_the_byte_limit(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(body=b"x" * 5000)
        await peer.send(body=b"x" * 5000)
        assert len(messages_of(await peer.pull(max_msg_bytes=10))) == 1


@pytest.mark.parametrize(
    ("offset", "code", "next_offset", "remark"),
    [
        (5, ResponseCode.PULL_NOT_FOUND, 5, "OFFSET_OVERFLOW_ONE"),
        (9, ResponseCode.PULL_OFFSET_MOVED, 5, "OFFSET_OVERFLOW_BADLY"),
        (-1, ResponseCode.PULL_OFFSET_MOVED, 0, "OFFSET_TOO_SMALL"),
    ],
)
async def test_an_offset_without_message_is_answered_with_one_to_go_on_from(
    tmp_path: Path, offset: int, code: int, next_offset: int, remark: str
) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(5):
            await peer.send()
        answer = await peer.pull(offset=offset)
        assert (answer.code, answer.remark) == (code, remark)
        assert place(answer) == (next_offset, 0, 5)


async def test_an_empty_queue_is_nothing_new_at_0_and_moved_elsewhere(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T"))
        assert (await peer.pull(offset=0)).code == ResponseCode.PULL_NOT_FOUND
        moved = await peer.pull(offset=7)
        assert moved.code == ResponseCode.PULL_OFFSET_MOVED
        assert place(moved)[0] == 0


async def test_messages_that_the_filter_skips_move_the_offset_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for tag in ("TagA", "TagB", "TagB"):
            await peer.send(properties={"TAGS": tag, "UNIQ_KEY": "A"})
        answer = await peer.pull(subscription="TagC || TagD")
        assert (answer.code, answer.remark) == (ResponseCode.PULL_RETRY_IMMEDIATELY, "NO_MATCHED_MESSAGE")
        assert place(answer)[0] == 3
        found = await peer.pull(subscription=" TagX||TagB ")
        assert [m.queue_offset for m in messages_of(found)] == [1, 2]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"topic": "missing"}, ResponseCode.TOPIC_NOT_EXIST),
        ({"queue_id": 4}, ResponseCode.INVALID_PARAMETER),
        ({"queue_id": -1}, ResponseCode.INVALID_PARAMETER),
        ({"subscription": "||"}, ResponseCode.SUBSCRIPTION_PARSE_FAILED),
        ({"expression_type": "SQL92", "subscription": "a > 1"}, ResponseCode.SYSTEM_ERROR),
        ({"sys_flag": 0}, ResponseCode.SUBSCRIPTION_NOT_EXIST),
        ({"consumer_group": "unknown"}, ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST),
    ],
)
async def test_a_pull_that_is_not_allowed_gets_apaches_code(tmp_path: Path, fields: dict[str, Any], code: int) -> None:
    async with serving(tmp_path, autoCreateSubscriptionGroup="false") as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T", read_queue_nums=4, write_queue_nums=4))
        fields = {"consumer_group": "TOOLS_CONSUMER", **fields}
        answer = await peer.pull(**fields)
        assert answer.code == code, answer.remark
        assert answer.remark


async def test_permissions_of_broker_group_and_topic_name_what_is_forbidden(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        await peer.pull()
        group = peer.broker.groups.get("cg")
        assert group is not None
        topic = peer.broker.topics.get("T")
        assert topic is not None

        async def forbidden() -> str:
            answer = await peer.pull()
            assert answer.code == ResponseCode.NO_PERMISSION
            return answer.ext_fields()["forbiddenType"]

        topic.perm = 2
        assert await forbidden() == "3"
        group.consume_enable = False
        assert await forbidden() == "2"
        peer.broker.settings.broker_permission = 2
        assert await forbidden() == "1"


async def test_without_an_expression_the_heartbeats_subscription_counts(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for tag in ("TagA", "TagB"):
            await peer.send(properties={"TAGS": tag, "UNIQ_KEY": "A"})
        await peer.heartbeat(expression="TagB", sub_version=5)
        answer = await peer.pull(sys_flag=0, subscription=None, sub_version=5)
        assert [m.queue_offset for m in messages_of(answer)] == [1]
        assert (await peer.pull(sys_flag=0, sub_version=6)).code == ResponseCode.SUBSCRIPTION_NOT_LATEST
        await peer.broker.topics.update(TopicConfig(topic_name="other"))
        assert (await peer.pull("other", sys_flag=0)).code == ResponseCode.SUBSCRIPTION_NOT_EXIST


async def test_broadcasting_and_forbidden_topics_are_refused_where_so_configured(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        await peer.heartbeat(message_model=BROADCASTING)
        assert (await peer.pull(sys_flag=0)).code == ResponseCode.SUCCESS
        await peer.broker.groups.set_forbidden("cg", "T", 1 << 2)
        assert (await peer.pull(sys_flag=0)).ext_fields()["forbiddenType"] == "5"
        group = peer.broker.groups.get("cg")
        assert group is not None
        group.consume_broadcast_enable = False
        assert (await peer.pull(sys_flag=0)).ext_fields()["forbiddenType"] == "4"


async def test_the_commit_bit_commits_the_offset_and_its_absence_does_not(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        await peer.pull(sys_flag=4, commit_offset=1)
        assert peer.broker.offsets.query("cg", "T", 0) == -1
        await peer.pull(sys_flag=5, commit_offset=1)
        assert peer.broker.offsets.query("cg", "T", 0) == 1
        assert peer.broker.offsets.pull_offset("cg", "T", 0) == 1


async def test_a_server_side_reset_is_told_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(5):
            await peer.send()
        peer.broker.offsets.reset("cg", "T", 0, 2)
        answer = await peer.pull(offset=4)
        assert (answer.code, answer.remark) == (ResponseCode.PULL_OFFSET_MOVED, "OFFSET_RESET")
        assert place(answer)[0] == 2
        assert (await peer.pull(offset=2)).code == ResponseCode.SUCCESS


# Long polling.


async def test_a_held_pull_gets_the_next_message_and_a_burst_comes_in_one_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        waiting = asyncio.create_task(peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION))
        await held(peer)
        burst = encode_batch(BatchEntry(0, b"%d" % n, b"UNIQ_KEY\x01%d" % n) for n in range(5))
        await peer.send(body=burst, code=RequestCode.SEND_BATCH_MESSAGE, batch=True)
        answer = await waiting
        assert answer.code == ResponseCode.SUCCESS
        assert [m.body for m in messages_of(answer)] == [b"%d" % n for n in range(5)]
        assert peer.broker.store.queue("T", 0).watcher is None


async def test_a_held_pull_does_not_hold_up_other_requests_of_its_connection(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        waiting = asyncio.create_task(peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION))
        await held(peer)
        assert (await peer.heartbeat()).code == ResponseCode.SUCCESS
        await peer.send(body=b"second")
        assert [m.body for m in messages_of(await waiting)] == [b"second"]


async def test_a_held_pull_is_answered_with_nothing_when_its_time_is_over(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        answer = await peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION, suspend_timeout_millis=20)
        assert answer.code == ResponseCode.PULL_NOT_FOUND
        assert place(answer) == (1, 0, 1)
        assert peer.broker.pulling.held.count == 0


async def test_a_held_pull_sleeps_through_messages_it_does_not_want_and_then_skips_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        fields: dict[str, Any] = {"offset": 1, "sys_flag": SUSPEND_WITH_SUBSCRIPTION, "subscription": "Wanted"}
        waiting = asyncio.create_task(peer.pull(**fields))
        await held(peer)
        await peer.send(properties={"TAGS": "Unwanted", "UNIQ_KEY": "A"})
        assert peer.broker.pulling.held.count == 1
        await peer.send(properties={"TAGS": "Wanted", "UNIQ_KEY": "B"})
        assert [m.queue_offset for m in messages_of(await waiting)] == [2]

        skipping = asyncio.create_task(peer.pull(**{**fields, "offset": 3}))
        await held(peer)
        await peer.send(properties={"TAGS": "Unwanted", "UNIQ_KEY": "C"})
        peer.broker.pulling.held.recheck()
        peer.broker.pulling.held.release_all()
        answer = await skipping
        assert answer.code == ResponseCode.PULL_RETRY_IMMEDIATELY
        assert place(answer)[0] == 4


async def test_a_held_pull_on_an_empty_queue_wakes_with_the_first_message(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T"))
        waiting = asyncio.create_task(peer.pull(queue_id=3, sys_flag=SUSPEND_WITH_SUBSCRIPTION))
        await held(peer)
        await peer.send(queue_id=3, body=b"first")
        assert [m.body for m in messages_of(await waiting)] == [b"first"]


async def test_with_sync_flush_a_held_pull_wakes_after_the_flush(tmp_path: Path) -> None:
    async with serving(tmp_path, flushDiskType="SYNC_FLUSH") as peer:
        await peer.send()
        waiting = asyncio.create_task(peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION))
        await held(peer)
        await peer.send(body=b"flushed")
        (message,) = messages_of(await waiting)
        assert message.body == b"flushed"
        assert peer.broker.store.positions.flushed >= message.physical_offset + message.size


async def test_held_pulls_of_a_closed_connection_are_forgotten(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        leaver = RemotingClient()
        waiting = asyncio.create_task(Peer(peer.broker, leaver).pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION))
        await held(peer)
        await leaver.close()
        await held(peer, 0)
        with pytest.raises(Exception, match="connect"):
            await waiting
        await peer.send()
        assert peer.broker.store.queue("T", 0).watcher is None


async def test_a_stopping_broker_answers_held_pulls(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        waiting = asyncio.create_task(peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION))
        await held(peer)
        peer.broker.pulling.release_all()
        assert (await waiting).code == ResponseCode.PULL_NOT_FOUND
        assert (await peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION)).code == ResponseCode.PULL_NOT_FOUND


async def test_a_recreated_topic_still_wakes_pulls_that_waited_before(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T"))
        waiting = asyncio.create_task(peer.pull(sys_flag=SUSPEND_WITH_SUBSCRIPTION))
        await held(peer)
        peer.broker.store.delete_topic("T")
        peer.broker.pulling.held.recheck()
        await peer.send(body=b"again")
        assert [m.body for m in messages_of(await waiting)] == [b"again"]


async def test_the_table_of_held_pulls_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_pulls, "HELD_PULLS_MAX", 2)
    async with serving(tmp_path) as peer:
        await peer.send()
        waiting = [asyncio.create_task(peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION)) for _ in range(2)]
        await held(peer, 2)
        answer = await peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION)
        assert answer.code == ResponseCode.SYSTEM_BUSY
        await peer.send()
        assert [a.code for a in await asyncio.gather(*waiting)] == [0, 0]


async def test_short_polling_answers_within_its_own_time(tmp_path: Path) -> None:
    async with serving(tmp_path, longPollingEnable="false", shortPollingTimeMills=10) as peer:
        await peer.send()
        answer = await peer.pull(offset=1, sys_flag=SUSPEND_WITH_SUBSCRIPTION, suspend_timeout_millis=60_000)
        assert answer.code == ResponseCode.PULL_NOT_FOUND


async def test_delivered_messages_are_counted_per_group_and_topic(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for _ in range(3):
            await peer.send()
        answer = await peer.pull()
        counters = peer.broker.statistics.groups["cg", "T"]
        assert (counters.get_nums, counters.get_size) == (3, len(answer.body))
        assert peer.broker.statistics.get_nums == 3
