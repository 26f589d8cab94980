"""Requests for the master at a replica that is none: kept, passed on in their order, given up in time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from rocketmq_broker.failover import forwarding
from rocketmq_broker.failover.forwarding import NOT_MASTER, PASSED_ON, Forwarding
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.server import RemotingServer

SEND = RequestCode.SEND_MESSAGE_V2


class Master:
    """Answers sends with their own number, and notes them."""

    def __init__(self) -> None:
        self.taken: list[Command] = []
        self.refusals = 0

    def send(self, _: Connection, command: Command, __: None) -> Response:
        if self.refusals:
            self.refusals -= 1
            return Response(ResponseCode.SERVICE_NOT_AVAILABLE, remark=NOT_MASTER)
        self.taken.append(command)
        return Response(0, {"queueOffset": command.ext_fields()["n"]}, remark="kept", body=b"answer")


class Scene:
    """A replica in front of a master; ``address`` is what the replica knows of the master."""

    def __init__(self) -> None:
        self.master = Master()
        self.own: list[Command] = []
        self.address = ""
        self.client = RemotingClient()
        self.forwarding = Forwarding(self.client, lambda: self.address)
        self.master_server = RemotingServer([Route(SEND, None, self.master.send)])
        self.server = RemotingServer([Route(SEND, None, self._own)])
        self.forwarding.attach(self.server.routes)

    def _own(self, _: Connection, command: Command, __: None) -> Response:
        self.own.append(command)
        return Response()

    async def send(self, number: int) -> Command:
        """What a client is answered by the replica."""
        address = f"127.0.0.1:{self.server.port}"
        return await self.sender.invoke(address, SEND, {"n": str(number)}, b"body", timeout_ms=30_000)

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[Scene]:
        self.sender = RemotingClient()
        await self.master_server.start("127.0.0.1", 0)
        await self.server.start("127.0.0.1", 0)
        # Sends that wait for the client's own connection may overtake one another.
        await self.sender.connect(f"127.0.0.1:{self.server.port}")
        try:
            yield self
        finally:
            for client in (self.sender, self.client):
                await client.close()
            for server in (self.server, self.master_server):
                await server.stop(0)

    def elect(self) -> None:
        """The lease names the master now."""
        self.address = f"127.0.0.1:{self.master_server.port}"


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MASTER_WAIT_MS", 20_000)


async def test_the_masters_answer_is_the_answer() -> None:
    async with Scene().playing() as scene:
        scene.elect()
        answer = await scene.send(7)
        assert (answer.code, answer.ext_fields(), answer.remark) == (0, {"queueOffset": "7"}, "kept")
        assert bytes(answer.body) == b"answer"
        assert [command.body for command in scene.master.taken] == [b"body"]
        assert scene.own == []


async def test_what_waits_for_a_master_arrives_in_its_order() -> None:
    async with Scene().playing() as scene:
        sends = [asyncio.ensure_future(scene.send(number)) for number in range(200)]
        while len(scene.forwarding._tasks) < 100:
            await asyncio.sleep(0.01)
        scene.elect()
        sends += [asyncio.ensure_future(scene.send(number)) for number in range(200, 300)]
        answers = await asyncio.gather(*sends)
        assert {answer.code for answer in answers} == {0}
        assert [int(command.ext_fields()["n"]) for command in scene.master.taken] == list(range(300))


async def test_a_master_that_does_not_lead_yet_is_asked_again() -> None:
    async with Scene().playing() as scene:
        scene.elect()
        scene.master.refusals = 3
        assert (await scene.send(1)).code == 0


async def test_without_a_master_the_client_is_told_to_send_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "MASTER_WAIT_MS", 30)
    async with Scene().playing() as scene:
        answer = await scene.send(1)
        assert (answer.code, answer.remark) == (ResponseCode.SERVICE_NOT_AVAILABLE, NOT_MASTER)
        assert scene.own == []


async def test_what_was_passed_on_is_not_passed_on_again() -> None:
    async with Scene().playing() as scene:
        scene.elect()
        link = await scene.sender.connect(f"127.0.0.1:{scene.server.port}")
        answer = await link.invoke(SEND, {"n": "1"}, b"", remark=PASSED_ON)
        assert (answer.code, answer.remark) == (ResponseCode.SERVICE_NOT_AVAILABLE, NOT_MASTER)
        assert scene.master.taken == []


async def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwarding, "REQUESTS_MAX", 3)
    async with Scene().playing() as scene:
        sends = [asyncio.ensure_future(scene.send(number)) for number in range(3)]
        while len(scene.forwarding._tasks) < 3:
            await asyncio.sleep(0.01)
        assert (await scene.send(3)).code == ResponseCode.SYSTEM_BUSY
        scene.elect()
        assert {(await send).code for send in sends} == {0}
        monkeypatch.setattr(forwarding, "BYTES_MAX", -1)
        assert (await scene.send(4)).code == ResponseCode.SYSTEM_BUSY


async def test_a_replica_that_becomes_master_answers_itself() -> None:
    async with Scene().playing() as scene:
        waiting = asyncio.ensure_future(scene.send(1))
        while not scene.forwarding._tasks:
            await asyncio.sleep(0.01)
        scene.forwarding.end()
        assert (await scene.send(2)).code == 0
        assert len(scene.own) == 1
        # The client's next try is for this replica's own hands.
        assert (await waiting).code == ResponseCode.SERVICE_NOT_AVAILABLE


async def test_one_way_requests_are_passed_on_too() -> None:
    async with Scene().playing() as scene:
        scene.elect()
        await scene.sender.invoke_oneway(f"127.0.0.1:{scene.server.port}", SEND, {"n": "9"}, b"x")
        while not scene.master.taken:
            await asyncio.sleep(0.01)
        assert scene.master.taken[0].is_oneway
