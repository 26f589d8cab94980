"""Moving groups: reset, clone, correction, and what clients say themselves."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common import javajson
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route

MQADMIN = {"topic": "T", "group": "cg", "isForce": "true", "queueId": "-1", "offset": "-1"}


async def filled(peer: Peer, count: int = 5) -> None:
    for _ in range(count):
        await peer.send("T")
    await peer.heartbeat("cg", "T")
    peer.broker.offsets.commit("cg", "T", 0, 2)


async def reset(peer: Peer, **fields: str) -> Command:
    return await peer.ask(RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, {**MQADMIN, "timestamp": "0", **fields})


def table_of(answer: Command) -> dict[int, int]:
    assert answer.code == 0, answer.remark
    return {key.as_dict()["queueId"]: value for key, value in javajson.loads(answer.body)["offsetTable"].items()}


async def test_reset_reaches_the_next_pull_and_the_disk(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await filled(peer)
        answer = await reset(peer)
        assert answer.body.startswith(b'{"offsetTable":{{"')
        assert table_of(answer) == {0: 0, 1: 0, 2: 0, 3: 0}
        stored = json.loads((tmp_path / "store/config/consumerOffset.json").read_text())
        assert stored["offsetTable"]["T@cg"]["0"] == 0
        # A late commit of a member that does not know yet must not undo it.
        peer.broker.offsets.commit("cg", "T", 0, 5)
        pulled = await peer.pull("T", offset=2)
        assert pulled.code == ResponseCode.PULL_OFFSET_MOVED
        assert pulled.ext_fields()["nextBeginOffset"] == "0"
        assert (await peer.pull("T", offset=0)).code == 0


async def test_reset_to_the_end_to_a_time_and_to_an_offset(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await filled(peer)
        assert table_of(await reset(peer, timestamp="-1"))[0] == 5
        third = peer.broker.store.store_time("T", 0, 3)
        assert table_of(await reset(peer, timestamp=str(third)))[0] <= 3
        assert table_of(await reset(peer, queueId="0", offset="4")) == {0: 4}
        outside = await reset(peer, queueId="0", offset="6")
        assert (outside.code, "range [0-5]" in (outside.remark or "")) == (ResponseCode.SYSTEM_ERROR, True)
        assert (await reset(peer, queueId="4", offset="0")).code == ResponseCode.INVALID_PARAMETER


async def test_reset_needs_topic_and_group(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await filled(peer)
        assert (await reset(peer, topic="x")).code == ResponseCode.TOPIC_NOT_EXIST
        assert (await reset(peer, group="x")).code == ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST


async def test_reset_by_clients_is_pushed_to_them(tmp_path: Path) -> None:
    heard: list[tuple[dict[str, str], bytes]] = []

    def take(_: Connection, command: Command, __: Any) -> Response:
        heard.append((command.ext_fields(), command.body))
        return Response()

    routes = [Route(RequestCode.RESET_CONSUMER_CLIENT_OFFSET, None, take)]
    async with serving(tmp_path, routes, useServerSideResetOffset="false") as peer:
        await filled(peer)
        for queue_id in range(1, 4):
            peer.broker.offsets.commit("cg", "T", queue_id, 0)
        assert table_of(await reset(peer, timestamp="-1"))[0] == 5
        assert table_of(await reset(peer, timestamp="-1", isForce="false"))[0] == 2
        async with asyncio.timeout(5):
            while len(heard) < 2:
                await asyncio.sleep(0.005)
        assert (heard[0][0]["topic"], heard[0][0]["group"]) == ("T", "cg")
        assert b'{"offsetTable":{{"' in heard[0][1]
        # The position itself is the client's to commit.
        assert peer.broker.offsets.query("cg", "T", 0) == 2


async def test_reset_by_clients_needs_one_online(tmp_path: Path) -> None:
    async with serving(tmp_path, useServerSideResetOffset="false") as peer:
        await peer.send("T")
        peer.broker.groups.find("cg")
        assert (await reset(peer)).code == ResponseCode.CONSUMER_NOT_ONLINE


async def test_clone_gives_a_group_the_positions_of_another(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await filled(peer)
        ext = {"srcGroup": "cg", "destGroup": "new", "topic": "T", "offline": "false"}
        assert (await peer.ask(RequestCode.CLONE_GROUP_OFFSET, ext)).code == 0
        assert peer.broker.offsets.query("new", "T", 0) == 2
        await peer.ask(RequestCode.CLONE_GROUP_OFFSET, {"srcGroup": "cg", "destGroup": "all", "offline": "true"})
        assert peer.broker.offsets.query("all", "T", 0) == 2


async def test_corrections_are_the_lowest_of_all_groups(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await filled(peer)
        peer.broker.offsets.commit("slow", "T", 0, 1)
        peer.broker.offsets.commit("filtered", "T", 0, 0)
        peer.broker.offsets.commit("ahead", "T", 0, 4)
        ext = {"topic": "T", "compareGroup": "ahead", "filterGroups": "filtered,other"}
        answer = await peer.ask(RequestCode.QUERY_CORRECTION_OFFSET, ext)
        assert json.loads(answer.body) == {"correctionOffsets": {"0": 1}}
        behind = await peer.ask(RequestCode.QUERY_CORRECTION_OFFSET, ext | {"compareGroup": "filtered"})
        assert json.loads(behind.body) == {"correctionOffsets": {"0": (1 << 63) - 1}}


async def test_all_offsets_come_as_the_file_has_them(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await filled(peer)
        body = json.loads((await peer.ask(RequestCode.GET_ALL_CONSUMER_OFFSET)).body)
        assert body["offsetTable"]["T@cg"] == {"0": 2}
        delays = json.loads((await peer.ask(RequestCode.GET_ALL_DELAY_OFFSET)).body)
        assert "offsetTable" in delays


async def test_members_are_asked_for_their_own_offsets(tmp_path: Path) -> None:
    def status(_: Connection, __: Command, ___: Any) -> Response:
        return Response(body=b'{"messageQueueTable":{{"brokerName":"broker-a","queueId":0,"topic":"T"}:7}}')

    async with serving(tmp_path, [Route(RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT, None, status)]) as peer:
        await filled(peer)
        ext = {"topic": "T", "group": "cg"}
        answer = await peer.ask(RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS, ext)
        table = javajson.loads(answer.body)["consumerTable"]["client-1"]
        assert [(key.as_dict()["queueId"], offset) for key, offset in table.items()] == [(0, 7)]
        nobody = await peer.ask(RequestCode.INVOKE_BROKER_TO_GET_CONSUMER_STATUS, ext | {"clientAddr": "x"})
        assert nobody.code == ResponseCode.SYSTEM_ERROR


async def test_a_pull_that_waits_is_told_of_a_reset_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await filled(peer)
        waiting = asyncio.create_task(peer.pull("T", offset=5, sys_flag=4 | 2, suspend_timeout_millis=60_000))
        async with asyncio.timeout(20):
            while peer.broker.pulling.held.count == 0:
                await asyncio.sleep(0.005)
            # Long before the 5 s of the regular look at waiting pulls.
            peer.broker.pulling.held.recheck = lambda: None  # type: ignore[method-assign]
            assert table_of(await reset(peer))[0] == 0
            told = await waiting
    assert told.code == ResponseCode.PULL_OFFSET_MOVED
    assert told.ext_fields()["nextBeginOffset"] == "0"
