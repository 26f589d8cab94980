"""Sending, against brokers with behaviour."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime, timedelta

import pytest

from rocketmq_client import (
    BrokerUnavailable,
    ClientClosed,
    Compression,
    InvalidArgument,
    Message,
    MessageQueue,
    MessageTooLarge,
    NameServerUnavailable,
    Producer,
    RequestRefused,
    SendStatus,
    TopicNotFound,
)
from rocketmq_client.compression import decompress
from rocketmq_client.tests.conftest import until
from rocketmq_common.hashing import java_hash
from rocketmq_common.properties import parse_properties
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_testkit.fake_cluster import FakeCluster


async def test_a_sent_message_is_stored_with_its_tag_keys_and_properties(cluster):
    async with Producer(cluster.name_server) as producer:
        receipt = await producer.send("orders", b"hi", tag="created", keys=["k1", "k2"], properties={"a": "b"})
    stored = cluster.broker.messages("orders")[0]
    assert stored.body == b"hi"
    assert parse_properties(stored.properties) == {
        "TAGS": "created", "KEYS": "k1 k2", "a": "b", "UNIQ_KEY": receipt.message_id, "WAIT": "true",
    }  # fmt: skip
    assert receipt.status is SendStatus.SEND_OK
    assert receipt.offset_message_id == stored.message_id
    assert receipt.queue == MessageQueue("orders", "broker-a", stored.queue_id)
    assert receipt.queue_offset == 0


async def test_concurrent_sends_all_arrive_on_one_connection(cluster):
    async with Producer(cluster.name_server) as producer:
        await producer.send("orders", b"first")
        await asyncio.gather(*(producer.send("orders", b"%d" % i) for i in range(500)))
        assert cluster.broker.server is not None
        assert len(cluster.broker.server.connections) == 1
    assert sorted(cluster.messages("orders")) == sorted([b"first", *(b"%d" % i for i in range(500))])


async def test_queues_take_turns_over_all_brokers(two_brokers):
    two_brokers.create_topic("orders", 4)
    async with Producer(two_brokers.name_server) as producer:
        queues = [(await producer.send("orders", b"x")).queue for _ in range(8)]
    assert len(set(queues)) == 8


async def test_a_sharding_key_chooses_the_queue_that_java_would_choose(two_brokers):
    two_brokers.create_topic("orders", 4)
    async with Producer(two_brokers.name_server) as producer:
        available = sorted(await producer.queues("orders"))
        for key in ("customer-7", "a", "ключ", "\U0001f600"):
            receipt = await producer.send("orders", b"x", sharding_key=key)
            assert receipt.queue == available[abs(java_hash(key)) % 8]


async def test_an_own_selector_and_an_explicit_queue_are_obeyed(cluster):
    cluster.create_topic("orders", 4)
    async with Producer(cluster.name_server) as producer:
        chosen = await producer.send("orders", b"x", selector=lambda queues, message: queues[len(message.body) + 1])
        assert chosen.queue.queue_id == 2
        direct = await producer.send("orders", b"x", queue=MessageQueue("orders", "broker-a", 3))
        assert direct.queue.queue_id == 3


async def test_a_busy_broker_is_left_for_another_one(two_brokers):
    two_brokers.create_topic("orders", 1)
    two_brokers.brokers["broker-a"].fail(
        RequestCode.SEND_MESSAGE_V2, ResponseCode.SYSTEM_BUSY, "[OVERLOAD]system busy", times=1000
    )
    async with Producer(two_brokers.name_server) as producer:
        receipts = [await producer.send("orders", b"x") for _ in range(10)]
    assert {receipt.queue.broker_name for receipt in receipts} == {"broker-b"}


async def test_a_dead_broker_is_avoided_after_the_first_failure(two_brokers):
    two_brokers.create_topic("orders", 1)
    async with Producer(two_brokers.name_server) as producer:
        await producer.queues("orders")
        dead = two_brokers.brokers["broker-a"]
        await dead.stop()
        dead.is_up = True  # the name server has not noticed yet
        for _ in range(6):
            receipt = await producer.send("orders", b"x")
            assert receipt.queue.broker_name == "broker-b"
        assert producer._faults is not None
        assert not producer._faults.is_available("broker-a")


async def test_a_final_error_is_raised_at_once_with_the_brokers_words(cluster):
    cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, ResponseCode.MESSAGE_ILLEGAL, "the message is illegal", times=9)
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(RequestRefused, match="MESSAGE_ILLEGAL: the message is illegal") as caught:
            await producer.send("orders", b"x")
    assert caught.value.code == ResponseCode.MESSAGE_ILLEGAL
    assert cluster.broker.requests.count(RequestCode.SEND_MESSAGE_V2) == 1


async def test_a_retryable_error_is_tried_three_times(cluster):
    cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, ResponseCode.SYSTEM_BUSY, times=9)
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(RequestRefused):
            await producer.send("orders", b"x")
    assert cluster.broker.requests.count(RequestCode.SEND_MESSAGE_V2) == 3


async def test_ordered_sends_are_never_retried(cluster):
    cluster.broker.fail(RequestCode.SEND_MESSAGE_V2, ResponseCode.SYSTEM_BUSY, times=9)
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(RequestRefused):
            await producer.send("orders", b"x", sharding_key="k")
    assert cluster.broker.requests.count(RequestCode.SEND_MESSAGE_V2) == 1


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ResponseCode.FLUSH_DISK_TIMEOUT, SendStatus.FLUSH_DISK_TIMEOUT),
        (ResponseCode.SLAVE_NOT_AVAILABLE, SendStatus.SLAVE_NOT_AVAILABLE),
        (ResponseCode.FLUSH_SLAVE_TIMEOUT, SendStatus.FLUSH_SLAVE_TIMEOUT),
    ],
)
async def test_a_stored_but_not_copied_message_is_sent_with_that_status(cluster, code, status):
    real = cluster.broker._send

    def answer(connection, command, header):
        response = real(connection, command, header)
        response.code = code
        return response

    routes = cluster.broker.server.routes
    routes[RequestCode.SEND_MESSAGE_V2] = routes[RequestCode.SEND_MESSAGE_V2]._replace(handle=answer)
    async with Producer(cluster.name_server) as producer:
        assert (await producer.send("orders", b"x")).status is status


@pytest.mark.parametrize("algorithm", list(Compression))
async def test_large_bodies_are_compressed_and_flagged(cluster, algorithm):
    body = b"compress me " * 1000
    async with Producer(cluster.name_server, compression=algorithm) as producer:
        await producer.send("orders", body)
        await producer.send("orders", body[:4095])
    by_size = sorted(cluster.broker.messages("orders"), key=lambda m: len(m.body))
    packed = next(m for m in by_size if m.sys_flag & 1)
    assert packed.sys_flag == algorithm.value
    assert len(packed.body) < 1000
    assert decompress(packed.body, packed.sys_flag) == body
    assert next(m for m in by_size if not m.sys_flag & 1).body == body[:4095]


async def test_a_body_over_the_limit_is_refused_before_anything_is_sent(cluster):
    async with Producer(cluster.name_server, message_size_max=100) as producer:
        with pytest.raises(MessageTooLarge, match="101 bytes, 100 are allowed"):
            await producer.send("orders", b"x" * 101)
    assert cluster.broker.requests.count(RequestCode.SEND_MESSAGE_V2) == 0


async def test_a_batch_is_one_request_with_consecutive_offsets(cluster):
    messages = [Message(topic="orders", body=b"%d" % i, tag="t", keys=(f"k{i}",)) for i in range(10)]
    async with Producer(cluster.name_server) as producer:
        receipt = await producer.send_batch(messages)
    assert cluster.broker.requests.count(RequestCode.SEND_BATCH_MESSAGE) == 1
    stored = cluster.broker.messages("orders")
    assert [m.body for m in stored] == [b"%d" % i for i in range(10)]
    assert [m.queue_offset for m in stored] == list(range(10))
    assert receipt.message_id.split(",") == [parse_properties(m.properties)["UNIQ_KEY"] for m in stored]
    assert receipt.offset_message_id.split(",") == [m.message_id for m in stored]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([], "empty"),
        ([Message(topic="a", body=b""), Message(topic="b", body=b"")], "one topic"),
        ([Message(topic="a", body=b"", delay_level=1)], "delayed"),
        ([Message(topic="%RETRY%g", body=b"")], "retry topic"),
        ([Message(topic="a", body=b""), Message(topic="a", body=b"", wait_store_ok=False)], "wait_store_ok"),
    ],
)
async def test_a_batch_that_no_broker_takes_is_refused(cluster, messages, reason):
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(InvalidArgument, match=reason):
            await producer.send_batch(messages)


async def test_one_way_messages_arrive_without_an_answer(cluster):
    async with Producer(cluster.name_server) as producer:
        for index in range(50):
            await producer.send_oneway("orders", b"%d" % index)
        await until(lambda: len(cluster.messages("orders")) == 50)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"topic": "bad topic"}, "illegal characters"),
        ({"topic": ""}, "blank"),
        ({"topic": "SCHEDULE_TOPIC_XXXX"}, "belongs to RocketMQ"),
        ({"topic": "t", "properties": {"KEYS": "x"}}, "reserved"),
        ({"topic": "t", "properties": {"a": "\x01"}}, "0x01"),
        ({"topic": "t", "keys": "two words"}, "blank"),
        ({"topic": "t", "tag": "a||b"}, "'\\|'"),
        ({"topic": "t", "delay_level": -1}, "negative"),
    ],
)
async def test_an_invalid_message_is_refused_before_anything_is_sent(cluster, arguments, reason):
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(InvalidArgument, match=reason):
            await producer.send(body=b"x", **arguments)
    assert cluster.broker.requests.count(RequestCode.SEND_MESSAGE_V2) == 0


async def test_an_unknown_topic_without_auto_creation_says_how_to_create_it(cluster):
    del cluster.broker.topics["TBW102"]
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(TopicNotFound, match="rocketmq topic create orders"):
            await producer.send("orders", b"x")


async def test_a_topic_without_write_permission_is_unavailable(cluster):
    cluster.create_topic("orders", 4, perm=4)
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(BrokerUnavailable, match="rocketmq topic route orders"):
            await producer.send("orders", b"x")


async def test_the_next_name_server_is_asked_when_one_is_down():
    async with FakeCluster(name_servers=2) as cluster:
        await cluster.name_servers[0].server.stop(grace_ms=0)
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            addresses = f"127.0.0.1:{closed.getsockname()[1]};127.0.0.1:{cluster.name_servers[1].server.port}"
            async with Producer(addresses) as producer:
                await producer.send("orders", b"x")
    assert cluster.messages("orders") == [b"x"]


async def test_without_any_name_server_the_error_names_the_addresses():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        async with Producer(address) as producer:
            with pytest.raises(NameServerUnavailable, match=address):
                await producer.send("orders", b"x")


async def test_a_closed_producer_says_so(cluster):
    producer = Producer(cluster.name_server)
    with pytest.raises(ClientClosed):
        await producer.send("orders", b"x")
    await producer.start()
    await producer.send("orders", b"x")
    await producer.close()
    with pytest.raises(ClientClosed):
        await producer.send("orders", b"x")


async def test_two_producers_share_one_connection_and_leave_one_by_one(cluster):
    async with Producer(cluster.name_server, group="one") as first:
        async with Producer(cluster.name_server, group="two") as second:
            await first.send("orders", b"1")
            await second.send("orders", b"2")
            assert len(cluster.broker.server.connections) == 1
            await until(lambda: cluster.broker.producers["one"] and cluster.broker.producers["two"])
        assert not cluster.broker.producers["two"]
        assert cluster.broker.producers["one"]
    assert not cluster.broker.producers["one"]


async def test_a_delay_and_a_time_of_delivery_reach_the_broker_to_the_millisecond(cluster):
    moment = datetime(2100, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    async with Producer(cluster.name_server) as producer:
        first = await producer.send("orders", b"a", delay=timedelta(hours=2, milliseconds=3))
        second = await producer.send("orders", b"b", deliver_at=moment)
    waiting = cluster.broker.timers.waiting
    assert parse_properties(waiting[first.message_id].properties)["TIMER_DELAY_MS"] == "7200003"
    assert parse_properties(waiting[second.message_id].properties)["TIMER_DELIVER_MS"] == "4102542245678"


async def test_a_recalled_message_is_not_delivered_and_cannot_be_recalled_twice(cluster):
    async with Producer(cluster.name_server) as producer:
        receipt = await producer.send("orders", b"a", delay=timedelta(hours=1))
        assert receipt.recall_handle is not None
        assert await producer.recall(receipt.recall_handle) == receipt.message_id
        assert not cluster.broker.timers.waiting
        with pytest.raises(RequestRefused):
            await producer.recall(receipt.recall_handle)
        with pytest.raises(InvalidArgument, match="recall handle is invalid"):
            await producer.recall("bm9uc2Vuc2U=")


async def test_a_message_has_one_delay_at_most(cluster):
    async with Producer(cluster.name_server) as producer:
        with pytest.raises(InvalidArgument, match="one delay"):
            await producer.send("orders", b"a", delay_level=3, delay=timedelta(seconds=1))


async def test_a_topic_that_brokers_create_by_themselves_comes_to_all_of_them(two_brokers: FakeCluster) -> None:
    async with Producer(two_brokers.name_server) as producer:
        receipts = [await producer.send("New", b"%d" % number) for number in range(8)]
        assert {receipt.queue.broker_name for receipt in receipts} == set(two_brokers.brokers)
        assert all("New" in broker.topics for broker in two_brokers.brokers.values())
        await producer._active.routes.refresh()
        assert len(await producer.queues("New")) == 8
