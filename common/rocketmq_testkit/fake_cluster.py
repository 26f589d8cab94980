"""A RocketMQ cluster inside the test's event loop: real sockets on ephemeral loopback ports, everything else in memory.

For tests of clients and of applications that use them. It behaves like a cluster where clients can tell: topics are created on
the first send, pulls wait, tags filter, groups get notified, failed messages come back, locks exclude. It keeps nothing,
checks no permissions and does no more than its two files show.

```python
async with FakeCluster(brokers=2) as cluster:
    async with Producer(cluster.name_server) as producer:
        await producer.send("orders", b"hi")
```
"""

from __future__ import annotations

from types import TracebackType
from typing import Self

import msgspec

from rocketmq_common import names
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.bodies import BrokerData, QueueData, TopicRouteData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.namesrv import (
    BrokerNameHeader,
    DeleteTopicInNamesrvRequestHeader,
    GetRouteInfoRequestHeader,
)
from rocketmq_remoting.server import RemotingServer
from rocketmq_testkit.fake_broker import FakeBroker

LOOPBACK = "127.0.0.1"
CLUSTER_NAME = "FakeCluster"


class FakeNameServer:
    """Knows the routes of its cluster's brokers at every moment; brokers need not register."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster
        self.wiped: set[str] = set()
        self.server = RemotingServer(
            [
                Route(RequestCode.GET_ROUTEINFO_BY_TOPIC, GetRouteInfoRequestHeader, self._route),
                Route(RequestCode.GET_BROKER_CLUSTER_INFO, None, self._cluster_info),
                Route(RequestCode.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, None, self._topics),
                Route(RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_NS, None, self._system_topics),
                Route(RequestCode.DELETE_TOPIC_IN_NAMESRV, DeleteTopicInNamesrvRequestHeader, self._delete_topic),
                Route(RequestCode.WIPE_WRITE_PERM_OF_BROKER, BrokerNameHeader, self._wipe),
                Route(RequestCode.ADD_WRITE_PERM_OF_BROKER, BrokerNameHeader, self._unwipe),
                Route(RequestCode.GET_NAMESRV_CONFIG, None, lambda *_: Response(body=b"listenPort=9876\n")),
            ]
        )

    def _route(self, connection: Connection, command: Command, header: GetRouteInfoRequestHeader) -> Response:
        del connection, command
        holders = [b for b in self._cluster.brokers.values() if b.is_up and header.topic in b.topics]
        if not holders:
            raise RemotingError(
                ResponseCode.TOPIC_NOT_EXIST, f"No topic route info in name server for the topic: {header.topic}"
            )
        data = TopicRouteData(
            queue_datas=[self._queue_data(broker, broker.topics[header.topic]) for broker in holders],
            broker_datas=[_broker_data(broker) for broker in holders],
        )
        return Response(body=msgspec.json.encode(data))

    def _queue_data(self, broker: FakeBroker, config: TopicConfig) -> QueueData:
        perm = config.perm & ~2 if broker.name in self.wiped else config.perm
        return QueueData(
            broker_name=broker.name,
            read_queue_nums=config.read_queue_nums,
            write_queue_nums=config.write_queue_nums,
            perm=perm,
        )

    def _cluster_info(self, connection: Connection, command: Command, header: None) -> Response:
        del connection, command, header
        up = [broker for broker in self._cluster.brokers.values() if broker.is_up]
        body = {
            "brokerAddrTable": {broker.name: _broker_data(broker) for broker in up},
            "clusterAddrTable": {CLUSTER_NAME: [broker.name for broker in up]} if up else {},
        }
        return Response(body=msgspec.json.encode(body))

    def _topics(self, connection: Connection, command: Command, header: None) -> Response:
        del connection, command, header
        found = {topic for broker in self._cluster.brokers.values() if broker.is_up for topic in broker.topics}
        return Response(body=msgspec.json.encode({"topicList": sorted(found)}))

    def _system_topics(self, connection: Connection, command: Command, header: None) -> Response:
        del connection, command, header
        return Response(body=msgspec.json.encode({"topicList": [CLUSTER_NAME, *self._cluster.brokers]}))

    def _delete_topic(
        self, connection: Connection, command: Command, header: DeleteTopicInNamesrvRequestHeader
    ) -> Response:
        del connection, command, header
        return Response()

    def _wipe(self, connection: Connection, command: Command, header: BrokerNameHeader) -> Response:
        del connection, command
        self.wiped.add(header.broker_name)
        return Response(ext={"wipeTopicCount": str(len(self._cluster.brokers[header.broker_name].topics))})

    def _unwipe(self, connection: Connection, command: Command, header: BrokerNameHeader) -> Response:
        del connection, command
        self.wiped.discard(header.broker_name)
        return Response(ext={"addTopicCount": str(len(self._cluster.brokers[header.broker_name].topics))})


class FakeCluster:
    """``brokers`` masters called broker-a, broker-b, …; ``name_servers`` name servers that all know them."""

    def __init__(self, brokers: int = 1, *, name_servers: int = 1, queues: int = 4, retry_delay_ms: int = 20) -> None:
        self.brokers: dict[str, FakeBroker] = {}
        for index in range(brokers):
            name = f"broker-{chr(ord('a') + index)}"
            self.brokers[name] = FakeBroker(name, queues=queues, retry_delay_ms=retry_delay_ms)
        self.name_servers = [FakeNameServer(self) for _ in range(name_servers)]

    @property
    def name_server(self) -> str:
        """The addresses of all name servers, as clients take them."""
        return ";".join(f"{LOOPBACK}:{name_server.server.port}" for name_server in self.name_servers)

    @property
    def broker(self) -> FakeBroker:
        """The first broker."""
        return next(iter(self.brokers.values()))

    async def __aenter__(self) -> Self:
        for broker in self.brokers.values():
            await broker.start(LOOPBACK)
        for name_server in self.name_servers:
            await name_server.server.start(LOOPBACK, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for broker in self.brokers.values():
            await broker.stop()
        for name_server in self.name_servers:
            await name_server.server.stop(grace_ms=0)

    def create_topic(self, topic: str, queues: int = 4, perm: int = 6) -> None:
        """Have ``topic`` at every broker."""
        for broker in self.brokers.values():
            broker.create_topic(topic, queues, perm)

    def messages(self, topic: str) -> list[bytes]:
        """Bodies of all messages of ``topic`` as stored (compressed or not), by broker, queue and offset."""
        return [m.body for broker in self.brokers.values() for m in broker.messages(topic)]

    def committed(self, group: str, topic: str) -> int:
        """Sum of the group's committed offsets over all queues of ``topic``."""
        return sum(
            offset
            for broker in self.brokers.values()
            for (owner, name, _), offset in broker.offsets.items()
            if owner == group and name == topic
        )

    def dead_letters(self, group: str) -> list[bytes]:
        """Bodies of the messages that the group failed on for good."""
        return self.messages(names.dlq_topic(group))


def _broker_data(broker: FakeBroker) -> BrokerData:
    return BrokerData(cluster=CLUSTER_NAME, broker_name=broker.name, broker_addrs={0: broker.address})
