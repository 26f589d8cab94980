"""Registration at name servers of the test's own making."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from rocketmq_broker.tests.harness import messages_of, serving
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.bodies import RegisterBrokerBody
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.headers.namesrv import (
    BrokerIdentityHeader,
    QueryDataVersionResponseHeader,
    RegisterBrokerRequestHeader,
    RegisterBrokerResponseHeader,
)
from rocketmq_remoting.server import RemotingServer


class FakeNameServer:
    """Remembers what it was told; answers as told, or not at all."""

    def __init__(self) -> None:
        self.registrations: list[tuple[RegisterBrokerRequestHeader, RegisterBrokerBody]] = []
        self.left: list[BrokerIdentityHeader] = []
        self.queries = 0
        self.is_silent = False
        self.order_topics: dict[str, str] = {}
        self.changed = True
        self.came = asyncio.Event()
        self.server = RemotingServer(
            [
                Route(RequestCode.REGISTER_BROKER, RegisterBrokerRequestHeader, self.register),
                Route(RequestCode.UNREGISTER_BROKER, BrokerIdentityHeader, self.unregister),
                Route(RequestCode.QUERY_DATA_VERSION, BrokerIdentityHeader, self.query),
            ]
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def register(
        self, connection: Connection, command: Command, header: RegisterBrokerRequestHeader
    ) -> Response | None:
        self.came.set()
        if self.is_silent:
            return None
        self.registrations.append((header, msgspec.json.decode(command.body, type=RegisterBrokerBody)))
        body = msgspec.json.encode({"table": self.order_topics}) if self.order_topics else b""
        return Response(
            0, RegisterBrokerResponseHeader(master_addr="127.0.0.1:1", ha_server_addr="127.0.0.1:2"), body=body
        )

    def unregister(self, connection: Connection, command: Command, header: BrokerIdentityHeader) -> Response:
        self.left.append(header)
        return Response()

    def query(self, connection: Connection, command: Command, header: BrokerIdentityHeader) -> Response:
        self.queries += 1
        return Response(0, QueryDataVersionResponseHeader(changed=self.changed))


@asynccontextmanager
async def name_servers(count: int) -> AsyncIterator[list[FakeNameServer]]:
    servers = [FakeNameServer() for _ in range(count)]
    for one in servers:
        await one.server.start("127.0.0.1", 0)
    try:
        yield servers
    finally:
        for one in servers:
            await one.server.stop(0)


async def test_every_name_server_knows_the_broker_when_it_is_ready_and_forgets_it_when_it_stops(tmp_path: Path) -> None:
    async with name_servers(2) as servers:
        addresses = ";".join(s.address for s in servers)
        async with serving(tmp_path, namesrvAddr=addresses) as peer:
            for one in servers:
                header, body = one.registrations[0]
                assert (header.broker_name, header.cluster_name, header.broker_id) == ("broker-a", "DefaultCluster", 0)
                assert header.broker_addr == peer.address
                assert header.ha_server_addr == peer.broker.identity.ha_address
                wrapper = body.topic_config_serialize_wrapper
                assert wrapper.topic_config_table["TBW102"].perm == 7
                assert wrapper.data_version == peer.broker.topics.data_version
            assert peer.broker.registration.is_registered_everywhere
        assert [[h.broker_addr for h in s.left] for s in servers] == [[peer.address]] * 2


async def test_a_broker_whose_name_leads_elsewhere_says_so(tmp_path: Path) -> None:
    async with (
        name_servers(1) as (server,),
        serving(tmp_path, namesrvAddr=server.address, brokerIP1="localhost") as peer,
    ):
        identity = peer.broker.identity
        here = identity.address
        assert server.registrations[-1][0].broker_addr == here
        # As if the name had led to another address when it was resolved first.
        identity.host = "192.0.2.7"
        identity.bind(identity.port, identity.vip_port, identity.ha_port)
        await peer.send("fresh")
        assert identity.address == here
        assert server.registrations[-1][0].broker_addr == here
        (message,) = messages_of(await peer.pull("fresh"))
        assert message.store_host == identity.store_host


async def test_a_new_topic_is_known_to_every_name_server_before_its_send_is_answered(tmp_path: Path) -> None:
    async with name_servers(2) as servers, serving(tmp_path, namesrvAddr=";".join(s.address for s in servers)) as peer:
        await peer.send("fresh")
        for one in servers:
            assert "fresh" in one.registrations[-1][1].topic_config_serialize_wrapper.topic_config_table
        await peer.broker.topics.delete("fresh")
        for one in servers:
            assert "fresh" not in one.registrations[-1][1].topic_config_serialize_wrapper.topic_config_table


async def test_a_name_server_that_hangs_delays_a_topic_but_does_not_hide_it_from_the_others(tmp_path: Path) -> None:
    async with name_servers(2) as (sound, hanging):
        hanging.is_silent = True
        async with serving(tmp_path, namesrvAddr=f"{sound.address};{hanging.address}") as peer:
            assert peer.broker.registration.is_registered
            for topic in ("one", "two"):
                assert (await peer.send(topic)).code == ResponseCode.SUCCESS
                assert topic in sound.registrations[-1][1].topic_config_serialize_wrapper.topic_config_table


async def test_a_broker_without_reachable_name_server_serves_and_registers_when_one_appears(tmp_path: Path) -> None:
    async with name_servers(1) as (late,):
        address = late.address
        await late.server.stop(0)
        async with serving(tmp_path, namesrvAddr=address) as peer:
            assert address in peer.broker.registration.problem
            assert (await peer.send()).code == ResponseCode.SUCCESS
            host, port = address.split(":")
            await late.server.start(host, int(port))
            async with asyncio.timeout(10):
                await late.came.wait()
                while not peer.broker.registration.is_registered:
                    await asyncio.sleep(0.01)
            assert peer.broker.registration.problem == ""


async def test_the_list_of_name_servers_is_read_again_and_names_are_resolved(tmp_path: Path) -> None:
    async with name_servers(2) as (first, second), serving(tmp_path, namesrvAddr=first.address) as peer:
        peer.broker.settings.namesrv_addr = f"localhost:{second.server.port}"
        await peer.broker.registration.announce()
        assert set(peer.broker.registration.states) >= {second.address}
        assert first.address not in peer.broker.registration.states
        assert second.registrations


async def test_a_name_that_cannot_be_resolved_is_a_problem_and_not_the_end(tmp_path: Path) -> None:
    async with name_servers(1) as (good,):
        addresses = f"no-such-host.invalid:9876;bad;{good.address}"
        async with serving(tmp_path, namesrvAddr=addresses) as peer:
            assert peer.broker.registration.is_registered
            assert set(peer.broker.registration.states) == {good.address}


async def test_ordered_topics_follow_the_name_servers_answer(tmp_path: Path) -> None:
    async with name_servers(1) as (server,), serving(tmp_path, namesrvAddr=server.address) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="ordered"))
        server.order_topics = {"ordered": "broker-a:4"}
        await peer.broker.registration.announce()
        config = peer.broker.topics.get("ordered")
        assert config is not None
        assert config.order


async def test_a_read_only_broker_registers_its_topics_read_only(tmp_path: Path) -> None:
    async with name_servers(1) as (server,), serving(tmp_path, namesrvAddr=server.address, brokerPermission=4) as peer:
        await peer.broker.topics.update(TopicConfig(topic_name="T"))
        table = server.registrations[-1][1].topic_config_serialize_wrapper.topic_config_table
        assert (table["T"].perm, table["TBW102"].perm) == (4, 5)
        config = peer.broker.topics.get("T")
        assert config is not None
        assert config.perm == 6


async def test_without_force_a_broker_registers_again_only_when_its_version_is_unknown(tmp_path: Path) -> None:
    async with (
        name_servers(1) as (server,),
        serving(tmp_path, namesrvAddr=server.address, forceRegister="false") as peer,
    ):
        count = len(server.registrations)
        server.changed = False
        await peer.broker.registration.announce()
        assert (len(server.registrations), server.queries) == (count, 1)
        server.changed = True
        await peer.broker.registration.announce()
        assert len(server.registrations) == count + 1


async def test_a_slave_registers_with_its_id_and_learns_its_master(tmp_path: Path) -> None:
    async with name_servers(1) as (server,), serving(tmp_path, namesrvAddr=server.address, brokerId=2) as peer:
        assert server.registrations[0][0].broker_id == 2
        masters: list[tuple[str, str]] = []
        peer.broker.registration.on_master = lambda ha_address, address: masters.append((ha_address, address))
        await peer.broker.registration.announce()
        assert masters == [("127.0.0.1:2", "127.0.0.1:1")]
