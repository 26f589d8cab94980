"""Administration."""

from __future__ import annotations

import subprocess
import sys

import pytest

from rocketmq_client import (
    Admin,
    ClientClosed,
    ConsumeFrom,
    GroupNotFound,
    InvalidArgument,
    LitePullConsumer,
    MessageNotFound,
    MessageQueue,
    NobodyOnline,
    NotFound,
    PermissionDenied,
    Producer,
    PushConsumer,
    RequestRefused,
    SubscriptionGroupConfig,
    TopicNotFound,
)
from rocketmq_client.tests.conftest import until
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_testkit.fake_cluster import FakeCluster


async def test_a_topic_is_created_at_every_master_and_deleted_everywhere(two_brokers):
    async with Admin(two_brokers.name_server) as admin:
        where = await admin.topics.create(
            "orders", read_queues=3, write_queues=2, order=True, attributes={"message.type": "FIFO"}
        )
        assert [b.name for b in where] == ["broker-a", "broker-b"]
        configs = await admin.topics.configs("orders")
        assert {(c.read_queue_nums, c.write_queue_nums, c.order) for c in configs.values()} == {(3, 2, True)}
        assert configs["broker-a"].attributes == {"message.type": "FIFO"}
        assert await admin.topics.names() == ["orders"]
        assert "TBW102" in await admin.topics.names(with_system=True)
        assert len((await admin.topics.route("orders")).write_queues) == 4
        await admin.topics.delete("orders")
        assert not await admin.topics.exists("orders")
        with pytest.raises(TopicNotFound):
            await admin.topics.delete("orders")


async def test_a_topic_can_be_had_at_one_broker_only(two_brokers):
    async with Admin(two_brokers.name_server) as admin:
        await admin.topics.create("orders", broker="broker-b")
        assert list(await admin.topics.configs("orders")) == ["broker-b"]
        with pytest.raises(NotFound, match="broker-z"):
            await admin.topics.create("orders", broker="broker-z")
        with pytest.raises(InvalidArgument, match="illegal"):
            await admin.topics.create("bad name")
        with pytest.raises(InvalidArgument, match="perm"):
            await admin.topics.create("orders", perm=99)


async def test_progress_members_and_running_info_of_a_group(cluster):
    cluster.create_topic("orders", 2)
    async with Producer(cluster.name_server) as producer, Admin(cluster.name_server) as admin:
        for _ in range(6):
            await producer.send("orders", b"x")
        with pytest.raises(GroupNotFound):
            await admin.groups.progress("g")
        with pytest.raises(NobodyOnline):
            await admin.groups.members("g")
        got: list[bytes] = []

        async def listener(message):
            got.append(message.body)

        async with PushConsumer(
            cluster.name_server, group="g", topics={"orders": "*"}, listener=listener, consume_from=ConsumeFrom.FIRST
        ) as consumer:
            await until(lambda: len(got) == 6)
            members = await admin.groups.members("g")
            assert [c.client_id for c in members.connection_set] == [consumer.client_id]
            assert members.message_model == "CLUSTERING"
            assert set(members.subscription_table) == {"orders", "%RETRY%g"}
            info = await admin.groups.running_info("g", consumer.client_id)
            assert info["statusTable"]["orders"]["consumeFailedMsgs"] == 0
        for _ in range(2):
            await producer.send("orders", b"y")
        progress = await admin.groups.progress("g", topic="orders")
        assert progress.lag == 2
        assert {q.queue.queue_id for q in progress.queues} == {0, 1}
        assert set(await admin.groups.topics("g")) - {"%RETRY%g"} == {"orders"}
        assert await admin.topics.groups("orders") == ["g"]


async def test_groups_are_configured_and_deleted_with_their_retry_topics(cluster):
    async with Admin(cluster.name_server) as admin:
        await admin.groups.create(SubscriptionGroupConfig(group_name="g", retry_max_times=3))
        cluster.create_topic("%RETRY%g", 1)
        assert (await admin.groups.config("g")).retry_max_times == 3
        assert list(await admin.groups.configs()) == ["g"]
        cluster.broker.offsets["g", "orders", 0] = 5
        await admin.groups.delete("g", clean_offsets=True)
        assert not cluster.broker.offsets
        assert "%RETRY%g" not in cluster.broker.topics
        with pytest.raises(GroupNotFound):
            await admin.groups.delete("g")
        with pytest.raises(InvalidArgument):
            await admin.groups.create("bad name")


async def test_offsets_are_moved_set_and_copied(cluster):
    cluster.create_topic("orders", 1)
    queue = MessageQueue("orders", "broker-a", 0)
    async with Producer(cluster.name_server) as producer, Admin(cluster.name_server) as admin:
        for _ in range(4):
            await producer.send("orders", b"x")
        assert await admin.groups.seek("g", "orders") == {queue: 4}
        assert await admin.groups.seek("g", "orders", 0) == {queue: 0}
        await admin.groups.seek_queue("g", queue, 3)
        assert cluster.committed("g", "orders") == 3
        await admin.groups.commit("g", {queue: 2})
        assert cluster.committed("g", "orders") == 2
        await admin.groups.copy_offsets("g", "h", topic="orders")
        assert cluster.committed("h", "orders") == 2
        assert "h" in cluster.broker.groups
        with pytest.raises(TopicNotFound):
            await admin.groups.seek("g", "nothing")


async def test_messages_are_found_by_id_key_place_and_time(two_brokers):
    async with Producer(two_brokers.name_server) as producer, Admin(two_brokers.name_server) as admin:
        receipt = await producer.send("orders", b"a" * 5000, keys=["k", "k2"])
        other = await producer.send("orders", b"b", keys="k")
        assert sorted(len(m.body) for m in await admin.messages.by_key("orders", "k")) == [1, 5000]
        assert [m.body for m in await admin.messages.by_key("orders", "k", count_max=1)] == [b"a" * 5000]
        assert await admin.messages.by_key("orders", "K") == []
        assert (await admin.messages.by_unique_id("orders", other.message_id)).body == b"b"
        view = await admin.messages.by_offset_id(receipt.offset_message_id)
        assert (view.body, view.queue) == (b"a" * 5000, receipt.queue)
        assert (await admin.messages.at(receipt.queue, 0)).message_id == receipt.message_id
        assert await admin.messages.bounds(receipt.queue) == (0, 1)
        assert await admin.messages.offset_at(receipt.queue, 0) == 0
        with pytest.raises(MessageNotFound, match="holds 0 to 0"):
            await admin.messages.at(receipt.queue, 5)
        with pytest.raises(MessageNotFound):
            await admin.messages.by_unique_id("orders", "nothing")
        with pytest.raises(InvalidArgument):
            await admin.messages.by_offset_id("xyz")
        with pytest.raises(MessageNotFound):
            await admin.messages.by_offset_id(receipt.offset_message_id[:-16] + "0" * 13 + "FFF")


async def test_brokers_show_and_change_what_they_may(cluster):
    async with Admin(cluster.name_server) as admin:
        (broker,) = await admin.brokers.find()
        assert (broker.name, broker.is_master, broker.address) == ("broker-a", True, cluster.broker.address)
        assert (await admin.brokers.runtime(broker.address))["brokerVersionDesc"] == "V5_5_0"
        await admin.brokers.configure(broker.address, {"fileReservedTime": "48"})
        assert (await admin.brokers.config(broker.address))["fileReservedTime"] == "48"
        with pytest.raises(PermissionDenied, match="black list"):
            await admin.brokers.configure(broker.address, {"storePathRootDir": "x"})
        with pytest.raises(InvalidArgument):
            await admin.brokers.configure(broker.address, {})
        assert await admin.brokers.name_server_config() == {"listenPort": "9876"}
        assert await admin.brokers.wipe_write_permission("broker-a") == 1
        assert (await admin.topics.route("TBW102")).write_queues == ()
        assert await admin.brokers.add_write_permission("broker-a") == 1
        await cluster_send(cluster)
        stats = await admin.brokers.stats(broker.address, "TOPIC_PUT_NUMS", "orders")
        assert stats["minute"].sum == 1


async def cluster_send(cluster: FakeCluster) -> None:
    async with Producer(cluster.name_server) as producer:
        await producer.send("orders", b"x")


async def test_producers_of_a_topic_are_listed(cluster):
    async with Producer(cluster.name_server, group="pg") as producer, Admin(cluster.name_server) as admin:
        await producer.send("orders", b"x")
        await until(lambda: cluster.broker.producers["pg"])
        (connection,) = await admin.topics.producers("orders", "pg")
        assert connection.language == "PYTHON"
        assert await admin.topics.producers("orders", "nobody") == []


async def test_an_admin_that_is_not_started_says_so(cluster):
    with pytest.raises(ClientClosed, match="async with Admin"):
        await Admin(cluster.name_server).topics.names()


def test_the_client_loads_neither_web_nor_command_line_libraries():
    script = (
        "import sys, rocketmq_client\n"
        "print(sorted({'aiohttp', 'click', 'rich', 'kopf', 'grpc', 'lz4', 'zstandard'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


async def test_a_broker_that_moves_no_absent_consumers_has_its_offsets_set_one_by_one(cluster):
    cluster.create_topic("orders", 2)
    async with Producer(cluster.name_server) as producer, Admin(cluster.name_server) as admin:
        for queue_id in (0, 1, 1):
            await producer.send("orders", b"x", queue=MessageQueue("orders", "broker-a", queue_id))
        refuses = RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, ResponseCode.CONSUMER_NOT_ONLINE
        cluster.broker.fail(*refuses)
        first, second = (MessageQueue("orders", "broker-a", queue_id) for queue_id in (0, 1))
        assert await admin.groups.seek("g", "orders") == {first: 1, second: 2}
        assert cluster.committed("g", "orders") == 3
        cluster.broker.fail(*refuses)
        assert await admin.groups.seek("g", "orders", 0, force=False) == {first: 0, second: 0}
        cluster.broker.fail(*refuses)
        assert await admin.groups.seek("g", "orders", force=False) == {}
        assert cluster.committed("g", "orders") == 0


async def test_a_broker_without_moves_of_one_queue_is_never_asked_for_one(cluster):
    cluster.create_topic("orders", 2)
    del cluster.broker.config["useServerSideResetOffset"]
    queue = MessageQueue("orders", "broker-a", 1)
    async with Admin(cluster.name_server) as admin:
        await admin.groups.seek_queue("g", queue, 0)
        assert cluster.broker.offsets == {("g", "orders", 1): 0}
        async with LitePullConsumer(cluster.name_server, group="g", topics="orders"):
            with pytest.raises(RequestRefused, match="on one queue"):
                await admin.groups.seek_queue("g", queue, 0)
    assert RequestCode.INVOKE_BROKER_TO_RESET_OFFSET not in cluster.broker.requests


async def test_a_broker_of_4_9_is_asked_for_all_configurations_when_it_has_no_word_for_one(cluster):
    cluster.create_topic("orders", 3)
    async with Admin(cluster.name_server) as admin:
        await admin.groups.create(SubscriptionGroupConfig(group_name="g", retry_max_times=3))
        for code in (RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, RequestCode.GET_TOPIC_CONFIG):
            cluster.broker.fail(code, ResponseCode.REQUEST_CODE_NOT_SUPPORTED, times=10)
        assert (await admin.groups.config("g")).retry_max_times == 3
        assert (await admin.topics.configs("orders"))["broker-a"].read_queue_nums == 3
        with pytest.raises(GroupNotFound):
            await admin.groups.config("nobody")
