"""Priority messages: the queue says how urgent a message is, and pops of a priority topic begin with the most urgent."""

from __future__ import annotations

from pathlib import Path

import pytest

from rocketmq_broker.pop.tests.popping import pop, popped
from rocketmq_broker.tests.harness import serving
from rocketmq_common.topics import TopicConfig

PRIORITY = TopicConfig(topic_name="T", read_queue_nums=4, write_queue_nums=4, attributes={"message.type": "PRIORITY"})


async def test_the_most_urgent_messages_are_popped_first(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(PRIORITY)
        for priority in (0, 3, 1, 9, 2, 3):
            answer = await peer.send(body=b"%d" % priority, properties={"_SYS_MSG_PRIORITY_": str(priority)})
            assert answer.ext_fields()["queueId"] == str(min(priority, 3))
        got = [message.body for message, _ in popped(await pop(peer, init_mode=0))]
        assert got == [b"3", b"9", b"3", b"2", b"1", b"0"]
        for _ in range(5):
            await peer.send(body=b"low", properties={"_SYS_MSG_PRIORITY_": "0"})
            await peer.send(body=b"high", properties={"_SYS_MSG_PRIORITY_": "3"})
            got = [message.body for message, _ in popped(await pop(peer, max_msg_nums=1))]
            assert got == [b"high"]


@pytest.mark.parametrize(
    ("properties", "queue_id"),
    [
        ({"_SYS_MSG_PRIORITY_": "3", "__SHARDINGKEY": "k"}, "1"),
        ({"_SYS_MSG_PRIORITY_": "-1"}, "1"),
        ({"_SYS_MSG_PRIORITY_": "high"}, "1"),
        ({"_SYS_MSG_PRIORITY_": "2"}, "2"),
        ({"NOT_SYS_MSG_PRIORITY_": "2"}, "1"),
    ],
)
async def test_only_a_plain_message_with_a_number_goes_to_the_queue_of_its_priority(
    tmp_path: Path, properties: dict[str, str], queue_id: str
) -> None:
    async with serving(tmp_path) as peer:
        await peer.broker.topics.update(PRIORITY)
        answer = await peer.send(queue_id=1, properties=properties)
        assert answer.ext_fields()["queueId"] == queue_id
