"""Telling every name server what this broker has: each period, and at once when a topic changed.

Name servers share nothing, so each is told and each failure stands for itself. Addresses are read again each round, and names among
them resolved again: a name server that moved is found within a period. So is the broker's own name: a Service that was made anew
leads to it from another address. A broker without any reachable name server keeps serving.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

import msgspec

from rocketmq_broker.identity import Identity, is_literal
from rocketmq_broker.listeners import advertised
from rocketmq_broker.settings import REGISTER_PERIOD_MS_MAX, REGISTER_PERIOD_MS_MIN, BrokerSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_common import permissions
from rocketmq_common.clock import Clock
from rocketmq_common.tasks import TaskRegistry
from rocketmq_common.topics import DataVersion
from rocketmq_remoting.bodies import RegisterBrokerBody, TopicConfigSerializeWrapper
from rocketmq_remoting.client import RemotingClient, split_address
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout
from rocketmq_remoting.headers.namesrv import (
    BrokerIdentityHeader,
    QueryDataVersionResponseHeader,
    RegisterBrokerRequestHeader,
    RegisterBrokerResponseHeader,
)

logger = logging.getLogger(__name__)

NAME_SERVERS_MAX = 64
# A topic's creation waits this long for the name servers; one that is down must not make clients time out (3 s).
ANNOUNCE_WAIT_MS = 1500
RETRY_MS = 1000
RESOLVE_TIMEOUT_MS = 3000
HEARTBEAT_TIMEOUT_MS = 120_000

_FAILURES = (RemotingConnectError, RemotingTimeout, RemotingOverloaded, RemotingError)


class NameServerState(msgspec.Struct):
    """How the last registration at one address went; ``registered_ms`` is 0 before the first success."""

    registered_ms: int = 0
    problem: str = "not registered yet"
    version: DataVersion | None = None
    listeners: str = ""

    @property
    def is_registered(self) -> bool:
        """The last attempt succeeded."""
        return not self.problem


class Registration:
    """See the module. ``states`` is keyed by resolved address."""

    def __init__(
        self,
        settings: BrokerSettings,
        identity: Identity,
        topics: TopicTable,
        client: RemotingClient,
        clock: Clock,
        tasks: TaskRegistry,
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._topics = topics
        self._client = client
        self._clock = clock
        self._tasks = tasks
        self._changed = asyncio.Event()
        self._round_done = asyncio.Condition()
        self._rounds_wanted = 0
        self._rounds_done = 0
        self._task: asyncio.Task[None] | None = None
        self._running: dict[str, asyncio.Task[None]] = {}
        self.states: dict[str, NameServerState] = {}
        self.problem = "not registered yet"
        # Called at a slave with (HA address, address) of its master, as each name server answers.
        self.on_master: Callable[[str, str], None] | None = None
        # Called when the broker's own name leads to another address.
        self.on_moved: Callable[[], None] | None = None

    @property
    def is_registered(self) -> bool:
        """At least one name server knows this broker."""
        return any(state.is_registered for state in self.states.values())

    @property
    def is_registered_everywhere(self) -> bool:
        """Every name server found knows this broker, and one was found."""
        return bool(self.states) and all(state.is_registered for state in self.states.values())

    async def start(self) -> None:
        """Begin; returns after the first round, or `ANNOUNCE_WAIT_MS` when name servers do not answer."""
        self._task = self._tasks.start(self._run(), "registration at name servers", critical=True)
        await self.announce()

    async def announce(self) -> None:
        """Register now with whatever the tables hold; return when every name server was asked, or after `ANNOUNCE_WAIT_MS`."""
        if self._task is None:
            return
        self._rounds_wanted += 1
        wanted = self._rounds_wanted
        self._changed.set()
        try:
            async with asyncio.timeout(ANNOUNCE_WAIT_MS / 1000), self._round_done:
                await self._round_done.wait_for(lambda: self._rounds_done >= wanted)
        except TimeoutError:
            logger.warning("not every name server answered within %d ms; the registration goes on", ANNOUNCE_WAIT_MS)

    async def stop(self, timeout_ms: int) -> None:
        """End and, with a timeout, tell the name servers that this broker leaves."""
        task, self._task = self._task, None
        if task is not None:
            running = [task, *self._running.values()]
            for one in running:
                one.cancel()
            await asyncio.wait(running)
            if timeout_ms > 0:
                await self._unregister(timeout_ms)

    def notify_changed(self) -> None:
        """Something that name servers should know changed; nobody waits for it."""
        self._rounds_wanted += 1
        self._changed.set()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        while True:
            self._changed.clear()
            wanted = self._rounds_wanted
            await self._round()
            async with self._round_done:
                self._rounds_done = wanted
                self._round_done.notify_all()
            period_ms = min(
                max(self._settings.register_name_server_period, REGISTER_PERIOD_MS_MIN), REGISTER_PERIOD_MS_MAX
            )
            if self._settings.namesrv_addr and not self.is_registered_everywhere:
                period_ms = RETRY_MS
            try:
                async with asyncio.timeout(period_ms / 1000):
                    await self._changed.wait()
            except TimeoutError:
                pass

    async def _round(self) -> None:
        await self._follow_own_name()
        addresses = await self._addresses()
        for gone in [address for address in self.states if address not in addresses]:
            del self.states[gone]
            running = self._running.pop(gone, None)
            if running is not None:
                running.cancel()
            self._client.disconnect(gone)
        for address in addresses:
            running = self._running.get(address)
            if running is None or running.done():
                state = self.states.setdefault(address, NameServerState())
                self._running[address] = self._tasks.start(
                    self._register_current(address, state), f"registration at {address}"
                )
        # One that hangs must not keep the others from hearing of the next change.
        waiting = [self._running[address] for address in addresses]
        if waiting:
            await asyncio.wait(waiting, timeout=ANNOUNCE_WAIT_MS / 1000)
        problems = [f"{address}: {state.problem}" for address, state in self.states.items() if state.problem]
        if not addresses:
            self.problem = self.problem if self._settings.namesrv_addr else "namesrvAddr is not set"
        else:
            self.problem = "; ".join(problems)

    async def _follow_own_name(self) -> None:
        name, identity = self._settings.broker_ip1.strip(), self._identity
        if not name or name.strip("[]") == identity.host or is_literal(name):
            return
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_MS / 1000):
                infos = await asyncio.get_running_loop().getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, TimeoutError, UnicodeError) as error:
            logger.warning("brokerIP1=%s: %s: stays %s", name, error or type(error).__name__, identity.host)
            return
        found = [str(info[4][0]) for info in infos]
        if identity.host not in found:
            logger.warning("brokerIP1=%s leads to %s now, no longer to %s", name, found[0], identity.host)
            identity.host = found[0]
            identity.bind(identity.port, identity.vip_port, identity.ha_port)
            if self.on_moved is not None:
                self.on_moved()

    async def _addresses(self) -> list[str]:
        loop = asyncio.get_running_loop()
        found: dict[str, None] = {}
        for entry in self._settings.namesrv_addr.replace(",", ";").split(";"):
            entry = entry.strip().removeprefix("http://")
            if not entry:
                continue
            try:
                host, port = split_address(entry)
                async with asyncio.timeout(RESOLVE_TIMEOUT_MS / 1000):
                    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except (OSError, ValueError, TimeoutError, UnicodeError) as error:
                problem = f"name server {entry}: {error or type(error).__name__}"
                if problem != self.problem:
                    logger.warning("%s: tried again each second", problem)
                self.problem = problem
                continue
            for info in infos:
                address = str(info[4][0])
                found[f"[{address}]:{port}" if ":" in address else f"{address}:{port}"] = None
        return list(found)[:NAME_SERVERS_MAX]

    def _body(self) -> RegisterBrokerBody:
        topics = self._topics
        permission = self._settings.broker_permission
        configs = topics.configs
        if permission & permissions.READ_WRITE != permissions.READ_WRITE:
            # What the broker does not allow, no topic of it does; routes must say so (the inherit bit is not the broker's).
            mask = permission | permissions.INHERIT
            configs = {
                name: msgspec.structs.replace(config, perm=config.perm & mask) for name, config in configs.items()
            }
        return RegisterBrokerBody(
            topic_config_serialize_wrapper=TopicConfigSerializeWrapper(
                data_version=topics.data_version,
                topic_config_table=configs,
                mapping_data_version=DataVersion(),
                topic_queue_mapping_info_map={},
                topic_queue_mapping_detail_map={},
            )
        )

    async def _register_current(self, address: str, state: NameServerState) -> None:
        """Register what the tables hold, again if they changed meanwhile."""
        while True:
            await self._register(address, state)
            if state.problem or state.version == self._topics.data_version:
                return

    async def _register(self, address: str, state: NameServerState) -> None:
        settings, identity = self._settings, self._identity
        version = self._topics.data_version
        timeout_ms = settings.register_broker_timeout_mills
        listeners = advertised(settings.listener_addresses, settings.broker_ip1, settings.listener_host)
        try:
            if (
                not settings.force_register
                and state.is_registered
                and state.listeners == listeners
                and not await self._is_stale(address, version, timeout_ms)
            ):
                state.registered_ms = self._clock.now_ms()
                state.version = version
                return
            answer = await self._client.invoke(
                address,
                RequestCode.REGISTER_BROKER,
                RegisterBrokerRequestHeader(
                    broker_name=settings.broker_name,
                    broker_addr=identity.address,
                    cluster_name=settings.broker_cluster_name,
                    ha_server_addr=identity.ha_address,
                    broker_id=settings.broker_id,
                    heartbeat_timeout_millis=HEARTBEAT_TIMEOUT_MS,
                    enable_acting_master=False,
                    listeners=listeners or None,
                ),
                msgspec.json.encode(self._body()),
                timeout_ms=timeout_ms,
            )
            self._take_answer(answer)
        except _FAILURES as error:
            if state.problem != str(error):
                logger.warning("registration at name server %s failed: %s", address, error)
            state.problem = str(error)
            return
        if state.problem:
            logger.info("registered at name server %s as %s", address, identity.address)
        state.problem, state.listeners = "", listeners
        state.registered_ms = self._clock.now_ms()
        state.version = version

    def _take_answer(self, answer: Command) -> None:
        if answer.code != ResponseCode.SUCCESS:
            raise RemotingError(answer.code, answer.remark or "")
        header = answer.header(RegisterBrokerResponseHeader)
        if self._settings.broker_id != 0 and self.on_master is not None:
            self.on_master(header.ha_server_addr or "", header.master_addr or "")
        if answer.body:
            try:
                table = msgspec.json.decode(answer.body, type=_KvTable)
            except msgspec.DecodeError as error:
                raise RemotingError(ResponseCode.SYSTEM_ERROR, f"order topic configuration: {error}") from error
            self._topics.apply_order_topics(table.table)

    async def _is_stale(self, address: str, version: DataVersion, timeout_ms: int) -> bool:
        answer = await self._client.invoke(
            address,
            RequestCode.QUERY_DATA_VERSION,
            self._identity_header(),
            msgspec.json.encode(version),
            timeout_ms=timeout_ms,
        )
        return answer.code != ResponseCode.SUCCESS or answer.header(QueryDataVersionResponseHeader).changed

    async def _unregister(self, timeout_ms: int) -> None:
        async def leave(address: str) -> None:
            try:
                await self._client.invoke(
                    address, RequestCode.UNREGISTER_BROKER, self._identity_header(), timeout_ms=timeout_ms
                )
            except _FAILURES as error:
                logger.warning("name server %s could not be told that this broker leaves: %s", address, error)

        async with asyncio.TaskGroup() as group:
            for address, state in self.states.items():
                if state.registered_ms:
                    group.create_task(leave(address))
        self.states.clear()

    def _identity_header(self) -> BrokerIdentityHeader:
        return BrokerIdentityHeader(
            broker_name=self._settings.broker_name,
            broker_addr=self._identity.address,
            cluster_name=self._settings.broker_cluster_name,
            broker_id=self._settings.broker_id,
        )


class _KvTable(msgspec.Struct):
    table: dict[str, str] = {}
