"""Timer messages through a whole broker: what is accepted, when it comes, what a restart keeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.properties import find_property
from rocketmq_common.recall_handles import RecallHandle, decode_recall_handle
from rocketmq_common.records import StoredMessage
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.headers.recall import RecallMessageRequestHeader
from rocketmq_store.timer.checkpoint import decode_checkpoint

WAIT_S = 30.0
RECALLS: dict[str, Any] = {"recallMessageEnable": "true"}


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


async def test_a_time_gone_by_is_delivered_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        answer = await send_timer(peer, "TIMER_DELIVER_MS", now_ms() - 5)
        assert "recallHandle" not in answer.ext_fields()
        (message,) = await received(peer, 1)
    assert find_property(message.properties, "TIMER_OUT_MS") is None


@pytest.mark.parametrize(
    ("properties", "settings", "code"),
    [
        ({"TIMER_DELAY_SEC": "259201"}, {}, ResponseCode.MESSAGE_ILLEGAL),
        ({"TIMER_DELAY_SEC": "11"}, {"timerMaxDelaySec": 10}, ResponseCode.MESSAGE_ILLEGAL),
        ({"TIMER_DELAY_MS": "1.5"}, {}, ResponseCode.MESSAGE_ILLEGAL),
        ({"TIMER_DELIVER_MS": "1", "TIMER_DEL_UNIQKEY": "T+K"}, {}, ResponseCode.MESSAGE_ILLEGAL),
        ({"TIMER_DELAY_MS": "9"}, {"timerWheelEnable": "false"}, ResponseCode.SYSTEM_ERROR),
    ],
)
async def test_what_cannot_wait_is_refused_with_apaches_code(
    tmp_path: Path, properties: dict[str, str], settings: dict[str, Any], code: ResponseCode
) -> None:
    async with serving(tmp_path, **settings) as peer:
        answer = await peer.send(properties={"UNIQ_KEY": "K", **properties})
        assert answer.code == code, answer.remark


async def test_a_delay_level_wins_over_a_timer(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        await peer.send(properties={"UNIQ_KEY": "K", "DELAY": "1", "TIMER_DELAY_SEC": "3600"})
        (message,) = await received(peer, 1)
        assert find_property(message.properties, "TIMER_DELAY_SEC") is None


async def test_messages_come_in_the_order_of_their_times(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        start_ms = now_ms() + 1500
        for number in (7, 2, 9, 0, 4, 1, 8, 3, 6, 5):
            await send_timer(peer, "TIMER_DELIVER_MS", start_ms + number * 40, body=b"%d" % number, key=f"K{number}")
        messages = await received(peer, 10)
        assert [message.body for message in messages] == [b"%d" % number for number in range(10)]


async def test_a_restart_keeps_what_waits_and_repeats_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        await send_timer(peer, "TIMER_DELAY_MS", 200, key="A")
        await send_timer(peer, "TIMER_DELAY_MS", 2500, body=b"y", key="B")
        await received(peer, 1)
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        messages = await received(peer, 2)
        assert [message.body for message in messages] == [b"x", b"y"]
        due_ms = int(find_property(messages[1].properties, "TIMER_DELIVER_MS") or 0)
        assert messages[1].store_timestamp >= due_ms
        assert peer.broker.timers.counts.total == 0


async def test_a_recalled_message_is_never_delivered(tmp_path: Path) -> None:
    async with serving(tmp_path, **RECALLS) as peer:
        await peer.heartbeat()
        kept = await send_timer(peer, "TIMER_DELAY_MS", 1200, body=b"kept", key="A")
        gone = await send_timer(peer, "TIMER_DELAY_MS", 1200, body=b"gone", key="B")
        handle = gone.ext_fields()["recallHandle"]
        named = decode_recall_handle(handle)
        assert (named.topic, named.broker_name, named.unique_key) == ("T", "broker-a", "B")
        answer = await recall(peer, handle)
        assert answer.code == ResponseCode.SUCCESS, answer.remark
        assert answer.ext_fields()["msgId"] == "B"
        last = await send_timer(peer, "TIMER_DELAY_MS", 1500, body=b"last", key="C")
        assert kept.code == last.code == ResponseCode.SUCCESS
        messages = await received(peer, 2)
        assert [message.body for message in messages] == [b"kept", b"last"]
        assert peer.broker.timers.counters.recalled_nums == 1


@pytest.mark.parametrize(
    ("handle", "code"),
    [
        ("garbage!", ResponseCode.ILLEGAL_OPERATION),
        (RecallHandle("other", "broker-a", 1 << 42, "K").encode(), ResponseCode.ILLEGAL_OPERATION),
        (RecallHandle("T", "broker-b", 1 << 42, "K").encode(), ResponseCode.ILLEGAL_OPERATION),
        (RecallHandle("T", "broker-a", 1, "K").encode(), ResponseCode.ILLEGAL_OPERATION),
        (RecallHandle("T", "broker-a", 1 << 52, "K").encode(), ResponseCode.ILLEGAL_OPERATION),
    ],
)
async def test_a_bad_handle_is_refused(tmp_path: Path, handle: str, code: ResponseCode) -> None:
    async with serving(tmp_path, **RECALLS) as peer:
        await peer.send()
        assert (await recall(peer, handle)).code == code


async def test_recall_is_off_unless_the_broker_allows_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send()
        answer = await recall(peer, RecallHandle("T", "broker-a", now_ms() + 60_000, "K").encode())
        assert answer.code == ResponseCode.NO_PERMISSION


async def test_slaves_and_tools_are_told_how_far_timers_have_come(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await send_timer(peer, "TIMER_DELAY_SEC", 3600)

        async def is_filed() -> bool:
            return peer.broker.timers.counts.total == 1

        await eventually(is_filed)
        checkpoint = decode_checkpoint(bytes((await peer.ask(RequestCode.GET_TIMER_CHECK_POINT)).body))
        assert checkpoint.queue_offset == checkpoint.master_queue_offset == 1
        assert abs(checkpoint.read_ms - now_ms()) < 60_000
        counts = msgspec.json.decode((await peer.ask(RequestCode.GET_TIMER_METRICS)).body)
        assert counts["timingCount"]["T"]["count"] == 1
        info = msgspec.json.decode((await peer.ask(RequestCode.GET_BROKER_RUNTIME_INFO)).body)["table"]
        assert info["timerCongestNum"] == "1"
        assert info["timerOffsetBehind"] == "0"
        text = "".join(str(family.name) for family in peer.broker.observation.metrics.collect() if family is not None)
        for name in ("rocketmq_timing_messages", "rocketmq_timer_enqueue_total", "rocketmq_timer_message_snapshot"):
            assert name in text
