"""Assignment of queues by the broker, and request modes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.assignment import popped_queues, shared_queues
from rocketmq_broker.tests.harness import Peer, serving
from rocketmq_remoting.bodies import BrokerData, MessageQueue, QueueData, TopicRouteData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.limits import Limits
from rocketmq_remoting.server import RemotingServer

QUEUES = [MessageQueue("T", broker, number) for broker in ("a", "b") for number in range(4)]


def test_averages_are_javas() -> None:
    members = ["c1", "c2", "c3"]
    assert [len(shared_queues(member, QUEUES, members, "AVG") or []) for member in members] == [3, 3, 2]
    assert shared_queues("c2", QUEUES, members, "AVG_BY_CIRCLE") == [QUEUES[1], QUEUES[4], QUEUES[7]]
    assert shared_queues("stranger", QUEUES, members, "AVG") == []
    assert shared_queues("c1", QUEUES, members, "MACHINE_ROOM") is None


@pytest.mark.parametrize("share_count", [-1, 0, 2, 9])
def test_popping_from_all_queues_names_each_broker_once(share_count: int) -> None:
    found = popped_queues("c1", QUEUES, ["c1", "c2", "c3"], "AVG", share_count)
    assert found == [MessageQueue("T", "a", -1), MessageQueue("T", "b", -1)]


def test_popping_with_neighbours_covers_their_queues_too() -> None:
    members = ["c1", "c2", "c3", "c4"]
    assert popped_queues("c1", QUEUES, members, "AVG", 1) == QUEUES[:4]
    assert popped_queues("c4", QUEUES, members, "AVG", 1) == sorted(QUEUES[6:] + QUEUES[:2])
    many = [f"c{number:02}" for number in range(20)]
    assert popped_queues("c11", QUEUES, many, "AVG", 2) == [QUEUES[11 % 8]]


async def ask(peer: Peer, client_id: str = "client-1", **fields: Any) -> Any:
    body = {
        "clientId": client_id,
        "consumerGroup": "cg",
        "messageModel": "CLUSTERING",
        "strategyName": "AVG",
        "topic": "T",
    }
    answer = await peer.ask(RequestCode.QUERY_ASSIGNMENT, None, msgspec.json.encode({**body, **fields}))
    assert answer.code == 0
    return msgspec.json.decode(answer.body)["messageQueueAssignments"]


async def set_mode(peer: Peer, topic: str, mode: str, share: int = 0) -> int:
    body = {"consumerGroup": "cg", "mode": mode, "popShareQueueNum": share, "topic": topic}
    return (await peer.ask(RequestCode.SET_MESSAGE_REQUEST_MODE, None, msgspec.json.encode(body))).code


async def test_members_are_told_their_queues_and_the_mode_of_the_group(tmp_path: Path) -> None:
    asked = 0

    def route(connection: Connection, command: Command, header: Any) -> Response:
        nonlocal asked
        asked += 1
        data = TopicRouteData(
            queue_datas=[QueueData(broker_name="broker-a", read_queue_nums=2, write_queue_nums=2, perm=6)],
            broker_datas=[BrokerData(cluster="c", broker_name="broker-a", broker_addrs={0: "x"})],
        )
        return Response(body=msgspec.json.encode(data))

    name_server = RemotingServer([Route(RequestCode.GET_ROUTEINFO_BY_TOPIC, None, route)], Limits())
    await name_server.start("127.0.0.1", 0)
    try:
        async with serving(tmp_path, namesrvAddr=f"127.0.0.1:{name_server.port}") as peer:
            assert await ask(peer) is None
            await peer.heartbeat()
            queues = [{"topic": "T", "brokerName": "broker-a", "queueId": number} for number in range(2)]
            assert await ask(peer) == [{"messageQueue": queue, "mode": "PULL", "attachments": None} for queue in queues]
            assert await set_mode(peer, "T", "POP") == 0
            everything = {"topic": "T", "brokerName": "broker-a", "queueId": -1}
            assert await ask(peer) == [{"messageQueue": everything, "mode": "POP", "attachments": None}]
            assert asked == 1
            assert await set_mode(peer, "%RETRY%cg", "POP") == ResponseCode.NO_PERMISSION
            assert await set_mode(peer, "T", "PUSH") == ResponseCode.INVALID_PARAMETER
        async with serving(tmp_path) as peer:
            answer = await peer.ask(RequestCode.GET_ALL_MESSAGE_REQUEST_MODE)
            table = msgspec.json.decode(answer.body)["messageRequestModeMap"]
            assert table == {"T": {"cg": {"topic": "T", "consumerGroup": "cg", "mode": "POP", "popShareQueueNum": 0}}}
    finally:
        await name_server.stop(0)


async def test_a_topic_that_no_name_server_knows_changes_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as peer:
        await peer.heartbeat()
        assert await ask(peer) is None
