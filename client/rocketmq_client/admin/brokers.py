"""Brokers and name servers: state, configuration, write permission, statistics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rocketmq_client.admin.access import Access, BrokerAddress, ClusterInfo, parse
from rocketmq_client.errors import InvalidArgument
from rocketmq_common.settings import format_java_properties, parse_java_properties
from rocketmq_remoting.codes import RequestCode


@dataclass(frozen=True, slots=True)
class StatsValue:
    """One statistic over one window: the sum, the rate per second, and the average per occurrence."""

    sum: int
    tps: float
    average: float


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

    async def _tell(self, code: RequestCode, broker_name: str) -> dict[str, str]:
        await self._access.brokers(broker=broker_name)
        header = {"brokerName": broker_name}
        first = await self._access.ask_name_server(code, header)
        await self._access.instance.name_servers.tell_all(code, header)
        return first.ext_fields()
