"""Groups of push consumers: delivery, sharing, order, retries."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from rocketmq_client import (
    Admin,
    AverageByCircle,
    ClientClosed,
    ConsumeFrom,
    ConsumeResult,
    Delivery,
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
from rocketmq_client.tests.conftest import until
from rocketmq_common import javajson
from rocketmq_common.records import StoredMessage, encode_message
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.clients import ConsumeMessageDirectlyRequestHeader, ResetOffsetRequestHeader
from rocketmq_testkit.fake_cluster import FakeCluster

FIRST = ConsumeFrom.FIRST


async def send_all(cluster: FakeCluster, topic: str, bodies: Sequence[bytes], **arguments: Any) -> None:
    async with Producer(cluster.name_server) as producer:
        for body in bodies:
            await producer.send(topic, body, **arguments)


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
    async with PushConsumer(cluster.name_server, group="g", topics="orders", listener=listener, consume_from=FIRST):
        await until(lambda: len(attempts) == 3)
        await asyncio.sleep(0.1)
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
        await until(lambda: cluster.committed("g", "orders") == 2 or got)
    assert got == [b"yes"]
    assert cluster.committed("g", "orders") == 2


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
        pulls = cluster.broker.requests.count(RequestCode.PULL_MESSAGE)
        for _ in range(20):
            await asyncio.sleep(0)
        assert cluster.broker.requests.count(RequestCode.PULL_MESSAGE) == pulls
        release.set()
        await until(lambda: len(got) == 50)


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


async def test_a_consumer_with_a_listener_is_not_iterated(cluster):
    consumer = PushConsumer(cluster.name_server, group="g", topics="orders", listener=lambda m: None)
    with pytest.raises(InvalidArgument, match="listener"):
        aiter(consumer)


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
