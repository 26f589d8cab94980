"""Topics of the broker's own take nothing from clients; topics made in unit mode are marked as such."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common import names
from rocketmq_remoting.bodies import ConsumerData, HeartbeatData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.send import ConsumerSendMsgBackRequestHeader

# Apache refuses the first six; this broker also those from which it takes orders.
CLOSED = [
    "SCHEDULE_TOPIC_XXXX",
    "RMQ_SYS_TRANS_HALF_TOPIC",
    "RMQ_SYS_TRANS_OP_HALF_TOPIC",
    "TRANS_CHECK_MAX_TIME_TOPIC",
    "SELF_TEST_TOPIC",
    "OFFSET_MOVED_EVENT",
    "rmq_sys_wheel_timer",
    "rmq_sys_REVIVE_LOG_DefaultCluster",
]


@pytest.mark.parametrize("topic", CLOSED)
async def test_a_topic_that_the_broker_believes_takes_nothing_from_clients(tmp_path: Path, topic: str) -> None:
    async with serving(tmp_path) as peer:
        for properties in ({}, {"REAL_TOPIC": "T", "REAL_QID": "0"}, {"DELAY": "1"}, {"TIMER_DELAY_MS": "1"}):
            answer = await peer.send(topic, properties=properties)
            assert (answer.code, answer.remark) == (
                ResponseCode.NO_PERMISSION,
                f"Sending message to topic[{topic}] is forbidden.",
            )
        assert (await peer.send(topic, code=RequestCode.SEND_BATCH_MESSAGE)).code == ResponseCode.NO_PERMISSION
        assert peer.broker.store.statistics().put_message_count == 0


async def test_rocketmqs_open_topics_take_messages_as_apaches_do(tmp_path: Path) -> None:
    async with serving(tmp_path, traceTopicEnable="true") as peer:
        for topic in (names.BENCHMARK_TOPIC, names.TRACE_TOPIC, "DefaultCluster", "broker-a"):
            assert (await peer.send(topic)).code == ResponseCode.SUCCESS, topic


def flag_of(peer: Peer, topic: str) -> int:
    config = peer.broker.topics.get(topic)
    assert config is not None, topic
    return config.topic_sys_flag


@pytest.mark.parametrize("unit_mode", [False, True])
async def test_topics_are_marked_when_clients_are_in_unit_mode(tmp_path: Path, unit_mode: bool) -> None:
    async with serving(tmp_path) as peer:
        assert (await peer.send("Made", unit_mode=unit_mode)).code == ResponseCode.SUCCESS
        consumer = ConsumerData(group_name="beating", unit_mode=unit_mode)
        data = HeartbeatData(client_id="client-1", consumer_data_set=[consumer])
        await peer.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(data))
        back = ConsumerSendMsgBackRequestHeader(offset=0, group="returning", delay_level=0, unit_mode=unit_mode)
        assert (await peer.ask(RequestCode.CONSUMER_SEND_MSG_BACK, back)).code == ResponseCode.SUCCESS
        assert flag_of(peer, "Made") == (1 if unit_mode else 0)
        assert flag_of(peer, "%RETRY%beating") == (2 if unit_mode else 0)
        assert flag_of(peer, "%RETRY%returning") == (2 if unit_mode else 0)
