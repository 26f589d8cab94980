"""Light queues (LMQ): Apache's Java clients fill and read them, our client reads what Java sent, and they survive a kill."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.drivers import Driver
from e2e.processes import wait_until
from rocketmq_client import ConsumeFrom, LitePullConsumer, Message, MessageView, Producer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
WAIT_SECONDS = 40.0


@pytest.fixture(scope="module")
def light_cluster(peer_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker with light queues."""
    settings = {**TEST_BROKER_SETTINGS, "enableLmq": "true", "enableMultiDispatch": "true"}
    with Cluster(peer_kind, tmp_path_factory.mktemp("light") / "shared", settings=settings) as running:
        yield running


def send(java: Driver, cluster: Cluster, unique: Unique, topic: str, *lights: str) -> None:
    """One message for each of ``lights``, whose bodies count from 0."""
    messages = [{"body": str(number), "lights": named} for number, named in enumerate(lights)]
    java.call("light.send", name=unique("pg"), namesrv=cluster.namesrv_address, topic=topic, messages=messages)


def reader(java: Driver, cluster: Cluster, unique: Unique, clients: Clients, topic: str, group: str) -> str:
    name = unique("reader")
    clients(java, "light", name)
    java.call("light.start", name=name, group=group, namesrv=cluster.namesrv_address, topic=topic)
    return name


def pull(java: Driver, name: str, queue: str, count: int, offset: int = 0) -> dict[str, Any]:
    """Pull until ``count`` messages came at once."""
    last: dict[str, Any] = {}

    def enough() -> bool:
        last.update(java.call("light.pull", name=name, queue=queue, broker_name="broker-a", offset=offset))
        return len(last["messages"]) >= count

    wait_until(enough, f"{name} pulls {count} messages of {queue}")
    return last


def test_java_reads_of_each_light_queue_what_named_it(
    java: Driver, light_cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, one, two = unique("Topic"), f"%LMQ%{unique('one')}", f"%LMQ%{unique('two')}"
    send(java, light_cluster, unique, topic, f"{one},{two}", one, two, one)
    name = reader(java, light_cluster, unique, clients, topic, f"%LMQ%{unique('group')}")

    of_one = pull(java, name, one, 3)
    assert [message["body"] for message in of_one["messages"]] == ["0", "1", "3"]
    assert {message["topic"] for message in of_one["messages"]} == {topic}
    assert (of_one["status"], of_one["next"]) == ("FOUND", 3)
    assert [message["body"] for message in pull(java, name, two, 2)["messages"]] == ["0", "2"]
    offsets = [message["properties"]["INNER_MULTI_QUEUE_OFFSET"] for message in of_one["messages"]]
    assert offsets == ["0,0", "1", "2"]


def test_a_java_reader_keeps_its_position_at_the_broker(
    java: Driver, light_cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, light, group = unique("Topic"), f"%LMQ%{unique('inbox')}", f"%LMQ%{unique('group')}"
    send(java, light_cluster, unique, topic, *[light] * 5)
    name = reader(java, light_cluster, unique, clients, topic, group)
    place: dict[str, Any] = {"queue": light, "broker_name": "broker-a"}

    pull(java, name, light, 5)
    java.call("light.commit", name=name, offset=3, **place)
    wait_until(lambda: java.call("light.committed", name=name, **place) == 3, "the position is kept")
    other = reader(java, light_cluster, unique, clients, topic, group)
    assert java.call("light.committed", name=other, **place) == 3


async def test_our_client_reads_what_java_sent_and_the_other_way_round(
    java5: Driver, light_cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, inbox = unique("Topic"), unique("inbox")
    send(java5, light_cluster, unique, topic, *[f"%LMQ%{inbox}"] * 3)
    async with Producer(light_cluster.namesrv_address) as producer:
        await producer.send(Message(topic=topic, body=b"ours", light_queues=(inbox,)))

    got: list[MessageView] = []
    async with LitePullConsumer(
        light_cluster.namesrv_address, group=f"%LMQ%{unique('group')}", consume_from=ConsumeFrom.FIRST
    ) as consumer:
        queues = await consumer.light_queues(topic, inbox)
        await consumer.assign(queues)
        async with asyncio.timeout(WAIT_SECONDS):
            while len(got) < 4:
                got += await consumer.poll(timeout_ms=500)
            await consumer.commit()
            while await consumer.committed(queues[0]) != 4:
                await asyncio.sleep(0.1)

    assert [(message.queue_offset, message.body) for message in got] == [(0, b"0"), (1, b"1"), (2, b"2"), (3, b"ours")]
    name = reader(java5, light_cluster, unique, clients, topic, f"%LMQ%{unique('group')}")
    assert [message["body"] for message in pull(java5, name, f"%LMQ%{inbox}", 4)["messages"]][-1] == "ours"


def test_light_queues_are_whole_after_a_kill(
    java5: Driver, light_cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, light = unique("Topic"), f"%LMQ%{unique('inbox')}"
    send(java5, light_cluster, unique, topic, *[light] * 20)
    name = reader(java5, light_cluster, unique, clients, topic, f"%LMQ%{unique('group')}")
    pull(java5, name, light, 20)

    broker = light_cluster.brokers["broker-a"]
    broker.process.kill()
    broker.process.start()
    light_cluster.wait_registered()
    send(java5, light_cluster, unique, topic, light)

    after = pull(java5, name, light, 21)
    assert [message["body"] for message in after["messages"]] == [*map(str, range(20)), "0"]
