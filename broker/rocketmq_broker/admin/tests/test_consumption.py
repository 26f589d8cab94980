"""Reports on topics and groups; maps keyed by queue are bare objects, which no JSON reader takes: `javajson` does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rocketmq_broker.admin import consumption
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common import javajson
from rocketmq_remoting.codes import RequestCode, ResponseCode


def by_queue(table: dict[Any, Any]) -> dict[int, Any]:
    return {key.as_dict()["queueId"]: value for key, value in table.items()}


async def consumed(peer: Peer, count: int = 5, committed: int = 2) -> None:
    """``count`` messages in queue 0 of T, of which cg has acknowledged ``committed``."""
    for _ in range(count):
        await peer.send("T")
    await peer.heartbeat("cg", "T")
    peer.broker.offsets.commit("cg", "T", 0, committed)


async def test_topic_statistics_have_bare_object_keys(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await consumed(peer)
        answer = await peer.ask(RequestCode.GET_TOPIC_STATS_INFO, {"topic": "T"})
        assert answer.body.startswith(b'{"offsetTable":{{"')
        table = by_queue(javajson.loads(answer.body)["offsetTable"])
        assert len(table) == 4
        assert (table[0]["minOffset"], table[0]["maxOffset"]) == (0, 5)
        assert table[0]["lastUpdateTimestamp"] == peer.broker.store.store_time("T", 0, 4) > 0
        assert table[1] == {"minOffset": 0, "maxOffset": 0, "lastUpdateTimestamp": 0}
        assert (await peer.ask(RequestCode.GET_TOPIC_STATS_INFO, {"topic": "x"})).code == ResponseCode.TOPIC_NOT_EXIST


async def test_consume_statistics_tell_broker_consumer_and_pull_offset(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await consumed(peer)
        await peer.pull("T", offset=2)
        for ext in ({"topic": "T"}, {"topicList": "T;nope"}, {}):
            answer = await peer.ask(RequestCode.GET_CONSUME_STATS, {"consumerGroup": "cg", **ext})
            table = by_queue(javajson.loads(answer.body)["offsetTable"])
            assert (table[0]["brokerOffset"], table[0]["consumerOffset"]) == (5, 2)
            assert table[0]["pullOffset"] >= 2
            assert table[0]["lastTimestamp"] == peer.broker.store.store_time("T", 0, 1)


async def test_topics_that_online_members_left_are_not_told(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await consumed(peer)
        await peer.heartbeat("cg", "other", sub_version=2)
        answer = await peer.ask(RequestCode.GET_CONSUME_STATS, {"consumerGroup": "cg"})
        assert javajson.loads(answer.body)["offsetTable"] == {}


async def test_consume_statistics_of_all_groups_add_up(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await consumed(peer)
        peer.broker.offsets.commit("cg", "T", 1, 0)
        answer = await peer.ask(RequestCode.GET_BROKER_CONSUME_STATS, {"isOrder": "false"})
        body = javajson.loads(answer.body)
        assert body["brokerAddr"] == peer.address
        assert (body["totalDiff"], body["totalInflightDiff"]) == (3, 0)
        stats = {group: found for entry in body["consumeStatsList"] for group, found in entry.items()}
        assert by_queue(stats["cg"][0]["offsetTable"])[0]["brokerOffset"] == 5
        assert stats["TOOLS_CONSUMER"] == []
        ordered = javajson.loads((await peer.ask(RequestCode.GET_BROKER_CONSUME_STATS, {"isOrder": "true"})).body)
        assert ordered["totalDiff"] == 0


async def test_reports_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumption, "ENTRIES_MAX", 3)
    async with serving(tmp_path) as peer:
        await consumed(peer)
        for code, ext in (
            (RequestCode.GET_CONSUME_STATS, {"consumerGroup": "cg"}),
            (RequestCode.GET_BROKER_CONSUME_STATS, {"isOrder": "false"}),
        ):
            answer = await peer.ask(code, ext)
            assert (answer.code, "more than 3" in (answer.remark or "")) == (ResponseCode.SYSTEM_ERROR, True)


async def test_time_span_tells_where_a_group_stands(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await consumed(peer)
        answer = await peer.ask(RequestCode.QUERY_CONSUME_TIME_SPAN, {"topic": "T", "group": "cg"})
        spans = {span["messageQueue"]["queueId"]: span for span in json.loads(answer.body)["consumeTimeSpanSet"]}
        time_of = peer.broker.store.store_time
        assert spans[0]["minTimeStamp"] == time_of("T", 0, 0)
        assert spans[0]["maxTimeStamp"] == time_of("T", 0, 4)
        assert spans[0]["consumeTimeStamp"] == time_of("T", 0, 1)
        assert spans[0]["delayTime"] >= 0
        assert spans[1]["delayTime"] == 0
        missing = await peer.ask(RequestCode.QUERY_CONSUME_TIME_SPAN, {"topic": "x", "group": "cg"})
        assert missing.code == ResponseCode.TOPIC_NOT_EXIST


async def test_who_reads_what_both_ways(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await consumed(peer)
        peer.broker.offsets.commit("offline", "T", 0, 1)
        ask = peer.ask
        groups = json.loads((await ask(RequestCode.QUERY_TOPIC_CONSUME_BY_WHO, {"topic": "T"})).body)
        assert groups == {"groupList": ["cg", "offline"]}
        topics = json.loads((await ask(RequestCode.QUERY_TOPICS_BY_CONSUMER, {"group": "offline"})).body)
        assert topics == {"brokerAddr": peer.address, "topicList": ["T"]}
        ext = {"group": "cg", "topic": "T"}
        found = json.loads((await ask(RequestCode.QUERY_SUBSCRIPTION_BY_CONSUMER, ext)).body)
        assert (found["group"], found["subscriptionData"]["subString"]) == ("cg", "*")
        absent = json.loads((await ask(RequestCode.QUERY_SUBSCRIPTION_BY_CONSUMER, ext | {"topic": "x"})).body)
        assert absent == {"group": "cg", "topic": "x"}
