"""Brokers and name servers: state, configuration, write permission, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from rocketmq_client.admin.access import Access, BrokerAddress, ClusterInfo, parse
from rocketmq_client.admin.connections import ClientConnection
from rocketmq_client.admin.waiting import WaitingLevel, waiting_levels, waiting_timers
from rocketmq_client.errors import InvalidArgument, NotFound
from rocketmq_common.settings import format_java_properties, parse_java_properties
from rocketmq_remoting.codes import RequestCode


@dataclass(frozen=True, slots=True)
class StatsValue:
    """One statistic over one window: the sum, the rate per second, and the average per occurrence."""

    sum: int
    tps: float
    average: float


class Housekeeping(Enum):
    """What a broker can be told to clean."""

    EXPIRED_LOG = RequestCode.DELETE_EXPIRED_COMMITLOG
    EXPIRED_QUEUES = RequestCode.CLEAN_EXPIRED_CONSUMEQUEUE
    UNUSED_TOPICS = RequestCode.CLEAN_UNUSED_TOPIC


class Brokers:
    """``admin.brokers``."""

    def __init__(self, access: Access) -> None:
        self._access = access

    async def cluster(self) -> ClusterInfo:
        """All registered brokers; raises NameServerUnavailable."""
        return await self._access.cluster_info()

    async def find(self, *, cluster: str | None = None, broker: str | None = None) -> list[BrokerAddress]:
        """Broker processes of a cluster, or with a name or address; raises NotFound."""
        return await self._access.brokers(cluster=cluster, broker=broker)

    async def runtime(self, address: str) -> dict[str, str]:
        """The broker's own figures (GET_BROKER_RUNTIME_INFO), by Apache's names."""
        answer = await self._access.ask(address, RequestCode.GET_BROKER_RUNTIME_INFO)
        table: dict[str, Any] = parse(answer.body).get("table") or {}
        return {str(key): str(value) for key, value in sorted(table.items())}

    async def config(self, address: str) -> dict[str, str]:
        """The broker's configuration by Apache's keys."""
        answer = await self._access.ask(address, RequestCode.GET_BROKER_CONFIG)
        return dict(sorted(parse_java_properties(answer.body.decode()).items()))

    async def configure(self, address: str, changes: Mapping[str, str]) -> None:
        """Change keys at run time; raises InvalidArgument, RequestRefused naming the key that cannot be changed."""
        if not changes:
            raise InvalidArgument("nothing to change", hint="give key=value")
        body = format_java_properties(changes).encode()
        await self._access.ask(
            address, RequestCode.UPDATE_BROKER_CONFIG, None, body, context=f"configuration of {address}"
        )

    async def name_server_config(self) -> dict[str, str]:
        """The configuration of the name server in use."""
        answer = await self._access.ask_name_server(RequestCode.GET_NAMESRV_CONFIG)
        return dict(sorted(parse_java_properties(answer.body.decode()).items()))

    async def wipe_write_permission(self, broker_name: str) -> int:
        """Take all topics of a broker from producers, at every name server's routes; returns how many topics (of the first)."""
        answer = await self._tell(RequestCode.WIPE_WRITE_PERM_OF_BROKER, broker_name)
        return int(answer.get("wipeTopicCount", "0"))

    async def add_write_permission(self, broker_name: str) -> int:
        """Undo `wipe_write_permission`."""
        answer = await self._tell(RequestCode.ADD_WRITE_PERM_OF_BROKER, broker_name)
        return int(answer.get("addTopicCount", "0"))

    async def stats(self, address: str, name: str, key: str) -> dict[str, StatsValue]:
        """One statistic, for example ``TOPIC_PUT_NUMS`` of a topic: ``minute``, ``hour`` and ``day``.

        Raises RequestRefused when the broker does not have it (yet).
        """
        header = {"statsName": name, "statsKey": key}
        answer = await self._access.ask(address, RequestCode.VIEW_BROKER_STATS_DATA, header)
        body = parse(answer.body)
        return {
            window.lower(): StatsValue(int(row.get("sum", 0)), float(row.get("tps", 0)), float(row.get("avgpt", 0)))
            for window in ("Minute", "Hour", "Day")
            if (row := body.get(f"stats{window}")) is not None
        }

    async def waiting_levels(self, address: str) -> list[WaitingLevel]:
        """Delay levels of one broker at which messages wait."""
        return await waiting_levels(self._access, address)

    async def waiting_timers(self, address: str) -> dict[str, int]:
        """Timer messages that wait at one broker, by topic."""
        return await waiting_timers(self._access, address)

    async def clean(self, address: str, what: Housekeeping) -> None:
        """Have one broker remove what has expired now, whatever the hour."""
        await self._access.ask(address, what.value, context=f"{what.name.lower()} at {address}")

    async def producers(self, address: str) -> dict[str, list[ClientConnection]]:
        """Every producer connected to one broker, by group."""
        answer = await self._access.ask(address, RequestCode.GET_ALL_PRODUCER_INFO)
        table: dict[str, list[dict[str, Any]]] = parse(answer.body).get("data") or {}
        return {
            group: [
                ClientConnection(
                    client_id=str(row.get("clientId", "")),
                    client_addr=str(row.get("remoteIP", "")),
                    language=str(row.get("language", "")),
                    version=int(row.get("version", 0)),
                )
                for row in rows
            ]
            for group, rows in sorted(table.items())
        }

    async def consume_queue(
        self, address: str, topic: str, queue_id: int, offset: int, count: int, *, group: str = ""
    ) -> dict[str, Any]:
        """Raw entries of a consume queue from ``offset`` on, with the verdict of ``group``'s filter, in Java's words."""
        header = {"topic": topic, "queueId": str(queue_id), "index": str(offset), "count": str(count)}
        if group:
            header["consumerGroup"] = group
        answer = await self._access.ask(address, RequestCode.QUERY_CONSUME_QUEUE, header)
        found: dict[str, Any] = parse(answer.body)
        return found

    async def configure_name_servers(self, changes: Mapping[str, str]) -> None:
        """Change keys at every name server; raises InvalidArgument, RequestRefused naming the key that cannot be changed."""
        if not changes:
            raise InvalidArgument("nothing to change", hint="give key=value")
        body = format_java_properties(changes).encode()
        await self._access.instance.name_servers.tell_all(RequestCode.UPDATE_NAMESRV_CONFIG, None, body)

    async def kv_table(self, namespace: str) -> dict[str, str]:
        """All keys of a namespace at the name servers; empty when it does not exist."""
        try:
            answer = await self._access.ask_name_server(RequestCode.GET_KVLIST_BY_NAMESPACE, {"namespace": namespace})
        except NotFound:
            return {}
        table: dict[str, Any] = parse(answer.body).get("table") or {}
        return {str(key): str(value) for key, value in sorted(table.items())}

    async def put_kv(self, namespace: str, key: str, value: str) -> None:
        """Set a key at every name server."""
        header = {"namespace": namespace, "key": key, "value": value}
        await self._access.instance.name_servers.tell_all(RequestCode.PUT_KV_CONFIG, header)

    async def delete_kv(self, namespace: str, key: str) -> None:
        """Remove a key at every name server."""
        await self._access.instance.name_servers.tell_all(
            RequestCode.DELETE_KV_CONFIG, {"namespace": namespace, "key": key}
        )

    async def _tell(self, code: RequestCode, broker_name: str) -> dict[str, str]:
        await self._access.brokers(broker=broker_name)
        header = {"brokerName": broker_name}
        first = await self._access.ask_name_server(code, header)
        await self._access.instance.name_servers.tell_all(code, header)
        return first.ext_fields()
