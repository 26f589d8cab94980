"""Push consumers: what a listener or an iterator is given, in which order, how often, and what is committed."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter

import msgspec
import pytest

from rocketmq_client import (
    Admin,
    ConsumeFrom,
    ConsumeResult,
    Delivery,
    InvalidArgument,
    MessageQueue,
    Producer,
    PushConsumer,
)
from rocketmq_client.tests.conftest import send_all, until
from rocketmq_common import javajson
from rocketmq_common.records import StoredMessage, encode_message
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.clients import ConsumeMessageDirectlyRequestHeader

FIRST = ConsumeFrom.FIRST


async def test_a_listener_gets_every_message_once_and_progress_is_committed(two_brokers):
    two_brokers.create_topic("orders", 2)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    bodies = [b"%d" % i for i in range(100)]
    await send_all(two_brokers, "orders", bodies)
    async with PushConsumer(two_brokers.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST):
        await until(lambda: len(got) == 100)
    assert sorted(got) == sorted(bodies)
    assert two_brokers.committed("g", "orders") == 100


async def test_a_plain_function_listens_in_a_thread(cluster):
    threads: list[str] = []
    await send_all(cluster, "orders", [b"x"])
    async with PushConsumer(
        cluster.name_server,
        group="g",
        topics="orders",
        listener=lambda message: threads.append(threading.current_thread().name),
        consume_from=FIRST,
    ):
        await until(lambda: threads)
    assert threads[0].startswith("consume-g")


async def test_messages_come_out_of_async_for_and_count_once_acknowledged(cluster):
    await send_all(cluster, "orders", [b"1", b"2", b"3"], sharding_key="k")
    async with PushConsumer(cluster.name_server, group="g", topics="orders", consume_from=FIRST) as consumer:
        got = []
        async for message in consumer:
            got.append(message.body)
            if len(got) < 3:
                await message.ack()
            else:
                break
    assert got == [b"1", b"2", b"3"]
    assert cluster.committed("g", "orders") == 2


async def test_async_for_ends_when_the_consumer_is_closed(cluster):
    consumer = PushConsumer(cluster.name_server, group="g", topics="orders")
    await consumer.start()

    async def read() -> list[Delivery]:
        return [message async for message in consumer]

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    await consumer.close()
    assert await asyncio.wait_for(reading, 5) == []


@pytest.mark.parametrize("failure", [ConsumeResult.LATER, False, RuntimeError("boom")])
async def test_a_failed_message_comes_back_with_its_topic_and_a_count(cluster, failure):
    attempts: list[tuple[bytes, int, str]] = []

    async def listener(message):
        attempts.append((message.body, message.reconsume_times, message.topic))
        if message.reconsume_times < 2:
            if isinstance(failure, Exception):
                raise failure
            return failure
        return ConsumeResult.SUCCESS

    await send_all(cluster, "orders", [b"x"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST
    ) as consumer:
        await until(lambda: len(attempts) == 3)
        await until(lambda: consumer.is_idle)
    assert attempts == [(b"x", 0, "orders"), (b"x", 1, "orders"), (b"x", 2, "orders")]
    assert cluster.committed("g", "orders") == 1
    assert cluster.committed("g", "%RETRY%g") == 2


async def test_a_message_that_always_fails_ends_in_the_dead_letter_topic(cluster):
    calls: Counter[bytes] = Counter()

    async def listener(message):
        calls[message.body] += 1
        return ConsumeResult.LATER

    await send_all(cluster, "orders", [b"poison"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST, reconsume_times_max=2
    ):
        await until(lambda: cluster.dead_letters("g"))
    assert cluster.dead_letters("g") == [b"poison"]
    assert calls[b"poison"] == 3


async def test_when_send_back_is_refused_the_message_is_sent_to_the_retry_topic_anew(cluster):
    got: list[int] = []

    async def listener(message):
        got.append(message.reconsume_times)
        return message.reconsume_times > 0

    cluster.broker.fail(RequestCode.CONSUMER_SEND_MSG_BACK, ResponseCode.SYSTEM_ERROR, times=99)
    await send_all(cluster, "orders", [b"x"], keys="key")
    async with PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST):
        await until(lambda: len(got) == 2)
    assert got == [0, 1]
    copy = cluster.broker.messages("%RETRY%g")[0].property_map()
    assert copy["RETRY_TOPIC"] == "orders"
    assert copy["KEYS"] == "key"
    assert copy["DELAY"] == "3"


async def test_orderly_messages_of_a_queue_never_overlap_and_keep_their_order(cluster):
    cluster.create_topic("orders", 2)
    busy: Counter[int] = Counter()
    got: dict[int, list[int]] = {0: [], 1: []}

    async def listener(message):
        queue_id = message.queue.queue_id
        busy[queue_id] += 1
        assert busy[queue_id] == 1
        await asyncio.sleep(0)
        got[queue_id].append(int(message.body))
        busy[queue_id] -= 1

    async with Producer(cluster.name_server) as producer:
        for index in range(40):
            await producer.send("orders", b"%d" % index, queue=MessageQueue("orders", "broker-a", index % 2))
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, orderly=True, consume_from=FIRST
    ):
        await until(lambda: len(got[0]) == 20 and len(got[1]) == 20)
        assert len(cluster.broker.locks) >= 2
    assert got == {0: list(range(0, 40, 2)), 1: list(range(1, 40, 2))}
    assert not cluster.broker.locks


async def test_an_orderly_message_that_fails_holds_up_its_queue_until_it_succeeds(cluster):
    cluster.create_topic("orders", 1)
    calls: list[tuple[bytes, int]] = []

    async def listener(message):
        calls.append((message.body, message.reconsume_times))
        return not (message.body == b"1" and message.reconsume_times < 2)

    await send_all(cluster, "orders", [b"1", b"2"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, orderly=True, consume_from=FIRST,
        suspend_queue_ms=10,
    ):  # fmt: skip
        await until(lambda: len(calls) == 4)
    assert calls == [(b"1", 0), (b"1", 1), (b"1", 2), (b"2", 0)]


async def test_an_orderly_message_that_failed_often_enough_goes_to_the_dead_letters(cluster):
    cluster.create_topic("orders", 1)
    done: list[bytes] = []

    async def listener(message):
        if message.body == b"poison":
            return ConsumeResult.LATER
        done.append(message.body)
        return ConsumeResult.SUCCESS

    await send_all(cluster, "orders", [b"poison", b"good"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, orderly=True, consume_from=FIRST,
        suspend_queue_ms=5, reconsume_times_max=2,
    ):  # fmt: skip
        await until(lambda: done == [b"good"] and cluster.dead_letters("g"))
    assert cluster.dead_letters("g") == [b"poison"]


async def test_orderly_async_for_gives_the_next_message_after_the_ack(cluster):
    cluster.create_topic("orders", 1)
    await send_all(cluster, "orders", [b"1", b"2", b"3"])
    got = []
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", orderly=True, consume_from=FIRST
    ) as consumer:
        async for message in consumer:
            got.append(message.body)
            assert consumer._pending.empty()
            await message.ack()
            if len(got) == 3:
                break
    assert got == [b"1", b"2", b"3"]
    await until(lambda: cluster.committed("g", "orders") == 3)


async def test_tags_are_filtered_and_checked_again_behind_the_broker(cluster):
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)

    # "Aa" and "BB" have the same Java hash: a broker that compares hashes lets both through.
    cluster.broker._tags = lambda header: None
    await send_all(cluster, "orders", [b"no"], tag="BB")
    await send_all(cluster, "orders", [b"yes"], tag="Aa")
    async with PushConsumer(
        cluster.name_server, group="g", topics={"orders": "Aa || C"}, listener=listener, consume_from=FIRST
    ):
        await until(lambda: cluster.committed("g", "orders") == 2)
    assert got == [b"yes"]


async def test_pulling_stops_while_a_queue_holds_as_much_as_allowed(cluster):
    cluster.create_topic("orders", 1)
    release = asyncio.Event()
    got: list[bytes] = []

    async def listener(message):
        await release.wait()
        got.append(message.body)

    await send_all(cluster, "orders", [b"%d" % i for i in range(50)])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST,
        pull_count=5, queue_count_max=10, concurrency=2,
    ) as consumer:  # fmt: skip
        queue = MessageQueue("orders", "broker-a", 0)
        await until(lambda: queue in consumer.assigned and len(consumer._assigned[queue].messages) == 10)
        # Two that filled the queue; of the retry topic one that found nothing and one that waits.
        await until(lambda: cluster.broker.requests.count(RequestCode.PULL_MESSAGE) == 4)
        for _ in range(20):
            await asyncio.sleep(0)
        assert cluster.broker.requests.count(RequestCode.PULL_MESSAGE) == 4
        release.set()
        await until(lambda: len(got) == 50)


async def test_brokers_can_ask_for_status_running_info_and_direct_consumption(cluster):
    cluster.create_topic("orders", 1)
    got: list[bytes] = []

    async def listener(message):
        got.append(message.body)
        if message.body == b"bad":
            raise ValueError("no good")

    await send_all(cluster, "orders", [b"1"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST
    ) as consumer:
        await until(lambda: got)
        async with Admin(cluster.name_server) as admin:
            info = await admin.groups.running_info("g", consumer.client_id)
        assert info["properties"]["PROP_CONSUME_TYPE"] == "CONSUME_PASSIVELY"
        assert {s["topic"] for s in info["subscriptionSet"]} == {"orders", "%RETRY%g"}
        assert ("topic", "orders") in next(key for key in info["mqTable"] if ("topic", "orders") in key)

        member = cluster.broker.members["g"][consumer.client_id]
        status = await member.connection.invoke(
            RequestCode.GET_CONSUMER_STATUS_FROM_CLIENT, {"topic": "orders", "group": "g"}
        )
        table = javajson.loads(status.body)["messageQueueTable"]
        assert list(table.values()) == [1]

        for body, verdict in ((b"again", "CR_SUCCESS"), (b"bad", "CR_THROW_EXCEPTION")):
            header = ConsumeMessageDirectlyRequestHeader(consumer_group="g", client_id=consumer.client_id)
            answer = await member.connection.invoke(
                RequestCode.CONSUME_MESSAGE_DIRECTLY, header, encode_message(StoredMessage(topic="orders", body=body))
            )
            assert msgspec.json.decode(answer.body)["consumeResult"] == verdict
    assert got == [b"1", b"again", b"bad"]


async def test_closing_waits_for_the_listener_and_commits_its_message(cluster):
    cluster.create_topic("orders", 1)
    entered, release = asyncio.Event(), asyncio.Event()

    async def listener(message):
        entered.set()
        await release.wait()

    await send_all(cluster, "orders", [b"1"])
    consumer = PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST)
    await consumer.start()
    await entered.wait()
    closing = asyncio.create_task(consumer.close())
    await asyncio.sleep(0.02)
    assert not closing.done()
    release.set()
    await closing
    assert cluster.committed("g", "orders") == 1
    assert not cluster.broker.members["g"]


async def test_a_consumer_with_a_listener_is_not_iterated(cluster):
    consumer = PushConsumer(cluster.name_server, group="g", topics="orders", listener=lambda m: None)
    with pytest.raises(InvalidArgument, match="listener"):
        aiter(consumer)


async def test_a_message_that_takes_too_long_is_given_back(cluster):
    cluster.create_topic("orders", 1)
    release = asyncio.Event()
    calls: list[int] = []

    async def listener(message):
        calls.append(message.reconsume_times)
        if message.reconsume_times == 0:
            await release.wait()

    await send_all(cluster, "orders", [b"slow"])
    async with PushConsumer(
        cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST, consume_timeout_ms=0
    ) as consumer:
        await until(lambda: calls)
        await consumer._sweep_timeouts()
        await until(lambda: calls == [0, 1])
        release.set()
    assert cluster.committed("g", "orders") == 1


async def test_a_consumer_is_idle_when_its_queues_are_pulled_to_the_end_and_all_is_acknowledged(cluster):
    cluster.create_topic("orders", 2)
    await send_all(cluster, "orders", [b"x"])
    async with PushConsumer(cluster.name_server, group="g", topics="orders", consume_from=FIRST) as consumer:
        assert not consumer.is_idle  # nobody has answered yet
        message = await anext(aiter(consumer))
        assert not consumer.is_idle
        await message.ack()
        await until(lambda: consumer.is_idle)
