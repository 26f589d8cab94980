"""A master and a slave as whole brokers: what clients, tools and name servers see of replication."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_broker.ha.tests.nodes import until
from rocketmq_broker.ha.tests.stores import log_bytes
from rocketmq_broker.tests.harness import Peer, messages_of, serving
from rocketmq_common.properties import encode_properties
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.headers.namesrv import (
    BrokerIdentityHeader,
    RegisterBrokerRequestHeader,
    RegisterBrokerResponseHeader,
)
from rocketmq_remoting.headers.offsets import QueryConsumerOffsetRequestHeader, UpdateConsumerOffsetRequestHeader
from rocketmq_remoting.headers.replication import ExchangeHaInfoHeader
from rocketmq_remoting.server import RemotingServer

QUICK: dict[str, Any] = {
    "haSendHeartbeatInterval": 100,
    "haHousekeepingInterval": 2000,
    "haReconnectInterval": 50,
    "slaveSyncInterval": 100,
}


class NameServer:
    """As much of a name server as slaves need: it tells them where the master is."""

    def __init__(self) -> None:
        self.master: RegisterBrokerRequestHeader | None = None
        self.server = RemotingServer(
            [
                Route(RequestCode.REGISTER_BROKER, RegisterBrokerRequestHeader, self.register),
                Route(RequestCode.UNREGISTER_BROKER, BrokerIdentityHeader, self.unregister),
            ]
        )

    def register(self, _: Connection, __: Command, header: RegisterBrokerRequestHeader) -> Response:
        if header.broker_id == 0:
            self.master = header
            return Response(ext=RegisterBrokerResponseHeader())
        if self.master is None:
            return Response(ext=RegisterBrokerResponseHeader())
        return Response(
            ext=RegisterBrokerResponseHeader(
                ha_server_addr=self.master.ha_server_addr, master_addr=self.master.broker_addr
            )
        )

    def unregister(self, _: Connection, __: Command, header: BrokerIdentityHeader) -> Response:
        if header.broker_id == 0:
            self.master = None
        return Response()


class Group:
    """Brokers of one name around one name server."""

    def __init__(self, root: Path, address: str, stack: AsyncExitStack) -> None:
        self._root = root
        self._address = address
        self._stack = stack
        self.masters = AsyncExitStack()

    async def master(self, **settings: Any) -> Peer:
        values: dict[str, Any] = {"namesrvAddr": self._address, **QUICK, **settings}
        return await self.masters.enter_async_context(serving(self._root / "master", **values))

    async def slave(self, **settings: Any) -> Peer:
        values: dict[str, Any] = {
            "namesrvAddr": self._address,
            "brokerRole": "SLAVE",
            "brokerId": 1,
            **QUICK,
            **settings,
        }
        return await self._stack.enter_async_context(serving(self._root / "slave", **values))

    async def kill_master(self) -> None:
        await self.masters.aclose()


@pytest.fixture
async def group(tmp_path: Path) -> AsyncIterator[Group]:
    names = NameServer()
    await names.server.start("127.0.0.1", 0)
    async with AsyncExitStack() as stack:
        made = Group(tmp_path, f"127.0.0.1:{names.server.port}", stack)
        stack.push_async_callback(made.masters.aclose)
        yield made
    await names.server.stop(0)


def end(peer: Peer) -> int:
    return peer.broker.store.positions.written


async def followed(master: Peer, slave: Peer) -> None:
    await until(lambda: end(slave) == end(master))


async def test_a_slave_has_its_masters_log_and_takes_no_messages(group: Group) -> None:
    master, slave = await group.master(), await group.slave()
    for n in range(20):
        assert (await master.send(body=b"%d" % n, queue_id=n % 4)).code == ResponseCode.SUCCESS
    await followed(master, slave)
    assert log_bytes(slave.broker.store) == log_bytes(master.broker.store)
    refused = await slave.send()
    assert refused.code != ResponseCode.SUCCESS
    assert end(slave) == end(master)


async def test_a_slave_gets_topics_groups_offsets_and_forgets_what_the_master_deleted(group: Group) -> None:
    master, slave = await group.master(), await group.slave()
    await master.broker.topics.update(TopicConfig(topic_name="T", read_queue_nums=3, write_queue_nums=3))
    await master.broker.topics.update(TopicConfig(topic_name="Gone"))
    await master.heartbeat("cg", "T")
    await master.ask(
        RequestCode.UPDATE_CONSUMER_OFFSET,
        UpdateConsumerOffsetRequestHeader(consumer_group="cg", topic="T", queue_id=1, commit_offset=7),
    )
    theirs = slave.broker
    await until(lambda: theirs.topics.data_version == master.broker.topics.data_version)
    await until(lambda: theirs.offsets.query("cg", "T", 1) == 7)
    assert theirs.topics.configs == master.broker.topics.configs
    assert theirs.groups.configs == master.broker.groups.configs
    assert theirs.groups.data_version == master.broker.groups.data_version
    await master.broker.topics.delete("Gone")
    # Tables are compared every ten seconds; a link that was just made asks at once.
    theirs.replication._metadata._address = ""
    await until(lambda: theirs.topics.get("Gone") is None)
    assert theirs.topics.data_version == master.broker.topics.data_version


async def test_a_slaves_copies_are_on_disk_after_it_stops(group: Group, tmp_path: Path) -> None:
    master = await group.master()
    await master.broker.topics.update(TopicConfig(topic_name="T"))
    async with serving(
        tmp_path / "other", brokerRole="SLAVE", brokerId=2, namesrvAddr=group._address, **QUICK
    ) as slave:
        await until(lambda: slave.broker.topics.data_version == master.broker.topics.data_version)
    stored = json.loads((tmp_path / "other" / "store" / "config" / "topics.json").read_text())
    assert "T" in stored["topicConfigTable"]
    assert stored["dataVersion"]["counter"] == master.broker.topics.data_version.counter


async def test_delay_progress_follows_and_nothing_is_delivered_by_the_slave(group: Group) -> None:
    master = await group.master(messageDelayLevel="1s 1h")
    slave = await group.slave(messageDelayLevel="1s 1h")
    properties = encode_properties({"DELAY": "1", "UNIQ_KEY": "AC1100010B2E18B4AAC2F1B2C3D40001"})
    await master.send(properties=properties)
    await until(lambda: master.broker.delay.offsets().get(1) == 1)
    await followed(master, slave)
    assert log_bytes(slave.broker.store) == log_bytes(master.broker.store)
    await master.broker.delay.save_behind_flush()
    await until(lambda: slave.broker.delay.offsets().get(1) == 1)


async def test_a_synchronous_send_succeeds_with_its_slave_and_says_so_without(group: Group) -> None:
    master = await group.master(brokerRole="SYNC_MASTER", inSyncReplicas=2, slaveTimeout=300)
    late = await master.send(body=b"nobody")
    assert late.code == ResponseCode.FLUSH_SLAVE_TIMEOUT
    assert late.ext_fields()["queueOffset"] == "0"
    slave = await group.slave()
    await followed(master, slave)
    await until(lambda: master.broker.replication.status().in_sync_count == 2)  # type: ignore[union-attr]
    for n in range(10):
        answer = await master.send(body=b"%d" % n)
        assert answer.code == ResponseCode.SUCCESS
        assert end(slave) == end(master)
    # A message that asks nobody to wait is answered at once.
    properties = encode_properties({"WAIT": "false", "UNIQ_KEY": "AC1100010B2E18B4AAC2F1B2C3D40002"})
    assert (await master.send(properties=properties)).code == ResponseCode.SUCCESS


async def test_a_master_whose_slave_is_gone_still_stops_cleanly(group: Group, tmp_path: Path) -> None:
    master = await group.master(brokerRole="SYNC_MASTER", inSyncReplicas=2, slaveTimeout=50)
    assert (await master.send()).code == ResponseCode.FLUSH_SLAVE_TIMEOUT
    await group.kill_master()
    assert not (tmp_path / "master" / "store" / "abort").exists()


async def test_sync_flush_and_sync_replication_together_keep_both_promises(group: Group) -> None:
    master = await group.master(brokerRole="SYNC_MASTER", inSyncReplicas=2, flushDiskType="SYNC_FLUSH")
    slave = await group.slave(flushDiskType="SYNC_FLUSH")
    await until(lambda: slave.broker.replication.is_master_reachable)
    answers = await asyncio.gather(*(master.send(body=b"%d" % n) for n in range(50)))
    assert {answer.code for answer in answers} == {ResponseCode.SUCCESS}
    assert master.broker.store.positions.flushed == end(master)
    assert slave.broker.store.positions.flushed == end(master)


async def test_too_few_replicas_refuse_before_writing(group: Group) -> None:
    master = await group.master(brokerRole="SYNC_MASTER", inSyncReplicas=2, minInSyncReplicas=2)
    before = end(master)
    refused = await master.send()
    assert refused.code == ResponseCode.SYSTEM_ERROR
    assert "in-sync replicas not enough" in (refused.remark or "")
    assert end(master) == before
    await group.slave()
    await until(lambda: master.broker.replication.status().in_sync_count == 2)  # type: ignore[union-attr]
    assert (await master.send()).code == ResponseCode.SUCCESS


async def test_a_slave_serves_reads_only_when_its_master_is_gone(group: Group) -> None:
    master, slave = await group.master(), await group.slave()
    for n in range(5):
        await master.send(body=b"%d" % n)
    await followed(master, slave)
    await until(lambda: slave.broker.topics.get("T") is not None)
    busy = await slave.pull()
    assert busy.code == ResponseCode.SYSTEM_BUSY
    assert "slaveReadEnable" in (busy.remark or "")
    await group.kill_master()
    await until(lambda: not slave.broker.replication.is_master_reachable)
    answer = await slave.pull()
    assert answer.code == ResponseCode.SUCCESS
    assert [message.body for message in messages_of(answer)] == [b"%d" % n for n in range(5)]
    await slave.ask(
        RequestCode.UPDATE_CONSUMER_OFFSET,
        UpdateConsumerOffsetRequestHeader(consumer_group="cg", topic="T", queue_id=0, commit_offset=5),
    )
    offset = await slave.ask(
        RequestCode.QUERY_CONSUMER_OFFSET, QueryConsumerOffsetRequestHeader(consumer_group="cg", topic="T", queue_id=0)
    )
    assert offset.ext_fields()["offset"] == "5"


async def test_a_slave_that_may_serve_reads_sends_consumers_back_to_the_master(group: Group) -> None:
    master, slave = await group.master(slaveReadEnable="true"), await group.slave(slaveReadEnable="true")
    for n in range(5):
        await master.send(body=b"%d" % n)
    await followed(master, slave)
    await until(lambda: slave.broker.topics.get("T") is not None)
    found = await slave.pull()
    assert found.code == ResponseCode.SUCCESS
    assert len(messages_of(found)) == 5
    assert found.ext_fields()["suggestWhichBrokerId"] == "0"
    # Nothing more here: not held, but told to ask the master.
    nothing = await slave.pull(offset=5, sys_flag=6)
    assert nothing.code == ResponseCode.PULL_RETRY_IMMEDIATELY
    assert nothing.ext_fields()["suggestWhichBrokerId"] == "0"
    assert nothing.ext_fields()["nextBeginOffset"] == "5"


async def test_a_slave_asks_the_name_servers_when_its_master_is_lost(group: Group, tmp_path: Path) -> None:
    first, slave = await group.master(), await group.slave()
    await first.send()
    await followed(first, slave)
    await group.kill_master()
    # Another broker takes over with the same log, at another address; name servers are asked every ten seconds at best.
    second = await group.master()
    assert second.address != first.address
    async with asyncio.timeout(8):
        await until(lambda: slave.broker.replication.is_master_reachable)
    await second.send()
    await followed(second, slave)


async def test_ha_status_of_both_sides(group: Group) -> None:
    master, slave = await group.master(), await group.slave()
    await master.send()
    await followed(master, slave)
    await until(lambda: master.broker.replication.status().slaves[0].acknowledged_offset == end(master))  # type: ignore[union-attr]
    ours = json.loads((await master.ask(RequestCode.GET_BROKER_HA_STATUS)).body)
    theirs = json.loads((await slave.ask(RequestCode.GET_BROKER_HA_STATUS)).body)
    assert ours["master"] is True
    assert ours["inSyncSlaveNums"] == 1
    assert ours["haConnectionInfo"][0]["slaveAckOffset"] == end(master)
    assert theirs["master"] is False
    assert theirs["haClientRuntimeInfo"]["maxOffset"] == end(master)
    assert theirs["haClientRuntimeInfo"]["masterAddr"] == master.broker.identity.ha_address


async def test_906_names_the_master_and_points_a_slave_at_it(group: Group, tmp_path: Path) -> None:
    master = await group.master()
    await master.send()
    asked = await master.ask(RequestCode.EXCHANGE_BROKER_HA_INFO, ExchangeHaInfoHeader())
    told = asked.header(ExchangeHaInfoHeader)
    assert told.master_ha_address == master.broker.identity.ha_address
    assert told.master_address == master.address
    # A slave that no name server tells anything.
    async with serving(tmp_path / "lonely", brokerRole="SLAVE", brokerId=3, **QUICK) as slave:
        assert not slave.broker.replication.is_master_reachable
        await slave.ask(RequestCode.EXCHANGE_BROKER_HA_INFO, told)
        await followed(master, slave)


async def test_replication_shows_in_the_metrics(group: Group) -> None:
    def page(peer: Peer) -> str:
        return "".join(f.encode().decode() for f in peer.broker.observation.metrics.collect() if f is not None)

    master, slave = await group.master(brokerRole="SYNC_MASTER", inSyncReplicas=2), await group.slave()
    await until(lambda: slave.broker.replication.is_master_reachable)
    await master.send()
    text = page(master)
    assert "rocketmq_replication_in_sync_replicas{" in text
    assert 'slave="127.0.0.1:' in text
    assert "rocketmq_replication_connected{" in page(slave)


async def test_a_taken_ha_port_stops_the_start_and_leaves_nothing_running(group: Group, tmp_path: Path) -> None:
    from rocketmq_broker.listening import ListenError

    master = await group.master()
    port = master.broker.identity.ha_port
    with pytest.raises(ListenError, match="haListenPort"):
        async with serving(tmp_path / "second", haListenPort=port):
            pass
    assert not (tmp_path / "second" / "store" / "abort").exists()


class OddMaster:
    """Answers a slave's questions with whatever a test wants."""

    def __init__(self, answers: dict[int, Any]) -> None:
        self.answers = answers
        self.server = RemotingServer([Route(code, None, self.answer) for code in answers])

    def answer(self, _: Connection, command: Command, __: None) -> Response:
        answer = self.answers[command.code]
        return answer if isinstance(answer, Response) else Response(body=answer)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"topicConfigTable":5}', b'{"topicConfigTable":{"T":{"perm":"x"}}}', b"\xff\xfe"]
)
async def test_an_odd_answer_of_the_master_leaves_the_tables_alone(tmp_path: Path, body: bytes) -> None:
    odd = OddMaster(
        {
            RequestCode.GET_ALL_TOPIC_CONFIG: body,
            RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG: Response(ResponseCode.SYSTEM_ERROR, remark="no"),
            RequestCode.GET_ALL_CONSUMER_OFFSET: b'{"offsetTable":{"T@cg":{0:5,1:6}}}',
            RequestCode.GET_ALL_DELAY_OFFSET: b'{"offsetTable":{1:4}}',
        }
    )
    await odd.server.start("127.0.0.1", 0)
    async with serving(tmp_path, brokerRole="SLAVE", brokerId=1, **QUICK) as slave:
        topics, groups = dict(slave.broker.topics.configs), dict(slave.broker.groups.configs)
        metadata = slave.broker.replication._metadata
        await metadata.round(f"127.0.0.1:{odd.server.port}")
        assert slave.broker.topics.configs == topics
        assert slave.broker.groups.configs == groups
        # Java writes integer keys bare; each part stands for itself.
        assert slave.broker.offsets.of("cg", "T") == {0: 5, 1: 6}
        assert slave.broker.delay.offsets() == {1: 4}
        assert metadata.synced_ms == 0
    await odd.server.stop(0)


async def test_tables_of_an_apache_master_are_taken_with_what_this_broker_does_not_know(tmp_path: Path) -> None:
    async with serving(tmp_path, brokerRole="SLAVE", brokerId=1, **QUICK) as slave:
        topics = slave.broker.topics
        raw = {
            "dataVersion": {"counter": 9, "stateVersion": 0, "timestamp": 5},
            "topicConfigTable": {
                "T": {"topicName": "T", "readQueueNums": 2, "writeQueueNums": 2, "perm": 6, "future": {"a": 1}}
            },
        }
        assert topics.adopt(raw)
        assert not topics.adopt(raw)
        assert topics.configs["T"].read_queue_nums == 2
        assert topics.system_topics <= topics.configs.keys()
        stored = msgspec.json.decode(topics.encode())
        assert stored["topicConfigTable"]["T"]["future"] == {"a": 1}
        assert stored["dataVersion"]["counter"] == 9


async def test_906_with_garbage_is_refused_like_any_bad_header(group: Group) -> None:
    master = await group.master()
    client = RemotingClient()
    answer = await client.invoke(master.address, RequestCode.EXCHANGE_BROKER_HA_INFO, {"masterFlushOffset": "x"})
    assert answer.code == ResponseCode.SYSTEM_ERROR
    await client.close()
