"""Namespaces: a prefix at the broker, none at the user."""

from __future__ import annotations

import pytest

from rocketmq_client import (
    ConsumeFrom,
    ConsumeResult,
    LitePullConsumer,
    Message,
    MessageView,
    Producer,
    PushConsumer,
)
from rocketmq_client.requests import Requester, reply
from rocketmq_client.tests.conftest import until
from rocketmq_common.namespaces import qualified, unqualified
from rocketmq_common.properties import find_property
from rocketmq_testkit.fake_cluster import FakeCluster


@pytest.mark.parametrize(
    ("name", "at_brokers"),
    [
        ("orders", "shop%orders"),
        ("shop%orders", "shop%orders"),
        ("%RETRY%billing", "%RETRY%shop%billing"),
        ("%DLQ%billing", "%DLQ%shop%billing"),
        ("TBW102", "TBW102"),
        ("rmq_sys_wheel_timer", "rmq_sys_wheel_timer"),
        ("CID_RMQ_SYS_TRANS", "CID_RMQ_SYS_TRANS"),
        ("", ""),
    ],
)
def test_names_get_the_prefix_once_and_rocketmqs_own_none(name: str, at_brokers: str) -> None:
    assert qualified("shop", name) == at_brokers
    assert unqualified("shop", at_brokers).replace("shop%", "") == name.replace("shop%", "")
    assert qualified("", name) == unqualified("", name) == name


async def test_a_failed_message_of_a_namespace_comes_back_under_its_short_name(cluster: FakeCluster) -> None:
    got: list[MessageView] = []

    def listen(message: MessageView) -> ConsumeResult:
        got.append(message)
        fails = message.body == b"one" and message.reconsume_times == 0
        return ConsumeResult.LATER if fails else ConsumeResult.SUCCESS

    async with Producer(cluster.name_server, namespace="shop") as producer:
        await producer.send("orders", b"one")
        await producer.send_oneway("orders", b"two")
        await producer.send_batch([Message(topic="orders", body=b"three")])
        async with PushConsumer(
            cluster.name_server,
            group="billing",
            topics="orders",
            listener=listen,
            consume_from=ConsumeFrom.FIRST,
            namespace="shop",
        ):
            await until(lambda: len(got) == 4, "three messages, one of them twice")
    assert {message.topic for message in got} == {"orders"}
    assert sorted({message.body for message in got}) == [b"one", b"three", b"two"]
    assert "shop%billing" in cluster.broker.groups
    stored = cluster.broker.messages("shop%orders")
    assert len(stored) == 3
    assert find_property(stored[0].properties, "INSTANCE_ID") == "shop"
    (retried,) = cluster.broker.messages("%RETRY%shop%billing")
    assert find_property(retried.properties, "RETRY_TOPIC") == "shop%orders"
    assert "orders" not in cluster.broker.topics


async def test_a_namespace_is_read_by_polling_and_not_from_outside(cluster: FakeCluster) -> None:
    async with Producer(cluster.name_server, namespace="shop") as producer:
        await producer.send("orders", b"x")
        async with LitePullConsumer(
            cluster.name_server, group="audit", topics="orders", consume_from=ConsumeFrom.FIRST, namespace="shop"
        ) as consumer:
            (message,) = await consumer.poll()
            assert message.topic == "orders"
            assert await consumer.queues("orders") == await producer.queues("orders")


async def test_requests_are_answered_within_a_namespace(cluster: FakeCluster) -> None:
    async with Producer(cluster.name_server, namespace="shop") as producer:
        await producer.send("prices", b"so that the topic exists")

        async def answer(message: MessageView) -> ConsumeResult:
            if message.properties.get("CORRELATION_ID"):
                await reply(producer, message, b"42")
            return ConsumeResult.SUCCESS

        async with PushConsumer(
            cluster.name_server, group="pricing", topics="prices", listener=answer, namespace="shop"
        ) as consumer:
            await consumer.wait_assigned(1)
            assert (await Requester(producer).request("prices", b"tea", timeout_ms=20_000)).body == b"42"
