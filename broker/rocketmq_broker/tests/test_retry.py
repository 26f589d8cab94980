"""Delay levels, send-back, retry topics and dead letters."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from rocketmq_broker.delay_levels import schedule
from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.properties import parse_properties
from rocketmq_common.records import StoredMessage
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.send import ConsumerSendMsgBackRequestHeader

FAST = "50ms"
SUSPEND_WITH_SUBSCRIPTION = 6
UNIQUE_KEY = "AC1100010B2E18B4AAC2F1B2C3D40000"


async def receive(peer: Peer, topic: str, offset: int = 0) -> StoredMessage:
    """The next message of queue 0, waited for."""
    answer = await peer.pull(topic, offset=offset, sys_flag=SUSPEND_WITH_SUBSCRIPTION)
    assert answer.code == ResponseCode.SUCCESS, answer.remark
    return messages_of(answer)[0]


async def send_back(peer: Peer, message: StoredMessage, delay_level: int = 0, **fields: Any) -> Command:
    header = ConsumerSendMsgBackRequestHeader(
        **{
            "offset": message.physical_offset,
            "group": "cg",
            "delay_level": delay_level,
            "origin_msg_id": UNIQUE_KEY,
            "origin_topic": "T",
            **fields,
        }
    )
    return await peer.ask(RequestCode.CONSUMER_SEND_MSG_BACK, header)


async def test_a_delayed_message_waits_in_the_schedule_topic_and_comes_when_its_time_is_over(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1s 1h") as peer:
        answer = await peer.send(properties={"UNIQ_KEY": "A", "TAGS": "x", "DELAY": "1"}, queue_id=0, body=b"later")
        assert (answer.code, answer.ext_fields()["queueId"]) == (0, "0")
        stored = messages_of(await peer.pull("SCHEDULE_TOPIC_XXXX"))[0]
        assert stored.topic == "SCHEDULE_TOPIC_XXXX"
        assert stored.property_map() | {"DELAY": "1", "REAL_TOPIC": "T", "REAL_QID": "0"} == stored.property_map()
        message = await receive(peer, "T")
        assert (message.topic, message.queue_id, message.body) == ("T", 0, b"later")
        # Apache's broker leaves the traces of the schedule in the delivered record.
        assert message.properties == stored.properties
        assert (message.born_timestamp, message.born_host) == (stored.born_timestamp, stored.born_host)
        late_ms = message.store_timestamp - stored.store_timestamp - 1000
        assert 0 <= late_ms < 500
        assert peer.broker.statistics.delayed_nums == 1
        assert [m.queue_offset for m in messages_of(await peer.pull(subscription="x"))] == [0]


async def test_delays_of_different_levels_are_delivered_each_at_its_time(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="2s 1s") as peer:
        await peer.send(properties={"UNIQ_KEY": "A", "DELAY": "1"}, body=b"two")
        await peer.send(properties={"UNIQ_KEY": "A", "DELAY": "2"}, body=b"one")
        assert (await receive(peer, "T")).body == b"one"
        assert (await receive(peer, "T", 1)).body == b"two"


async def test_levels_beyond_the_last_wait_as_long_as_the_last(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1h 2h") as peer:
        await peer.send(properties={"UNIQ_KEY": "A", "DELAY": "99"})
        stored = messages_of(await peer.pull("SCHEDULE_TOPIC_XXXX", queue_id=1))[0]
        assert stored.property_map()["DELAY"] == "2"


async def test_what_is_due_while_the_broker_is_down_comes_after_its_start_and_only_once(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1s") as peer:
        await peer.send(properties={"UNIQ_KEY": "A", "DELAY": "1"}, body=b"first")
        assert (await receive(peer, "T")).body == b"first"
        await peer.send(properties={"UNIQ_KEY": "A", "DELAY": "1"}, body=b"second")
    progress = json.loads((tmp_path / "store" / "config" / "delayOffset.json").read_text())
    assert progress["offsetTable"] == {"1": 1}
    async with serving(tmp_path, messageDelayLevel="1s") as peer:
        message = await receive(peer, "T", 1)
        assert (message.body, message.queue_offset) == (b"second", 1)
        assert peer.broker.store.queue("T", 0).end == 2


async def test_progress_is_written_only_behind_the_flushed_log(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1s", flushIntervalCommitLog=10) as peer:
        await peer.send(properties={"UNIQ_KEY": "A", "DELAY": "1"})
        await receive(peer, "T")
        written = peer.broker.store.positions.written
        await peer.broker.delay.save_behind_flush()
        assert peer.broker.store.positions.flushed >= written
        progress = json.loads((tmp_path / "store" / "config" / "delayOffset.json").read_text())
        assert progress["offsetTable"]["1"] == 1


async def test_a_refused_delivery_is_tried_again(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1s") as peer:
        await peer.send(properties={"UNIQ_KEY": "A", "DELAY": "1"}, body=b"stubborn")
        peer.broker.store.set_writeable(False)
        level = peer.broker.delay.levels[0]
        async with asyncio.timeout(5):
            while peer.broker.store.statistics().put_failed_count < 2:
                await asyncio.sleep(0.01)
        assert level.offset == 0
        peer.broker.store.set_writeable(True)
        assert (await receive(peer, "T")).body == b"stubborn"
        assert peer.broker.delay.bounds()[1] == (1, 1)


def test_scheduling_replaces_earlier_traces_and_keeps_other_properties() -> None:
    topic, queue_id, properties = schedule(
        "T", 3, "a\x01b\x02DELAY\x019\x02REAL_TOPIC\x01old\x02REAL_QID\x017\x02", 4, 18
    )
    assert (topic, queue_id) == ("SCHEDULE_TOPIC_XXXX", 3)
    assert parse_properties(properties) == {"a": "b", "DELAY": "4", "REAL_TOPIC": "T", "REAL_QID": "3"}
    assert properties.count("DELAY") == 1


async def test_a_message_sent_back_comes_again_through_the_retry_topic(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1h 1h 1s") as peer:
        await peer.send(body=b"failing", sys_flag=1)
        original = await receive(peer, "T")
        answer = await send_back(peer, original)
        assert (answer.code, answer.body) == (ResponseCode.SUCCESS, b"")
        again = await receive(peer, "%RETRY%cg")
        assert (again.body, again.sys_flag, again.flag) == (b"failing", 1, original.flag)
        assert again.reconsume_times == 1
        assert again.born_timestamp == original.born_timestamp
        properties = again.property_map()
        assert properties["RETRY_TOPIC"] == "T"
        assert properties["ORIGIN_MESSAGE_ID"] == original.message_id
        assert properties["UNIQ_KEY"] == UNIQUE_KEY
        assert properties["DELAY"] == "3"
        config = peer.broker.topics.get("%RETRY%cg")
        assert config is not None
        assert (config.write_queue_nums, config.perm) == (1, 6)


async def test_each_further_try_waits_a_level_longer_and_remembers_its_origin(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1h 1h 1s 2h 3h") as peer:
        await peer.send()
        original = await receive(peer, "T")
        await send_back(peer, original)
        first = await receive(peer, "%RETRY%cg")
        await send_back(peer, first)
        waiting = messages_of(await peer.pull("SCHEDULE_TOPIC_XXXX", queue_id=3))[0]
        properties = waiting.property_map()
        assert (properties["DELAY"], properties["RETRY_TOPIC"]) == ("4", "T")
        assert properties["ORIGIN_MESSAGE_ID"] == original.message_id
        assert waiting.reconsume_times == 2
        assert waiting.properties.count("REAL_TOPIC") == 1


@pytest.mark.parametrize(
    "fields", [{"delay_level": -1}, {"max_reconsume_times": 0}], ids=["negative level", "tried often enough"]
)
async def test_a_message_nobody_can_consume_goes_to_the_dead_letter_topic(
    tmp_path: Path, fields: dict[str, Any]
) -> None:
    async with serving(tmp_path) as peer:
        await peer.send(body=b"poison")
        original = await receive(peer, "T")
        assert (await send_back(peer, original, **fields)).code == ResponseCode.SUCCESS
        dead = await receive(peer, "%DLQ%cg")
        assert (dead.body, dead.reconsume_times) == (b"poison", 1)
        properties = dead.property_map()
        assert properties["RETRY_TOPIC"] == properties["DLQ_ORIGIN_TOPIC"] == "T"
        assert properties["DLQ_ORIGIN_MESSAGE_ID"] == UNIQUE_KEY
        assert "DELAY" not in properties
        config = peer.broker.topics.get("%DLQ%cg")
        assert config is not None
        assert (config.write_queue_nums, config.perm) == (1, 6)
        assert peer.broker.statistics.groups["cg", "T"].dlq_nums == 1


async def test_send_back_is_refused_with_apaches_codes(tmp_path: Path) -> None:
    async with serving(tmp_path, autoCreateSubscriptionGroup="false") as peer:
        await peer.send()
        (message,) = messages_of(await peer.pull(consumer_group="TOOLS_CONSUMER"))
        assert (await send_back(peer, message)).code == ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST
        group: dict[str, Any] = {"group": "TOOLS_CONSUMER"}
        lost = StoredMessage(topic="T", body=b"", physical_offset=1)
        assert (await send_back(peer, lost, **group)).code == ResponseCode.SYSTEM_ERROR
        config = peer.broker.groups.get("TOOLS_CONSUMER")
        assert config is not None
        config.retry_queue_nums = 0
        assert (await send_back(peer, lost, **group)).code == ResponseCode.SUCCESS
        peer.broker.settings.broker_permission = 4
        assert (await send_back(peer, message, **group)).code == ResponseCode.NO_PERMISSION


async def test_a_normal_send_to_a_retry_topic_is_delayed_or_dead_as_its_header_says(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1s 1h 1h 1h") as peer:
        await peer.heartbeat()
        properties = {"UNIQ_KEY": "A", "RETRY_TOPIC": "T", "ORIGIN_MESSAGE_ID": "x", "DELAY": "1"}
        await peer.send("%RETRY%cg", properties=properties, reconsume_times=1, max_reconsume_times=3)
        again = await receive(peer, "%RETRY%cg")
        assert (again.reconsume_times, again.property_map()["RETRY_TOPIC"]) == (1, "T")
        await peer.send("%RETRY%cg", properties=properties, reconsume_times=4, max_reconsume_times=3, body=b"dead")
        dead = await receive(peer, "%DLQ%cg")
        assert (dead.body, dead.property_map()["DELAY"]) == (b"dead", "-1")


async def test_a_group_that_consumes_in_order_has_its_failures_go_to_the_dead_letters(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        peer.broker.locks.lock("cg", "c1", [MessageQueue("T", "broker-a", 0)])
        await peer.send("%RETRY%cg", reconsume_times=1, body=b"ordered")
        assert (await receive(peer, "%DLQ%cg")).body == b"ordered"
