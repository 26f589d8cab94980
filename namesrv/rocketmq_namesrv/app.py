"""The name server as a whole: the only place that makes its parts and knows the order of start and stop."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from rocketmq_common.clock import Clock, SystemClock
from rocketmq_common.files import FileSystem, RealFiles
from rocketmq_common.tasks import TaskRegistry
from rocketmq_namesrv.configuration import Configuration
from rocketmq_namesrv.kv import KvConfig
from rocketmq_namesrv.listeners import parse_ports
from rocketmq_namesrv.processor import NamesrvProcessor, now_ms
from rocketmq_namesrv.routes import MinBrokerChange, RouteTable
from rocketmq_namesrv.settings import NamesrvSettings
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.connection import Connection
from rocketmq_remoting.errors import RemotingConnectError
from rocketmq_remoting.headers.namesrv import NotifyMinBrokerIdChangeRequestHeader
from rocketmq_remoting.limits import Limits
from rocketmq_remoting.server import RemotingServer

if TYPE_CHECKING:
    from rocketmq_namesrv.web import WebServer

logger = logging.getLogger(__name__)

STOP_GRACE_MS = 1000


class ListenError(Exception):
    """A port that cannot be listened on; the message names it and says what to do."""


class NameServer:
    """``await start()``, then requests are answered until ``await stop()``."""

    def __init__(
        self,
        settings: NamesrvSettings,
        values: dict[str, str] | None = None,
        *,
        files: FileSystem | None = None,
        clock: Clock | None = None,
    ) -> None:
        files = files or RealFiles()
        self.clock: Clock = clock or SystemClock()
        self.configuration = Configuration(settings, values or {}, files)
        self.table = RouteTable()
        self.kv = KvConfig(Path(settings.kv_config_path), files)
        self.processor = NamesrvProcessor(self.table, self.kv, self.configuration, self.clock, self._announce)
        limits = Limits(idle_ms=settings.server_channel_max_idle_time_seconds * 1000)
        self.server = RemotingServer(self.processor.routes(), limits)
        # By listener's name: servers of their own, so that what comes through them cannot register or configure anything.
        self.listeners = {
            name: RemotingServer(self.processor.listener_routes(name), limits)
            for name in parse_ports(settings.listeners)
        }
        self.web: WebServer | None = None
        self.is_started = False
        self._tasks = TaskRegistry()
        self._client: RemotingClient | None = None

    @property
    def port(self) -> int:
        """The port listened on."""
        return self.server.port

    async def start(self) -> None:
        """Load, then listen. Raises ListenError, KvConfigError or OSError."""
        settings = self.configuration.settings
        self.kv.load()
        self.server.on_disconnect.append(self._connection_closed)
        try:
            await self.server.start(settings.bind_address, settings.listen_port)
        except OSError as error:
            raise _listen_error(settings.bind_address, settings.listen_port, "listenPort", error) from error
        for name, port in parse_ports(settings.listeners).items():
            try:
                await self.listeners[name].start(settings.bind_address, port)
            except OSError as error:
                await self.stop()
                raise _listen_error(settings.bind_address, port, "listeners", error) from error
        if settings.http_port >= 0:
            # Imported here: the web framework is a third of the process's memory, and of no use without its port.
            from rocketmq_namesrv.web import WebServer

            self.web = WebServer(self)
            try:
                await self.web.start(settings.http_bind_address, settings.http_port)
            except OSError as error:
                await self.stop()
                raise _listen_error(settings.http_bind_address, settings.http_port, "httpPort", error) from error
        self._tasks.start(self._expire_forever(), "expiry of silent brokers", critical=False)
        self.is_started = True

    async def stop(self) -> None:
        """Take no more requests, answer those under way, close."""
        self.is_started = False
        await self._tasks.stop()
        if self.web is not None:
            await self.web.stop()
        await asyncio.gather(*(server.stop(STOP_GRACE_MS) for server in (self.server, *self.listeners.values())))
        if self._client is not None:
            await self._client.close()

    def expire(self) -> None:
        """Drop the brokers that were silent too long, with their connections."""
        for key, live in self.table.expired(now_ms(self.clock)):
            logger.warning(
                "broker %s at %s dropped: silent for more than %d ms",
                live.broker_name, key.address, live.heartbeat_timeout_ms,
            )  # fmt: skip
            change = self.table.unregister(key, live.broker_name)
            if change is not None:
                self._announce(change)
            if isinstance(live.connection, Connection):
                live.connection.close("the broker was silent too long")

    async def _expire_forever(self) -> None:
        while True:
            await asyncio.sleep(self.configuration.settings.scan_not_active_broker_interval / 1000)
            self.expire()

    def _connection_closed(self, connection: Connection) -> None:
        known = [live.broker_name for live in self.table.live.values() if live.connection is connection]
        for name in known:
            logger.warning("broker %s dropped: connection from %s %s", name, connection.remote, connection.close_reason)
        for change in self.table.connection_closed(connection):
            self._announce(change)

    def _announce(self, change: MinBrokerChange) -> None:
        if not self.configuration.settings.notify_min_broker_id_changed or self.server.is_draining:
            return
        header = NotifyMinBrokerIdChangeRequestHeader(
            min_broker_id=change.min_broker_id,
            broker_name=change.broker_name,
            min_broker_addr=change.min_broker_addr,
            offline_broker_addr=change.offline_broker_addr,
            ha_broker_addr=change.ha_broker_addr,
        )
        if self._client is None:
            self._client = RemotingClient()
        for address in change.notify:
            self._tasks.start(self._tell(self._client, address, header), f"tell {address} its lowest broker id")

    async def _tell(self, client: RemotingClient, address: str, header: NotifyMinBrokerIdChangeRequestHeader) -> None:
        try:
            await client.invoke_oneway(address, RequestCode.NOTIFY_MIN_BROKER_ID_CHANGE, header)
        except RemotingConnectError as error:
            logger.warning("%s was not told that its lowest broker id changed: %s", address, error)


def _listen_error(host: str, port: int, key: str, error: OSError) -> ListenError:
    reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
    return ListenError(f"listen on {host}:{port}: {reason}: end the other process or set another {key}")
