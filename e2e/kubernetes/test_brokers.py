"""What the operator asks of brokers and name servers, asked of real ones: a master with its slave, and a second master."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

import pytest

from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.kubernetes.conftest import eventually
from rocketmq_client import Producer
from rocketmq_common.names import dlq_topic
from rocketmq_operator.admin.access import BrokerRefused, BrokerSilent
from rocketmq_operator.admin.remoting import RemotingBrokers
from rocketmq_operator.config import RUNTIME_DEFAULTS, RUNTIME_KEYS
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode

pytestmark = [pytest.mark.local, pytest.mark.xdist_group("operator brokers"), pytest.mark.timeout(120)]

SLAVE = "slave"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    names = ("orders-b0", "orders-b1")
    settings = {**TEST_BROKER_SETTINGS, "autoCreateTopicEnable": "false"}
    root = tmp_path_factory.mktemp("brokers")
    with Cluster(Kind.OURS, root, cluster_name="orders", broker_names=names, settings=settings) as running:
        master = running.brokers["orders-b0"]
        running.brokers[SLAVE] = running.add_broker("orders-b0", broker_id=1, brokerRole="SLAVE")
        running.brokers["orders-b0"] = master
        yield running


@pytest.fixture
async def client() -> AsyncIterator[RemotingClient]:
    result = RemotingClient()
    yield result
    await result.close()


@pytest.fixture
def brokers(client: RemotingClient) -> RemotingBrokers:
    return RemotingBrokers(client)


TOPIC = {"topicName": "pay", "readQueueNums": 4, "writeQueueNums": 4, "perm": 6}


async def test_a_master_and_its_slave_are_told_apart_and_counted(cluster: Cluster, brokers: RemotingBrokers) -> None:
    async def in_sync() -> bool:
        return (await brokers.facts(cluster.brokers["orders-b0"].address)).in_sync_slaves == 1

    await eventually(in_sync, 30)
    master = await brokers.facts(cluster.brokers["orders-b0"].address)
    assert (master.is_master, master.puts_per_second, master.version[:1]) == (True, 0.0, "V")
    assert (await brokers.facts(cluster.brokers[SLAVE].address)).is_master is False


async def test_a_broker_tells_every_key_that_the_operator_changes_and_takes_it(
    cluster: Cluster, brokers: RemotingBrokers
) -> None:
    address = cluster.brokers["orders-b1"].address
    config = (await brokers.facts(address)).config
    assert set(config) == RUNTIME_KEYS
    assert {key: config[key] for key in RUNTIME_DEFAULTS} == RUNTIME_DEFAULTS
    # Each of them must be accepted at run time, or the operator would restart nothing and change nothing.
    for key, value in config.items():
        changed = {"true": "false", "false": "true"}.get(value, value)
        await brokers.configure(address, {key: changed})
        assert (await brokers.facts(address)).config[key] == changed
        await brokers.configure(address, {key: value})


async def test_a_key_that_cannot_change_is_refused_and_a_stranger_is_silent(
    cluster: Cluster, brokers: RemotingBrokers
) -> None:
    with pytest.raises(BrokerRefused, match="listenPort"):
        await brokers.configure(cluster.brokers["orders-b1"].address, {"listenPort": "1"})
    with pytest.raises(BrokerSilent):
        await brokers.facts("127.0.0.1:1")


async def test_topics_and_groups_come_and_go(cluster: Cluster, brokers: RemotingBrokers) -> None:
    address, server = cluster.brokers["orders-b1"].address, cluster.namesrv_address
    assert await brokers.topic(address, "kept") is None
    await brokers.put_topic(address, {**TOPIC, "topicName": "kept", "attributes": {"message.type": "FIFO"}})
    found = await brokers.topic(address, "kept")
    assert found is not None
    assert (found["readQueueNums"], found["attributes"]) == (4, {"message.type": "FIFO"})
    await brokers.forget_topic(server, "kept")
    await brokers.delete_topic(address, "kept")
    await brokers.delete_topic(address, "kept")
    assert await brokers.topic(address, "kept") is None
    assert await brokers.group(address, "readers") is None
    await brokers.put_group(address, {"groupName": "readers", "retryMaxTimes": 3})
    group = await brokers.group(address, "readers")
    assert group is not None
    assert group["retryMaxTimes"] == 3
    assert await brokers.group_progress(address, "readers") == (0, 0)
    await brokers.delete_group(address, "readers")
    await brokers.delete_group(address, "readers")
    assert await brokers.group(address, "readers") is None


async def test_what_a_leaving_broker_holds_is_counted_to_the_message(
    cluster: Cluster, brokers: RemotingBrokers, client: RemotingClient
) -> None:
    leaving, staying = cluster.brokers["orders-b0"].address, [cluster.brokers["orders-b1"].address]
    await brokers.put_topic(leaving, TOPIC)
    await brokers.put_group(leaving, {"groupName": "billing"})
    facts = await brokers.drain_facts(leaving, staying)
    assert [topic["topicName"] for topic in facts.missing_topics] == ["pay"]
    assert [group["groupName"] for group in facts.missing_groups] == ["billing"]
    assert (dict(facts.unconsumed), facts.delayed, facts.half) == ({}, 0, 0)
    async with Producer(cluster.namesrv_address, group="senders") as producer:
        results = [await producer.send("pay", b"x") for _ in range(8)]
    # Nobody reads it yet: everything is left.
    assert dict((await brokers.drain_facts(leaving, staying)).unconsumed) == {"pay": 8}
    for result in results:
        header = {
            "consumerGroup": "billing",
            "topic": "pay",
            "queueId": str(result.queue.queue_id),
            "commitOffset": "1",
        }
        await client.invoke(leaving, RequestCode.UPDATE_CONSUMER_OFFSET, header)
    facts = await brokers.drain_facts(leaving, staying)
    queues = {result.queue.queue_id for result in results}
    assert dict(facts.unconsumed) == {"pay@billing": 8 - len(queues)}
    assert facts.log_end_offset > 0
    for config in facts.missing_topics:
        await brokers.put_topic(staying[0], config)
    for config in facts.missing_groups:
        await brokers.put_group(staying[0], config)
    facts = await brokers.drain_facts(leaving, staying)
    assert (facts.missing_topics, facts.missing_groups) == ((), ())
    assert dlq_topic("billing") not in facts.unconsumed


async def test_writes_close_and_open_in_routes(
    cluster: Cluster, brokers: RemotingBrokers, client: RemotingClient
) -> None:
    servers = [cluster.namesrv_address]
    await brokers.put_topic(cluster.brokers["orders-b1"].address, {**TOPIC, "topicName": "routed"})

    async def permission() -> str:
        answer = await client.invoke(servers[0], RequestCode.GET_ROUTEINFO_BY_TOPIC, {"topic": "routed"})
        return "absent" if answer.code else str(json.loads(answer.body)["queueDatas"][0]["perm"])

    async def is_open() -> bool:
        return await permission() == "6"

    await eventually(is_open, 10)
    await brokers.set_writes("orders-b1", servers, is_open=False)
    assert await permission() == "4"
    await brokers.set_writes("orders-b1", servers, is_open=True)
    assert await permission() == "6"


async def test_a_leaving_group_is_forgotten_by_name_servers(
    cluster: Cluster, brokers: RemotingBrokers, client: RemotingClient
) -> None:
    address = cluster.brokers["orders-b1"].address
    await brokers.unregister("orders", "orders-b1", [(0, address)], [cluster.namesrv_address])
    answer = await client.invoke(cluster.namesrv_address, RequestCode.GET_BROKER_CLUSTER_INFO)
    assert b"orders-b1" not in answer.body
