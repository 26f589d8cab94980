"""Java and Python consumers in one group: they compute the same shares, so no queue has two owners or none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

import pytest

from e2e.clusters import Cluster
from e2e.drivers import Driver
from e2e.peers.test_our_client import until
from rocketmq_client import Admin, Average, ConsumeFrom, MessageView, Producer, PushConsumer

pytestmark = [pytest.mark.peers, pytest.mark.timeout(200)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
QUEUES = 6


async def test_java_and_python_members_share_queues_and_take_over_from_each_other(
    java: Driver, cluster: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, group, name = unique("Topic"), unique("group"), unique("consumer")
    got: list[MessageView] = []

    async def listen(message: MessageView) -> None:
        got.append(message)

    def of_java() -> list[str]:
        found: list[str] = java.call("consumer.assigned", name=name, topic=topic)
        return found

    def of_python(consumer: PushConsumer) -> list[str]:
        return [f"{q.broker_name}:{q.queue_id}" for q in consumer.assigned if q.topic == topic]

    async with Admin(cluster.namesrv_address) as admin, Producer(cluster.namesrv_address) as producer:
        await admin.topics.create(topic, queues=QUEUES)
        await until(lambda: admin.topics.exists(topic), "the topic's route")
        clients(java, "consumer", name)
        subscriptions = [{"topic": topic}]
        await asyncio.to_thread(
            java.call,
            "consumer.start",
            name=name,
            group=group,
            namesrv=cluster.namesrv_address,
            subscriptions=subscriptions,
        )
        await until(lambda: len(of_java()) == QUEUES, "Java has all queues")
        async with PushConsumer(
            cluster.namesrv_address, group=group, topics=topic, listener=listen, consume_from=ConsumeFrom.FIRST
        ) as consumer:

            def are_shared() -> bool:
                mine, theirs = of_python(consumer), of_java()
                return len(mine) == len(theirs) == QUEUES // 2 and not {*mine} & {*theirs}

            await until(are_shared, "each has half of the queues, none twice")
            members = [c.client_id for c in (await admin.groups.members(group)).connection_set]
            queues = (await admin.topics.route(topic)).read_queues
            shares = {m: Average().allocate(m, queues, sorted(members)) for m in members}
            assert {f"{q.broker_name}:{q.queue_id}" for q in shares[consumer.client_id]} == {*of_python(consumer)}
            for number in range(60):
                await producer.send(topic, f"{number}")

            def bodies() -> list[str]:
                theirs = [str(m["body"]) for m in java.call("consumer.received", name=name)]
                return theirs + [m.body.decode() for m in got]

            await until(lambda: len(bodies()) >= 60, "both consume")
            assert Counter(bodies()) == {str(n): 1 for n in range(60)}
            assert got
            assert len(got) < 60
            findings = (await admin.diagnose(group)).findings
            assert [f for f in findings if f.check != "dead letters"] == []
        await until(lambda: len(of_java()) == QUEUES, "Java takes over when Python leaves")
        async with PushConsumer(
            cluster.namesrv_address, group=group, topics=topic, listener=listen, consume_from=ConsumeFrom.FIRST
        ) as again:
            await until(lambda: len(of_python(again)) == QUEUES // 2, "Python is back")
            await asyncio.to_thread(java.call, "consumer.stop", name=name)
            await until(lambda: len(of_python(again)) == QUEUES, "Python takes over when Java leaves")
