"""Clients: listed, and asked through the broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.admin import connections
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_common.records import decode_message
from rocketmq_remoting.bodies import HeartbeatData, ProducerData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route


async def produce(peer: Peer) -> None:
    data = HeartbeatData(client_id="client-1", producer_data_set=[ProducerData(group_name="pg")])
    await peer.ask(RequestCode.HEART_BEAT, None, msgspec.json.encode(data))


async def test_consumers_are_listed_with_their_subscriptions(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat("cg", "T", "TagA")
        body = json.loads((await peer.ask(RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": "cg"})).body)
        (connection,) = body["connectionSet"]
        assert (connection["clientId"], connection["language"], connection["version"]) == ("client-1", "PYTHON", 513)
        assert connection["clientAddr"].startswith("127.0.0.1:")
        assert (body["consumeType"], body["messageModel"]) == ("CONSUME_PASSIVELY", "CLUSTERING")
        assert body["subscriptionTable"]["T"]["subString"] == "TagA"
        nobody = await peer.ask(RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": "x"})
        assert nobody.code == ResponseCode.CONSUMER_NOT_ONLINE


async def test_producers_are_listed_by_group_and_altogether(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await produce(peer)
        body = json.loads((await peer.ask(RequestCode.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": "pg"})).body)
        assert body["connectionSet"][0]["clientId"] == "client-1"
        everything = json.loads((await peer.ask(RequestCode.GET_ALL_PRODUCER_INFO)).body)["data"]
        (info,) = everything["pg"]
        assert info["remoteIP"].startswith("127.0.0.1:")
        assert abs(info["lastUpdateTimestamp"] - peer.broker.clock.now_ms()) < 60_000
        nobody = await peer.ask(RequestCode.GET_PRODUCER_CONNECTION_LIST, {"producerGroup": "x"})
        assert nobody.code == ResponseCode.SYSTEM_ERROR


async def test_running_info_is_passed_through_as_the_client_wrote_it(tmp_path: Path) -> None:
    asked: list[dict[str, str]] = []

    def info(_: Connection, command: Command, __: Any) -> Response:
        asked.append(command.ext_fields())
        return Response(body=b'{"mqTable":{{"topic":"T"}:{}}}')

    async with serving(tmp_path, [Route(RequestCode.GET_CONSUMER_RUNNING_INFO, None, info)]) as peer:
        await peer.heartbeat("cg", "T")
        ext = {"consumerGroup": "cg", "clientId": "client-1", "jstackEnable": "true"}
        answer = await peer.ask(RequestCode.GET_CONSUMER_RUNNING_INFO, ext)
        assert (answer.code, answer.body) == (0, b'{"mqTable":{{"topic":"T"}:{}}}')
        assert asked == [ext]
        nobody = await peer.ask(RequestCode.GET_CONSUMER_RUNNING_INFO, ext | {"clientId": "x"})
        assert (nobody.code, nobody.remark) == (ResponseCode.SYSTEM_ERROR, "The Consumer <cg> <x> not online")


async def test_silent_client_is_a_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FORWARD_TIMEOUT_MS", 50)
    routes = [Route(RequestCode.GET_CONSUMER_RUNNING_INFO, None, lambda *_: None)]
    async with serving(tmp_path, routes) as peer:
        await peer.heartbeat("cg", "T")
        ext = {"consumerGroup": "cg", "clientId": "client-1"}
        answer = await peer.ask(RequestCode.GET_CONSUMER_RUNNING_INFO, ext)
        assert answer.code == ResponseCode.CONSUME_MSG_TIMEOUT


async def test_stored_message_is_consumed_by_one_client_on_request(tmp_path: Path) -> None:
    got: list[tuple[dict[str, str], bytes]] = []

    def consume(_: Connection, command: Command, __: Any) -> Response:
        got.append((command.ext_fields(), command.body))
        return Response(body=b'{"consumeResult":"CR_SUCCESS"}')

    async with serving(tmp_path, [Route(RequestCode.CONSUME_MESSAGE_DIRECTLY, None, consume)]) as peer:
        message_id = (await peer.send("T", b"again")).ext_fields()["msgId"]
        await peer.heartbeat("cg", "T")
        ext = {"consumerGroup": "cg", "clientId": "client-1", "msgId": message_id, "topic": "T"}
        answer = await peer.ask(RequestCode.CONSUME_MESSAGE_DIRECTLY, ext)
        assert json.loads(answer.body) == {"consumeResult": "CR_SUCCESS"}
        assert decode_message(got[0][1]).body == b"again"
        assert got[0][0]["brokerName"] == "broker-a"
        for wrong in ("zz", message_id[:-2] + "FF"):
            refused = await peer.ask(RequestCode.CONSUME_MESSAGE_DIRECTLY, ext | {"msgId": wrong})
            assert refused.code != 0
