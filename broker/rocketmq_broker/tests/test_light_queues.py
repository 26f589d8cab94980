"""Light queues over a real connection: sent to through a topic, pulled from directly, with positions that are kept."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from rocketmq_broker import consumer_offsets
from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.admin import TopicHeader
from rocketmq_remoting.headers.offsets import QueryConsumerOffsetRequestHeader, UpdateConsumerOffsetRequestHeader

ON: dict[str, Any] = {"enableLmq": "true", "enableMultiDispatch": "true"}
GROUP = "%LMQ%reader"


async def put(peer: Peer, body: bytes, *lights: str) -> None:
    answer = await peer.send(body=body, properties={"INNER_MULTI_DISPATCH": ",".join(lights)})
    assert answer.code == ResponseCode.SUCCESS, answer.remark


async def commit(peer: Peer, topic: str, offset: int) -> int:
    header = UpdateConsumerOffsetRequestHeader(consumer_group=GROUP, topic=topic, queue_id=0, commit_offset=offset)
    return (await peer.ask(RequestCode.UPDATE_CONSUMER_OFFSET, header)).code


async def committed(peer: Peer, topic: str) -> str:
    header = QueryConsumerOffsetRequestHeader(consumer_group=GROUP, topic=topic, queue_id=0)
    return (await peer.ask(RequestCode.QUERY_CONSUMER_OFFSET, header)).ext_fields()["offset"]


async def test_a_light_queue_is_pulled_without_being_configured(tmp_path: Path) -> None:
    async with serving(tmp_path, **ON) as peer:
        for n in range(10):
            await put(peer, b"%d" % n, "%LMQ%all", f"%LMQ%{n % 2}")
        answer = await peer.pull("%LMQ%1", consumer_group=GROUP, offset=1)
        assert [m.body for m in messages_of(answer)] == [b"3", b"5", b"7", b"9"]
        assert answer.ext_fields()["nextBeginOffset"] == "5"
        assert "%LMQ%1" not in peer.broker.topics.configs
        assert GROUP not in peer.broker.groups.configs


async def test_a_pull_that_waits_for_a_light_queue_is_woken(tmp_path: Path) -> None:
    async with serving(tmp_path, **ON) as peer:
        await put(peer, b"0", "%LMQ%a")
        waiting = asyncio.create_task(peer.pull("%LMQ%a", consumer_group=GROUP, offset=1, sys_flag=6))
        async with asyncio.timeout(10):
            while peer.broker.pulling.held.count != 1:
                await asyncio.sleep(0)
            await put(peer, b"elsewhere", "%LMQ%b")
            await put(peer, b"1", "%LMQ%a")
            assert [m.body for m in messages_of(await waiting)] == [b"1"]


async def test_positions_survive_and_stand_where_apache_has_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        header = UpdateConsumerOffsetRequestHeader(consumer_group="cg", topic="T", queue_id=0, commit_offset=1)
        for n in range(2):
            await peer.send(body=b"%d" % n)
        assert (await peer.ask(RequestCode.UPDATE_CONSUMER_OFFSET, header)).code == ResponseCode.SUCCESS
    async with serving(tmp_path, **ON) as peer:
        # Those from before the light queues were switched on are still there.
        assert peer.broker.offsets.query("cg", "T", 0) == 1
        for n in range(7):
            await put(peer, b"%d" % n, "%LMQ%a")
        assert await commit(peer, "%LMQ%a", 5) == ResponseCode.SUCCESS
    stored = json.loads((tmp_path / "store/config/lmqConsumerOffset.json").read_text())
    assert stored["lmqOffsetTable"] == {f"%LMQ%a@{GROUP}": 5}
    assert stored["offsetTable"]["T@cg"] == {"0": 1}
    async with serving(tmp_path, **ON) as peer:
        assert await committed(peer, "%LMQ%a") == "5"
        assert [m.body for m in messages_of(await peer.pull("%LMQ%a", consumer_group=GROUP, offset=5))] == [b"5", b"6"]


async def test_nothing_is_sent_to_a_light_queue_itself(tmp_path: Path) -> None:
    async with serving(tmp_path, **ON) as peer:
        assert (await peer.send("%LMQ%a")).code == ResponseCode.NO_PERMISSION


async def test_a_delayed_message_comes_to_its_light_queue_when_it_is_due(tmp_path: Path) -> None:
    async with serving(tmp_path, messageDelayLevel="1s", **ON) as peer:
        properties = {"INNER_MULTI_DISPATCH": "%LMQ%a", "DELAY": "1"}
        assert (await peer.send(body=b"later", properties=properties)).code == ResponseCode.SUCCESS
        assert peer.broker.store.queue_bounds("%LMQ%a", 0) is None
        async with asyncio.timeout(20):
            while peer.broker.store.queue_bounds("%LMQ%a", 0) is None:
                await asyncio.sleep(0.05)
        assert [m.body for m in messages_of(await peer.pull("%LMQ%a", consumer_group=GROUP))] == [b"later"]


async def test_cleaning_unused_topics_leaves_light_queues_and_a_deletion_takes_one(tmp_path: Path) -> None:
    async with serving(tmp_path, **ON) as peer:
        await put(peer, b"0", "%LMQ%a", "%LMQ%b")
        assert (await peer.ask(RequestCode.CLEAN_UNUSED_TOPIC)).code == ResponseCode.SUCCESS
        assert {"%LMQ%a", "%LMQ%b"} <= peer.broker.store.topics()
        delete = TopicHeader(topic="%LMQ%a")
        assert (await peer.ask(RequestCode.DELETE_TOPIC_IN_BROKER, delete)).code == ResponseCode.SUCCESS
        assert peer.broker.store.topics() & {"%LMQ%a", "%LMQ%b"} == {"%LMQ%b"}


async def test_light_queues_beyond_the_limit_are_refused_with_the_reason(tmp_path: Path) -> None:
    async with serving(tmp_path, maxLmqConsumeQueueNum=2, **ON) as peer:
        await put(peer, b"0", "%LMQ%a", "%LMQ%b")
        answer = await peer.send(properties={"INNER_MULTI_DISPATCH": "%LMQ%c"})
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert "maxLmqConsumeQueueNum is 2" in (answer.remark or "")


async def test_light_queues_are_counted_together(tmp_path: Path) -> None:
    async with serving(tmp_path, **ON) as peer:
        for n in range(20):
            await put(peer, b"%d" % n, f"%LMQ%{n}")
            await peer.pull(f"%LMQ%{n}", consumer_group=f"%LMQ%g{n}")
        assert peer.broker.statistics.groups.keys() == {("%LMQ%", "%LMQ%")}
        assert peer.broker.statistics.groups["%LMQ%", "%LMQ%"].get_nums == 20


async def test_readers_that_nobody_configured_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer_offsets, "LIGHT_OFFSETS_MAX", 3)
    async with serving(tmp_path, **ON) as peer:
        await put(peer, b"0", *(f"%LMQ%{n}" for n in range(5)))
        for n in range(5):
            assert (await peer.pull(f"%LMQ%{n}", consumer_group=GROUP)).code == ResponseCode.SUCCESS
        codes = [await commit(peer, f"%LMQ%{n}", 1) for n in range(5)]
        assert codes == [ResponseCode.SUCCESS] * 3 + [ResponseCode.SYSTEM_ERROR] * 2
        assert len(peer.broker.offsets.pulled) == 3
        header = UpdateConsumerOffsetRequestHeader(consumer_group="cg", topic="T", queue_id=0, commit_offset=1)
        assert (await peer.ask(RequestCode.UPDATE_CONSUMER_OFFSET, header)).code == ResponseCode.SUCCESS
