"""How the parts of `Admin` reach brokers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from rocketmq_client.errors import BrokerUnavailable, ClientClosed, ClientError, NotFound, refusal
from rocketmq_client.instance import ClientInstance
from rocketmq_client.routes import MASTER_ID, Route
from rocketmq_common import javajson
from rocketmq_remoting.bodies import BrokerData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Buffer, Command

T = TypeVar("T")
REQUEST_TIMEOUT_MS = 5000


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """One broker process: its name, id (0 is the master), address and cluster."""

    name: str
    broker_id: int
    address: str
    cluster: str

    @property
    def is_master(self) -> bool:
        """Whether it takes writes."""
        return self.broker_id == MASTER_ID


@dataclass(frozen=True, slots=True)
class ClusterInfo:
    """Which brokers exist: broker names by cluster, and their addresses."""

    clusters: dict[str, tuple[str, ...]]
    brokers: dict[str, BrokerData]

    def addresses(self) -> list[BrokerAddress]:
        """Every broker process, by cluster, name and id."""
        result = [
            BrokerAddress(name, broker_id, address, cluster)
            for cluster, members in self.clusters.items()
            for name in members
            if name in self.brokers
            for broker_id, address in self.brokers[name].broker_addrs.items()
        ]
        return sorted(result, key=lambda b: (b.cluster, b.name, b.broker_id))


class _ClusterInfoBody(msgspec.Struct, rename="camel"):
    broker_addr_table: dict[str, BrokerData] = {}
    cluster_addr_table: dict[str, list[str]] = {}


class Access:
    """A started client instance, and requests that several parts need."""

    def __init__(self) -> None:
        self.joined: ClientInstance | None = None
        self.timeout_ms = REQUEST_TIMEOUT_MS

    @property
    def instance(self) -> ClientInstance:
        """The instance; raises ClientClosed before ``start``."""
        if self.joined is None:
            raise ClientClosed("the admin is not started", hint="use: async with Admin(...) as admin")
        return self.joined

    async def ask(
        self,
        address: str,
        code: RequestCode,
        header: Mapping[str, str] | None = None,
        body: Buffer = b"",
        *,
        context: str = "",
        timeout_ms: float | None = None,
    ) -> Command:
        """Ask one broker; raises RequestRefused or one of its kinds, BrokerUnavailable, RequestTimeout."""
        return await self.instance.request(
            address, code, header, body, timeout_ms=timeout_ms or self.timeout_ms, context=context
        )

    async def ask_name_server(
        self, code: RequestCode, header: Mapping[str, str] | None = None, *, context: str = ""
    ) -> Command:
        """Ask a name server; raises RequestRefused, NameServerUnavailable."""
        answer = await self.instance.name_servers.ask(code, header, timeout_ms=self.timeout_ms)
        if answer.code != ResponseCode.SUCCESS:
            raise refusal(answer.code, answer.remark, context or "name server")
        return answer

    async def cluster_info(self) -> ClusterInfo:
        """All registered brokers."""
        answer = await self.ask_name_server(RequestCode.GET_BROKER_CLUSTER_INFO)
        body = convert(answer.body, _ClusterInfoBody)
        return ClusterInfo(
            {name: tuple(sorted(members)) for name, members in sorted(body.cluster_addr_table.items())},
            dict(sorted(body.broker_addr_table.items())),
        )

    async def brokers(self, *, cluster: str | None = None, broker: str | None = None) -> list[BrokerAddress]:
        """Broker processes, those of one cluster or one name if given; raises NotFound when there are none such."""
        found = [
            b
            for b in (await self.cluster_info()).addresses()
            if cluster in (None, b.cluster) and broker in (None, b.name, b.address)
        ]
        if not found:
            if cluster is None and broker is None:
                raise BrokerUnavailable("no broker is registered at the name server", hint="start one, or wait for it")
            wanted = f"broker {broker}" if broker else f"cluster {cluster}"
            raise NotFound(ResponseCode.BROKER_NOT_EXIST, f"{wanted} is not registered", hint="see: rocketmq broker ls")
        return found

    async def masters(self, *, cluster: str | None = None, broker: str | None = None) -> list[BrokerAddress]:
        """Like `brokers`, only masters."""
        masters = [b for b in await self.brokers(cluster=cluster, broker=broker) if b.is_master]
        if not masters:
            raise BrokerUnavailable("no master is registered", hint="see: rocketmq broker ls")
        return masters

    async def masters_of(self, route: Route) -> list[BrokerAddress]:
        """The masters that hold a topic; raises BrokerUnavailable when there is none."""
        found = [
            BrokerAddress(name, MASTER_ID, address, data.cluster)
            for name, data in sorted(route.brokers.items())
            if (address := data.broker_addrs.get(MASTER_ID))
        ]
        if not found:
            raise BrokerUnavailable(f"topic {route.topic} has no master", hint="see: rocketmq broker ls")
        return found

    async def each(
        self, brokers: list[BrokerAddress], action: Callable[[BrokerAddress], Awaitable[T]]
    ) -> list[tuple[BrokerAddress, T]]:
        """Run ``action`` on all brokers at once; the first failure is raised when all have ended."""
        outcomes = await asyncio.gather(*(action(broker) for broker in brokers), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [(broker, outcome) for broker, outcome in zip(brokers, outcomes, strict=True)]  # type: ignore[misc]


def convert(body: bytes, kind: type[T]) -> T:
    """Parse a body, strict JSON or Java's; raises ClientError saying what does not fit."""
    try:
        return msgspec.convert(parse(body), kind, strict=False)
    except msgspec.ValidationError as error:
        raise ClientError(f"an answer has an unexpected form: {error}") from error


def parse(body: bytes) -> Any:
    """Parse a body without a type; nulls of objects vanish, as Java leaves fields out that are null."""
    try:
        return _without_nulls(javajson.loads(body))
    except javajson.JavaJsonError as error:
        raise ClientError(f"an answer is no JSON: {error}") from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
