"""What all producers, consumers and admins of a process share: connections, routes, heartbeats, the client id.

A broker keeps one member per connection and group. Two consumers of one group in one process therefore need two instances;
everybody else shares one. `ClientInstance.acquire` sorts that out, `release` closes an instance that nobody uses any more.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from weakref import WeakKeyDictionary

import msgspec

from rocketmq_client.addresses import own_address
from rocketmq_client.callbacks import ConsumerSide, callback_routes
from rocketmq_client.errors import (
    BrokerUnavailable,
    ClientClosed,
    ClientError,
    InvalidArgument,
    RequestTimeout,
    refusal,
)
from rocketmq_client.messages import MessageView
from rocketmq_client.name_servers import NameServers
from rocketmq_client.producer_callbacks import ProducerSide, producer_routes
from rocketmq_client.routes import Route, Routes
from rocketmq_common import names
from rocketmq_common.message_ids import UniqueIds
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.bodies import HeartbeatData, ProducerData
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Buffer, Command, Header, header_fields
from rocketmq_remoting.errors import RemotingConnectError, RemotingOverloaded, RemotingTimeout
from rocketmq_remoting.headers.clients import UnregisterClientRequestHeader
from rocketmq_remoting.limits import Limits

logger = logging.getLogger(__name__)

HEARTBEAT_INTERVAL_MS = 30_000
ROUTE_INTERVAL_MS = 30_000
REQUEST_TIMEOUT_MS = 3000
INSTANCES_MAX = 1000  # per process and name server list


class ClientInstance:
    """One client id at the brokers. Use `acquire`, not the constructor."""

    def __init__(self, addresses: tuple[str, ...], instance_name: str) -> None:
        self.client_id = f"{own_address()}@{instance_name}"
        self.unique_ids = UniqueIds()
        self.consumers: dict[str, ConsumerSide] = {}
        self.producers: dict[str, list[ProducerSide]] = {}
        # Correlation id → who waits for that reply.
        self.requests: dict[str, asyncio.Future[MessageView]] = {}
        self.remoting = RemotingClient(
            Limits(), [*callback_routes(self.consumers), *producer_routes(self.producers, self.requests)]
        )
        self.name_servers = NameServers(self.remoting, addresses)
        self.routes = Routes(self.name_servers)
        self.routes.on_change.append(self._route_changed)
        self.tasks = TaskRegistry()
        self.users = 0
        self.reserved_groups: set[str] = set()  # consumer groups that have, or are about to have, their member here
        self._heartbeat_wanted = asyncio.Event()
        self._heartbeat_lock = asyncio.Lock()
        self._is_closed = False

    @staticmethod
    def acquire(addresses: tuple[str, ...], *, consumer_group: str | None = None) -> ClientInstance:
        """An instance for these name servers that has no consumer of ``consumer_group`` yet; the caller owes `release`."""
        pool = _POOLS.setdefault(asyncio.get_running_loop(), {}).setdefault(addresses, [])
        for instance in pool:
            if consumer_group is None or consumer_group not in instance.reserved_groups:
                break
        else:
            if len(pool) >= INSTANCES_MAX:
                raise InvalidArgument(
                    f"{INSTANCES_MAX} consumers of one group in one process", hint="use more processes"
                )
            instance = ClientInstance(addresses, f"{os.getpid()}#{time.monotonic_ns()}")
            instance._start()
            pool.append(instance)
        instance.users += 1
        if consumer_group is not None:
            instance.reserved_groups.add(consumer_group)
        return instance

    async def release(self, *, consumer_group: str | None = None) -> None:
        """Give the instance back; the last user closes it."""
        if consumer_group is not None:
            self.reserved_groups.discard(consumer_group)
        self.users -= 1
        if self.users > 0:
            return
        pool = _POOLS.get(asyncio.get_running_loop(), {}).get(self.name_servers.addresses, [])
        if self in pool:
            pool.remove(self)
        self._is_closed = True
        await self.tasks.stop()
        await self.routes.close()
        await self.remoting.close()

    # -- requests ----------------------------------------------------------------------------------------------------

    async def call(
        self,
        address: str,
        code: int,
        header: Header | Mapping[str, str] | bytes | None = None,
        body: Buffer = b"",
        *,
        broker_name: str = "",
        timeout_ms: float = REQUEST_TIMEOUT_MS,
    ) -> Command:
        """Ask a broker and return its answer, whatever its code.

        Raises BrokerUnavailable, RequestTimeout, ClientClosed.
        """
        if self._is_closed:
            raise ClientClosed("the client is closed")
        if broker_name and header is not None and not isinstance(header, bytes):
            # Java 5.x names the target broker in nearly every request: static topics need it.
            fields = header_fields(header) if isinstance(header, Header) else dict(header)
            fields["bname"] = broker_name
            header = fields
        try:
            return await self.remoting.invoke(address, code, header, body, timeout_ms=timeout_ms)
        except RemotingConnectError as error:
            raise BrokerUnavailable(
                f"broker {broker_name or address}: {error}",
                hint=f"{address} is what the broker advertises: it must be reachable from here (brokerIP1)",
            ) from error
        except RemotingTimeout as error:
            raise RequestTimeout(f"broker {broker_name or address}: {error}") from error
        except RemotingOverloaded as error:
            raise BrokerUnavailable(
                f"broker {broker_name or address}: {error}", hint="keep fewer requests under way"
            ) from error

    async def request(
        self,
        address: str,
        code: int,
        header: Header | Mapping[str, str] | bytes | None = None,
        body: Buffer = b"",
        *,
        broker_name: str = "",
        timeout_ms: float = REQUEST_TIMEOUT_MS,
        context: str = "",
    ) -> Command:
        """Like `call`, but an answer other than success is raised as RequestRefused or one of its kinds."""
        answer = await self.call(address, code, header, body, broker_name=broker_name, timeout_ms=timeout_ms)
        if answer.code != ResponseCode.SUCCESS:
            raise refusal(answer.code, answer.remark, context or f"broker {broker_name or address}")
        return answer

    async def tell(
        self, address: str, code: int, header: Header | None = None, body: Buffer = b"", *, broker_name: str = ""
    ) -> None:
        """Send a request that nobody answers; raises BrokerUnavailable when it cannot be sent."""
        if self._is_closed:
            raise ClientClosed("the client is closed")
        fields: Mapping[str, str] | Header | None = header
        if broker_name and header is not None:
            fields = {**header_fields(header), "bname": broker_name}
        try:
            await self.remoting.invoke_oneway(address, code, fields, body)
        except RemotingConnectError as error:
            raise BrokerUnavailable(f"broker {broker_name or address}: {error}") from error

    async def tell_raw(self, address: str, code: int, ext: bytes, body: Buffer) -> None:
        """Like `tell` with ready JSON for the header."""
        if self._is_closed:
            raise ClientClosed("the client is closed")
        try:
            connection = await self.remoting.connect(address)
            await connection.wait_writable(code, REQUEST_TIMEOUT_MS)
        except RemotingConnectError as error:
            raise BrokerUnavailable(str(error), hint=f"{address} must be reachable from here (brokerIP1)") from error
        except RemotingTimeout as error:
            raise RequestTimeout(str(error)) from error
        connection.notify(code, ext, body)

    # -- groups ------------------------------------------------------------------------------------------------------

    def register_producer(self, producer: ProducerSide) -> None:
        """List the producer in heartbeats."""
        self.producers.setdefault(producer.group, []).append(producer)
        self._heartbeat_wanted.set()

    async def unregister_producer(self, producer: ProducerSide) -> None:
        """Forget the producer; the brokers are told when it was the last of its group here."""
        members = self.producers.get(producer.group, [])
        if producer in members:
            members.remove(producer)
        if not members:
            self.producers.pop(producer.group, None)
            await self._unregister(producer_group=producer.group)

    def register_consumer(self, consumer: ConsumerSide) -> None:
        """List the consumer in heartbeats and let it answer brokers; call `heartbeat` next."""
        if consumer.group in self.consumers:
            raise InvalidArgument(f"consumer group {consumer.group} has a member in this client instance")
        self.consumers[consumer.group] = consumer

    async def unregister_consumer(self, consumer: ConsumerSide) -> None:
        """Forget the consumer and tell the brokers, so that others take its queues at once."""
        if self.consumers.pop(consumer.group, None) is not None:
            await self._unregister(consumer_group=consumer.group)

    async def heartbeat(self) -> None:
        """Tell every known broker who we are; failures are logged, for the next beat tries again."""
        async with self._heartbeat_lock:
            if not self.producers and not self.consumers:
                return
            addresses = self.routes.addresses(with_slaves=bool(self.consumers))
            body = msgspec.json.encode(self._heartbeat_data())
            outcomes = await asyncio.gather(
                *(
                    self.request(address, RequestCode.HEART_BEAT, None, body, broker_name=name)
                    for address, name in addresses.items()
                ),
                return_exceptions=True,
            )
            for address, outcome in zip(addresses, outcomes, strict=True):
                if isinstance(outcome, ClientError):
                    logger.info("heartbeat to %s failed: %s", address, outcome)
                elif isinstance(outcome, BaseException):
                    raise outcome

    def want_heartbeat(self) -> None:
        """Have a heartbeat sent soon, for a broker seems not to know us (any more)."""
        self._heartbeat_wanted.set()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.tasks.start(self._beat(), "heartbeats")
        self.tasks.every(ROUTE_INTERVAL_MS, self.routes.refresh, "route refresh", critical=False)

    async def _beat(self) -> None:
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_INTERVAL_MS / 1000):
                    await self._heartbeat_wanted.wait()
            except TimeoutError:
                pass
            self._heartbeat_wanted.clear()
            await self.heartbeat()

    def _heartbeat_data(self) -> HeartbeatData:
        groups = dict.fromkeys((names.CLIENT_INNER_PRODUCER_GROUP, *self.producers))
        return HeartbeatData(
            client_id=self.client_id,
            producer_data_set=[ProducerData(group_name=group) for group in groups],
            consumer_data_set=[consumer.heartbeat_data() for consumer in self.consumers.values()],
        )

    def _route_changed(self, route: Route) -> None:
        del route
        self._heartbeat_wanted.set()
        for consumer in self.consumers.values():
            consumer.wake_rebalance()

    async def _unregister(self, *, producer_group: str | None = None, consumer_group: str | None = None) -> None:
        header = UnregisterClientRequestHeader(
            client_id=self.client_id, producer_group=producer_group, consumer_group=consumer_group
        )
        addresses = self.routes.addresses(with_slaves=consumer_group is not None)
        outcomes = await asyncio.gather(
            *(
                self.request(address, RequestCode.UNREGISTER_CLIENT, header, broker_name=name)
                for address, name in addresses.items()
            ),
            return_exceptions=True,
        )
        for address, outcome in zip(addresses, outcomes, strict=True):
            if isinstance(outcome, ClientError):
                logger.info("broker %s was not told that we leave: %s", address, outcome)
            elif isinstance(outcome, BaseException):
                raise outcome


_POOLS: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, ...], list[ClientInstance]]] = WeakKeyDictionary()
