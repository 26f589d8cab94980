"""Groups by administration: created, changed, deleted, listed, forbidden."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command

# As mqadmin 5.5 sends it.
CONFIG = {
    "attributes": {}, "brokerId": 0, "consumeBroadcastEnable": True, "consumeEnable": True, "consumeFromMinEnable": True,
    "consumeMessageOrderly": False, "consumeTimeoutMinute": 15, "groupName": "g", "groupRetryPolicy": {"type": "CUSTOMIZED"},
    "groupSysFlag": 0, "notifyConsumerIdsChangedEnable": True, "retryMaxTimes": 16, "retryQueueNums": 1,
    "whichBrokerWhenConsumeSlowly": 1,
}  # fmt: skip


async def create(peer: Peer, **fields: object) -> Command:
    return await peer.ask(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, None, json.dumps(CONFIG | fields).encode())


async def test_created_group_comes_back_as_java_wrote_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert (await create(peer, retryMaxTimes=3)).code == 0
        answer = await peer.ask(RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": "g"})
        assert json.loads(answer.body) == CONFIG | {"retryMaxTimes": 3}
        missing = await peer.ask(RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": "nope"})
        assert missing.code == ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST
        stored = json.loads((tmp_path / "store/config/subscriptionGroup.json").read_text())
        assert stored["subscriptionGroupTable"]["g"]["retryMaxTimes"] == 3


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"groupName": ""}, "blank"),
        ({"groupName": "a b"}, "illegal characters"),
        ({"retryQueueNums": -1}, "retryQueueNums=-1"),
        ({"retryMaxTimes": -2}, "retryMaxTimes=-2"),
        ({"brokerId": -1}, "brokerId"),
        ({"consumeEnable": "perhaps"}, "consumeEnable"),
    ],
)
async def test_bad_group_is_refused_with_field_and_value(tmp_path: Path, fields: dict[str, object], words: str) -> None:
    async with serving(tmp_path) as peer:
        answer = await create(peer, **fields)
        assert answer.code == ResponseCode.INVALID_PARAMETER
        assert words in (answer.remark or "")


async def test_groups_come_in_one_list(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        body = json.dumps({"groupConfigList": [CONFIG, CONFIG | {"groupName": "h"}]}).encode()
        assert (await peer.ask(RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, None, body)).code == 0
        assert {"g", "h"} <= peer.broker.groups.configs.keys()


async def test_deleted_group_keeps_its_offsets_unless_told_otherwise(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        for clean, left in (("false", 5), ("true", -1)):
            await create(peer)
            peer.broker.offsets.commit("g", "T", 0, 5)
            ext = {"groupName": "g", "cleanOffset": clean}
            assert (await peer.ask(RequestCode.DELETE_SUBSCRIPTIONGROUP, ext)).code == 0
            assert peer.broker.groups.get("g") is None
            assert peer.broker.offsets.query("g", "T", 0) == left


async def test_all_groups_come_with_their_number(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await create(peer)
        answer = await peer.ask(RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG)
        body = json.loads(answer.body)
        assert int(answer.ext_fields()["totalGroupNum"]) == len(body["subscriptionGroupTable"])
        assert body["subscriptionGroupTable"]["g"] == CONFIG
        page = await peer.ask(RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, {"groupSeq": "1", "maxGroupNum": "2"})
        assert list(json.loads(page.body)["subscriptionGroupTable"]) == list(body["subscriptionGroupTable"])[1:3]


async def test_forbidden_topic_stops_pulls_until_allowed(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.send("T")
        await peer.heartbeat("cg", "T")
        ext = {"group": "cg", "topic": "T"}
        asked = await peer.ask(RequestCode.UPDATE_AND_GET_GROUP_FORBIDDEN, ext)
        assert json.loads(asked.body) == {"group": "cg", "readable": True, "topic": "T"}
        for readable, code in (("false", ResponseCode.NO_PERMISSION), ("true", ResponseCode.SUCCESS)):
            answer = await peer.ask(RequestCode.UPDATE_AND_GET_GROUP_FORBIDDEN, ext | {"readable": readable})
            assert json.loads(answer.body)["readable"] is (readable == "true")
            assert (await peer.pull("T", sys_flag=0)).code == code
