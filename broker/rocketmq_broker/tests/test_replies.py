"""Request-reply through a whole broker."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.properties import parse_properties
from rocketmq_remoting.bodies import HeartbeatData, ProducerData
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.headers.replies import PushReplyMessageRequestHeader

TOPIC = "DefaultCluster_REPLY_TOPIC"
CLIENT_ID = "requester-1"


class Requester:
    """A client that takes replies with the code it was told."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.replies: list[tuple[PushReplyMessageRequestHeader, bytes]] = []
        route = Route(RequestCode.PUSH_REPLY_MESSAGE_TO_CLIENT, PushReplyMessageRequestHeader, self.take)
        self.client = RemotingClient(routes=[route])

    def take(self, connection: Connection, command: Command, header: PushReplyMessageRequestHeader) -> Response:
        self.replies.append((header, command.body))
        return Response(self.code, remark="no" if self.code else None)

    async def join(self, peer: Peer) -> None:
        data = HeartbeatData(client_id=CLIENT_ID, producer_data_set=[ProducerData(group_name="requesters")])
        body = msgspec.json.encode(data)
        assert (await self.client.invoke(peer.address, RequestCode.HEART_BEAT, None, body)).code == 0


def reply(peer: Peer, **fields: Any) -> Any:
    properties = {"CORRELATION_ID": "c-1", "REPLY_TO_CLIENT": CLIENT_ID, "TTL": "3000", "MSG_TYPE": "reply"}
    properties.update(fields.pop("properties", {}))
    fields.setdefault("code", RequestCode.SEND_REPLY_MESSAGE_V2)
    return peer.send(fields.pop("topic", TOPIC), b"the reply", properties=properties, **fields)


async def test_a_reply_reaches_the_client_that_asked_and_a_copy_is_kept(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        requester = Requester()
        await requester.join(peer)
        answer = await reply(peer)
        assert answer.code == 0, answer.remark
        ((header, body),) = requester.replies
        assert body == b"the reply"
        assert header.topic == TOPIC
        assert header.store_host == peer.address
        properties = parse_properties(header.properties)
        assert properties["CORRELATION_ID"] == "c-1"
        assert int(properties["PUSH_REPLY_TIME"]) == header.store_timestamp
        (kept,) = messages_of(await peer.pull(TOPIC))
        assert kept.body == b"the reply"
        assert kept.message_id == answer.ext_fields()["msgId"]
        await requester.client.close()


async def test_a_reply_is_not_kept_where_the_configuration_says_so(tmp_path: Path) -> None:
    async with serving(tmp_path, storeReplyMessageEnable="false") as peer:
        requester = Requester()
        await requester.join(peer)
        answer = await reply(peer)
        assert answer.code == 0
        assert answer.ext_fields()["msgId"] == "0"
        assert peer.broker.store.queue_bounds(TOPIC, 0) is None
        await requester.client.close()


async def test_the_replier_is_told_when_nobody_takes_the_reply(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        answer = await reply(peer)
        assert (answer.code, "not found" in (answer.remark or "")) == (ResponseCode.SYSTEM_ERROR, True)
        unaddressed = await reply(peer, properties={"REPLY_TO_CLIENT": ""})
        assert unaddressed.code == ResponseCode.SYSTEM_ERROR
        requester = Requester(code=1)
        await requester.join(peer)
        assert (await reply(peer)).code == ResponseCode.SYSTEM_ERROR
        await requester.client.close()


async def test_a_client_that_came_back_on_another_connection_gets_its_reply_there(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        first, second = Requester(), Requester()
        await first.join(peer)
        assert (await reply(peer)).code == 0
        await first.client.close()
        await second.join(peer)
        assert (await reply(peer)).code == 0
        assert (len(first.replies), len(second.replies)) == (1, 1)
        await second.client.close()


async def test_replies_obey_the_rules_of_sends(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        assert (await reply(peer, topic="missing")).code == ResponseCode.TOPIC_NOT_EXIST
        assert (await reply(peer, topic="SCHEDULE_TOPIC_XXXX")).code == ResponseCode.NO_PERMISSION
        assert (await reply(peer, queue_id=9)).code == ResponseCode.INVALID_PARAMETER
