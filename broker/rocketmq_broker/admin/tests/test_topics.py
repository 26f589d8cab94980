"""Topics by administration: created, changed, deleted, listed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rocketmq_broker.admin import requests
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command


def as_mqadmin(topic: str, **fields: str) -> dict[str, str]:
    """The header as mqadmin 5.5 sends it: all texts."""
    return {
        "topic": topic, "defaultTopic": "TBW102", "readQueueNums": "8", "writeQueueNums": "8", "perm": "6",
        "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false", "attributes": "", "force": "false",
        **fields,
    }  # fmt: skip


async def create(peer: Peer, topic: str, **fields: str) -> Command:
    return await peer.ask(RequestCode.UPDATE_AND_CREATE_TOPIC, as_mqadmin(topic, **fields))


async def get(peer: Peer, topic: str) -> dict[str, object]:
    answer = await peer.ask(RequestCode.GET_TOPIC_CONFIG, {"topic": topic, "lo": "true"})
    assert answer.code == 0, answer.remark
    result: dict[str, object] = json.loads(answer.body)
    return result


async def test_created_topic_is_there_over_the_wire_and_on_disk(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert (await create(peer, "orders", order="true", readQueueNums="4")).code == 0
        assert await get(peer, "orders") == {
            "attributes": {}, "order": True, "perm": 6, "readQueueNums": 4, "topicFilterType": "SINGLE_TAG",
            "topicName": "orders", "topicSysFlag": 0, "writeQueueNums": 8,
        }  # fmt: skip
        stored = json.loads((tmp_path / "store/config/topics.json").read_text())
        assert stored["topicConfigTable"]["orders"]["readQueueNums"] == 4


async def test_changing_nothing_moves_no_version(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await create(peer, "orders")
        before = peer.broker.topics.data_version
        await create(peer, "orders")
        assert peer.broker.topics.data_version == before
        await create(peer, "orders", perm="4")
        assert peer.broker.topics.data_version.counter > before.counter


@pytest.mark.parametrize(
    ("topic", "fields", "words"),
    [
        ("", {}, "blank"),
        ("a b", {}, "illegal characters"),
        ("t" * 128, {}, "longer"),
        ("SCHEDULE_TOPIC_XXXX", {}, "system topic"),
        ("DefaultCluster", {}, "system topic"),
        ("rmq_sys_x", {}, "system topic"),
        ("t", {"readQueueNums": "0"}, "readQueueNums=0"),
        ("t", {"writeQueueNums": "20000"}, "writeQueueNums=20000"),
        ("t", {"perm": "99"}, "perm=99"),
        ("t", {"topicFilterType": "X"}, "topicFilterType=X"),
        ("t", {"attributes": "+message.type=MIXED"}, "not supported"),
        ("t", {"attributes": "+message.type=HUGE"}, "FIFO"),
        ("t", {"attributes": "+nope=1"}, "unknown"),
        ("t", {"attributes": "message.type=FIFO"}, "+key=value"),
        ("t", {"attributes": "+cleanup.policy=COMPACTION"}, "not supported"),
    ],
)
async def test_bad_topic_is_refused_with_field_and_value(
    tmp_path: Path, topic: str, fields: dict[str, str], words: str
) -> None:
    async with serving(tmp_path) as peer:
        answer = await create(peer, topic, **fields)
        assert answer.code == ResponseCode.INVALID_PARAMETER
        assert words in (answer.remark or "")
        assert topic not in peer.broker.topics.configs or peer.broker.topics.is_system(topic)


async def test_missing_number_names_its_field(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await create(peer, "t", readQueueNums="many")
        assert answer.code == ResponseCode.SYSTEM_ERROR
        assert "readQueueNums" in (answer.remark or "")


async def test_attributes_are_set_changed_and_removed(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await create(peer, "t", attributes="+message.type=FIFO,+reserve.time=5")
        await create(peer, "t", attributes="+message.type=DELAY,-reserve.time")
        assert (await get(peer, "t"))["attributes"] == {"message.type": "DELAY"}
        await create(peer, "t")
        assert (await get(peer, "t"))["attributes"] == {"message.type": "DELAY"}


async def test_topics_come_in_one_list_or_not_at_all(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        good = {"topicName": "a", "readQueueNums": 2, "writeQueueNums": 3, "perm": 6}
        body = json.dumps({"topicConfigList": [good, {**good, "topicName": "b b"}]}).encode()
        answer = await peer.ask(RequestCode.UPDATE_AND_CREATE_TOPIC_LIST, None, body)
        assert answer.code == ResponseCode.INVALID_PARAMETER
        assert "a" not in peer.broker.topics.configs
        body = json.dumps({"topicConfigList": [good, {**good, "topicName": "b"}]}).encode()
        assert (await peer.ask(RequestCode.UPDATE_AND_CREATE_TOPIC_LIST, None, body)).code == 0
        assert (await get(peer, "b"))["writeQueueNums"] == 3
        for wrong in (b"{", b"[]", b'{"topicConfigList":3}', b'{"topicConfigList":[{"topicName":5}]}'):
            assert (
                await peer.ask(RequestCode.UPDATE_AND_CREATE_TOPIC_LIST, None, wrong)
            ).code == ResponseCode.INVALID_PARAMETER


async def test_deleted_topic_leaves_no_offsets_no_queues_no_statistics(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T")
        await peer.heartbeat("cg", "T")
        peer.broker.offsets.commit("cg", "T", 0, 1)
        assert (await peer.ask(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": "T"})).code == 0
        assert (await peer.ask(RequestCode.GET_TOPIC_CONFIG, {"topic": "T"})).code == ResponseCode.TOPIC_NOT_EXIST
        assert peer.broker.offsets.query("cg", "T", 0) == -1
        assert peer.broker.store.queue_bounds("T", 0) is None
        assert "T" not in peer.broker.statistics.topics
        assert (await peer.ask(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": "T"})).code == 0
        refused = await peer.ask(RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": "TBW102"})
        assert refused.code == ResponseCode.INVALID_PARAMETER
        # The name starts anew: its first message has offset 0 again.
        assert (await peer.send("T")).ext_fields()["queueOffset"] == "0"


async def test_all_topics_come_whole_or_by_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(tmp_path) as peer:
        whole = await peer.ask(RequestCode.GET_ALL_TOPIC_CONFIG)
        table = json.loads(whole.body)["topicConfigTable"]
        total = int(whole.ext_fields()["totalTopicNum"])
        assert len(table) == total > 5
        seen: dict[str, object] = {}
        while len(seen) < total:
            ext = {"topicSeq": str(len(seen)), "maxTopicNum": "4", "dataVersion": ""}
            seen |= json.loads((await peer.ask(RequestCode.GET_ALL_TOPIC_CONFIG, ext)).body)["topicConfigTable"]
        assert seen == table
        monkeypatch.setattr(requests, "ENTRIES_MAX", 3)
        refused = await peer.ask(RequestCode.GET_ALL_TOPIC_CONFIG)
        assert (refused.code, "pages" in (refused.remark or "")) == (ResponseCode.SYSTEM_ERROR, True)
        negative = await peer.ask(RequestCode.GET_ALL_TOPIC_CONFIG, {"topicSeq": "-1"})
        assert negative.code == ResponseCode.INVALID_PARAMETER


async def test_system_topics_contain_those_named_after_cluster_and_broker(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        topics = json.loads((await peer.ask(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER)).body)["topicList"]
        assert {"DefaultCluster", "broker-a", "TBW102", "SCHEDULE_TOPIC_XXXX"} <= set(topics)


async def test_queues_without_a_topic_are_cleaned_on_request(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T")
        await peer.send("kept")
        del peer.broker.topics.configs["T"]
        assert (await peer.ask(RequestCode.CLEAN_UNUSED_TOPIC)).code == 0
        own = {
            *("SCHEDULE_TOPIC_XXXX", "RMQ_SYS_TRANS_HALF_TOPIC", "RMQ_SYS_TRANS_OP_HALF_TOPIC"),
            *("rmq_sys_wheel_timer", "rmq_sys_REVIVE_LOG_DefaultCluster"),
        }
        assert peer.broker.store.topics() == {"kept", *own}
