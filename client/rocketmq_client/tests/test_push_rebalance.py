"""Push consumers as members of a group: who gets which queues, from where on, and through which changes."""

from __future__ import annotations

import asyncio
import socket

import pytest

from rocketmq_client import (
    Admin,
    AverageByCircle,
    ClientClosed,
    ConsumeFrom,
    InvalidArgument,
    MessageModel,
    MessageQueue,
    NameServerUnavailable,
    Producer,
    PushConsumer,
    RequestRefused,
    Sql,
)
from rocketmq_client import instance as instance_module
from rocketmq_client.push_consumer import Listener
from rocketmq_client.tests.conftest import send_all, until
from rocketmq_common import javajson
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.headers.clients import ResetOffsetRequestHeader

FIRST = ConsumeFrom.FIRST


async def test_members_share_queues_and_take_over_when_one_leaves(cluster):
    cluster.create_topic("orders", 4)
    got: dict[str, list[bytes]] = {"one": [], "two": []}

    def listener_of(name: str) -> Listener:
        async def listener(message):
            got[name].append(message.body)

        return listener

    first = PushConsumer(
        cluster.name_server, group="g", topics="orders", consume_from=FIRST, listener=listener_of("one")
    )
    second = PushConsumer(
        cluster.name_server, group="g", topics="orders", consume_from=FIRST, listener=listener_of("two")
    )

    def topic_queues(consumer: PushConsumer) -> set[int]:
        return {queue.queue_id for queue in consumer.assigned if queue.topic == "orders"}

    async with first:
        async with second:
            assert first.client_id != second.client_id
            await until(lambda: len(topic_queues(first)) == 2 and len(topic_queues(second)) == 2)
            assert topic_queues(first) | topic_queues(second) == {0, 1, 2, 3}
            await send_all(cluster, "orders", [b"%d" % i for i in range(40)])
            await until(lambda: len(got["one"]) + len(got["two"]) == 40)
            assert got["one"]
            assert got["two"]
        await until(lambda: len(topic_queues(first)) == 4)
        await send_all(cluster, "orders", [b"late%d" % i for i in range(8)])
        await until(lambda: len(got["one"]) + len(got["two"]) == 48)
    assert len(set(got["one"] + got["two"])) == 48
    assert cluster.committed("g", "orders") == 48


async def test_broadcast_members_each_get_everything_and_remember_it_locally(cluster, tmp_path):
    cluster.create_topic("orders", 2)
    got: dict[str, list[bytes]] = {"one": [], "two": []}

    def member(name: str) -> PushConsumer:
        async def listener(message):
            got[name].append(message.body)

        return PushConsumer(
            cluster.name_server, group="g", topics="orders", listener=listener, model=MessageModel.BROADCASTING,
            consume_from=FIRST, offset_directory=tmp_path / name,
        )  # fmt: skip

    await send_all(cluster, "orders", [b"1", b"2", b"3"])
    async with member("one"), member("two"):
        await until(lambda: len(got["one"]) == 3 and len(got["two"]) == 3)
    assert not cluster.committed("g", "orders")
    await send_all(cluster, "orders", [b"4"])
    got["one"].clear()
    async with member("one"):
        await until(lambda: got["one"])
    assert got["one"] == [b"4"]


async def test_a_locked_queue_is_not_consumed_by_another_member(cluster):
    cluster.create_topic("orders", 1)
    queue = MessageQueue("orders", "broker-a", 0)
    cluster.broker.locks["g", queue] = ("somebody@else", float("inf"))
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    await send_all(cluster, "orders", [b"1"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, orderly=True, consume_from=FIRST
    ) as consumer:
        await until(lambda: RequestCode.LOCK_BATCH_MQ in cluster.broker.requests)
        assert queue not in consumer.assigned
        assert not got
        del cluster.broker.locks["g", queue]
        await until(lambda: got == [b"1"])


async def test_a_bad_sql_expression_is_found_at_start(cluster):
    cluster.create_topic("orders", 1)
    consumer = PushConsumer(cluster.name_server, group="g", topics={"orders": Sql("a > (")})
    with pytest.raises(RequestRefused, match="cannot parse"):
        await consumer.start()


@pytest.mark.parametrize(("where", "expected"), [(ConsumeFrom.FIRST, [b"old", b"new"]), (ConsumeFrom.LAST, [b"new"])])
async def test_a_new_group_begins_where_it_is_told(cluster, where, expected):
    cluster.create_topic("orders", 1)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    await send_all(cluster, "orders", [b"old"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, consume_from=where
    ) as consumer:
        await consumer.wait_assigned()
        await send_all(cluster, "orders", [b"new"])
        await until(lambda: b"new" in got)
    assert got == expected


async def test_a_new_group_begins_at_a_time(cluster):
    cluster.create_topic("orders", 1)
    await send_all(cluster, "orders", [b"1", b"2", b"3"])
    for index, message in enumerate(cluster.broker.messages("orders")):
        message.store_timestamp = 1000 * (index + 1)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener,
        consume_from=ConsumeFrom.TIMESTAMP, consume_timestamp_ms=1500,
    ):  # fmt: skip
        await until(lambda: len(got) == 2)
    assert sorted(got) == [b"2", b"3"]


async def test_a_reset_pushed_by_the_broker_moves_the_consumer(cluster):
    cluster.create_topic("orders", 1)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    await send_all(cluster, "orders", [b"1", b"2", b"3"])
    async with PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST):
        await until(lambda: len(got) == 3)
        queue = MessageQueue("orders", "broker-a", 0)
        body = b'{"offsetTable":' + javajson.dumps_object_keyed([(queue, 1)]) + b"}"
        header = ResetOffsetRequestHeader(topic="orders", group="g", timestamp=0, is_force=True)
        member = next(iter(cluster.broker.members["g"].values()))
        member.connection.notify(RequestCode.RESET_CONSUMER_CLIENT_OFFSET, header, body)
        await until(lambda: len(got) == 5)
    assert got[3:] == [b"2", b"3"]


async def test_an_offset_that_the_broker_corrects_is_followed(cluster):
    cluster.create_topic("orders", 1)
    cluster.broker.offsets["g", "orders", 0] = 700
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    async with PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener):
        await until(lambda: cluster.broker.offsets["g", "orders", 0] == 0)
        await send_all(cluster, "orders", [b"x"])
        await until(lambda: got == [b"x"])


async def test_a_server_side_seek_moves_a_running_consumer(cluster):
    cluster.create_topic("orders", 1)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    await send_all(cluster, "orders", [b"1", b"2"])
    async with PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST):
        await until(lambda: len(got) == 2)
        async with Admin(cluster.name_server) as admin:
            await admin.groups.seek("g", "orders", 0)
        await send_all(cluster, "orders", [b"3"])  # ends the pull that waits
        await until(lambda: len(got) >= 5)
    assert got[2:] == [b"1", b"2", b"3"]


async def test_a_restarted_broker_knows_the_consumer_again(cluster):
    cluster.create_topic("orders", 1)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    async with PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener) as consumer:
        await consumer.wait_assigned()
        await cluster.broker.stop()
        cluster.broker.members.clear()
        await cluster.broker.start("127.0.0.1")
        await send_all(cluster, "orders", [b"x"])
        await until(lambda: got == [b"x"])


async def test_a_topic_that_appears_later_is_consumed(cluster):
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    async with PushConsumer(
        cluster.name_server, group="g", topics="later", listener=listener, consume_from=FIRST
    ) as consumer:
        await send_all(cluster, "later", [b"x"])
        consumer.wake_rebalance()
        await until(lambda: got == [b"x"])


async def test_subscriptions_change_while_running(cluster):
    cluster.create_topic("a", 1)
    cluster.create_topic("b", 1)
    async with PushConsumer(cluster.name_server, group="g", topics="a", listener=lambda m: None) as consumer:
        await consumer.wait_assigned()
        await consumer.subscribe("b", "x || y")
        await until(lambda: {q.topic for q in consumer.assigned} >= {"a", "b"})
        await consumer.unsubscribe("a")
        await until(lambda: "a" not in {q.topic for q in consumer.assigned})
        data = next(iter(cluster.broker.members["g"].values())).data
        assert {s.topic for s in data.subscription_data_set} == {"b", "%RETRY%g"}


async def test_the_strategy_decides_who_gets_what(cluster):
    cluster.create_topic("orders", 4)
    members = [
        PushConsumer(
            cluster.name_server, group="g", topics="orders", listener=lambda m: None, allocation=AverageByCircle()
        )
        for _ in range(2)
    ]
    async with members[0], members[1]:

        def shares() -> list[list[int]]:
            return sorted(sorted(q.queue_id for q in member.assigned if q.topic == "orders") for member in members)

        await until(lambda: shares() == [[0, 2], [1, 3]])


def test_a_consumer_without_topics_is_refused():
    with pytest.raises(InvalidArgument, match="no topic"):
        PushConsumer("127.0.0.1:9876", group="g", topics={})


async def test_starting_without_a_name_server_fails_and_leaves_nothing_behind():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        consumer = PushConsumer(address, group="g", topics="orders", listener=lambda m: None)
        with pytest.raises(NameServerUnavailable, match=address):
            await consumer.start()
        assert not instance_module._POOLS.get(asyncio.get_running_loop(), {}).get((address,))
        with pytest.raises(ClientClosed):
            await consumer.start()


async def test_a_name_server_that_forgot_everything_does_not_stop_a_consumer(cluster):
    cluster.create_topic("orders", 1)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    async with PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener) as consumer:
        await consumer.wait_assigned()
        async with Producer(cluster.name_server) as producer:
            await producer.queues("orders")
            cluster.broker.is_up = False  # gone from the name server's answers, but alive
            await consumer._instance.routes.refresh()
            consumer.wake_rebalance()
            await producer.send("orders", b"x")
            await until(lambda: got == [b"x"])
