"""Timer messages through a whole broker: what is accepted, when it comes, what a restart keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.properties import find_property
from rocketmq_common.records import StoredMessage
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.recall import RecallMessageRequestHeader

WAIT_S = 30.0
RECALLS = {"recallMessageEnable": "true"}


def now_ms() -> int:
    return time.time_ns() // 1_000_000


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition that the broker's own timers bring about."""
    async with asyncio.timeout(WAIT_S):
        while not await condition():
            await asyncio.sleep(0.01)


async def received(peer: Peer, count: int, topic: str = "T") -> list[StoredMessage]:
    found: list[StoredMessage] = []

    async def enough() -> bool:
        answer = await peer.pull(topic, 0, len(found), sys_flag=0, sub_version=1)
        found.extend(messages_of(answer) if answer.code == ResponseCode.SUCCESS else [])
        return len(found) >= count

    await eventually(enough)
    return found


async def send_timer(peer: Peer, name: str, value: int, *, body: bytes = b"x", key: str = "K1") -> Command:
    answer = await peer.send(body=body, properties={"UNIQ_KEY": key, name: str(value)})
    assert answer.code == ResponseCode.SUCCESS, answer.remark
    return answer


async def recall(peer: Peer, handle: str, topic: str = "T") -> Command:
    return await peer.ask(RequestCode.RECALL_MESSAGE, RecallMessageRequestHeader(topic=topic, recall_handle=handle))


@pytest.mark.parametrize(
    ("name", "value"), [("TIMER_DELAY_MS", 300), ("TIMER_DELAY_SEC", 1), ("TIMER_DELIVER_MS", None)]
)
async def test_a_message_is_delivered_at_its_time_and_not_before(tmp_path: Path, name: str, value: int | None) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        before_ms = now_ms()
        wanted = before_ms + 450 if value is None else value
        await send_timer(peer, name, wanted)
        after_ms = now_ms()
        (message,) = await received(peer, 1)
    delay_ms = 450 if value is None else 1000 * value if name == "TIMER_DELAY_SEC" else value
    due_ms = int(find_property(message.properties, "TIMER_DELIVER_MS") or 0)
    assert before_ms + delay_ms <= due_ms <= after_ms + delay_ms
    assert message.store_timestamp >= due_ms
    assert message.body == b"x"
    assert find_property(message.properties, "REAL_TOPIC") == "T"
