"""The composition root: the only place that constructs the parts of a broker and knows in which order they start.

Start: store, tables, servers, services, registration. Stop is the mirror: name servers are told first, then no new connections,
requests under way are answered, the store flushes, tables are written, and only then the clean marker is set.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rocketmq_broker.admission import Admission
from rocketmq_broker.assignment import AssignmentProcessor, MessageRequestModes, TopicQueues
from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.locks import QueueLocks
from rocketmq_broker.clients.processor import ClientProcessor
from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.delay import DelaySchedule
from rocketmq_broker.durable import CONFIG_DIRECTORY
from rocketmq_broker.failover.lease import LeaseStore
from rocketmq_broker.failover.lease_file import FileLeaseStore
from rocketmq_broker.failover.succession import Succession
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.metadata import MetadataSync
from rocketmq_broker.ha.replication import Replication
from rocketmq_broker.held_pulls import RECHECK_MS
from rocketmq_broker.identity import Identity, resolve_identity
from rocketmq_broker.listening import Ports, listen_error
from rocketmq_broker.memory import client_memory
from rocketmq_broker.observation import Observation
from rocketmq_broker.offsets import OffsetProcessor
from rocketmq_broker.pop.service import Pop
from rocketmq_broker.pull import PullProcessor
from rocketmq_broker.query import QueryProcessor
from rocketmq_broker.recall import RecallProcessor
from rocketmq_broker.registration import Registration
from rocketmq_broker.replies import ReplyProcessor
from rocketmq_broker.send import SendProcessor
from rocketmq_broker.send_back import SendBackProcessor
from rocketmq_broker.services import EXPIRY_SCAN_MS, ClientExpiry, IndexBuilder, Retention, forgiving
from rocketmq_broker.settings import HTTP_PORT, LISTEN_PORT, BrokerRole, LoadedSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.reports import TimerReports
from rocketmq_broker.timer.sending import TimerSender
from rocketmq_broker.timer.service import TimerService
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.transactions.service import Transactions
from rocketmq_common.clock import Clock, SystemClock
from rocketmq_common.files import FileSystem, RealFiles
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.limits import Limits
from rocketmq_remoting.server import RemotingServer
from rocketmq_store.batch_appending import load_arrays
from rocketmq_store.statuses import RecoveryReport
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

HTTP_PORT_OFFSET = HTTP_PORT - LISTEN_PORT
UNREGISTER_TIMEOUT_MS = 3000
TABLES_INTERVAL_MS = 1000
STORE_TICK_MS = 1000
LOAD_ARRAYS_DELAY_S = 2.0
# Of one connection. A consumer holds one pull per queue it was given, and its heartbeats must still be read.
REQUESTS_IN_FLIGHT_MAX = 32_768
# The VIP port serves everything but what waits for messages (Java's "fast remoting server").
CODES_NOT_ON_VIP = frozenset(
    {RequestCode.PULL_MESSAGE, RequestCode.LITE_PULL_MESSAGE, RequestCode.POP_MESSAGE, RequestCode.NOTIFICATION}
)


class Broker:
    """All parts of one broker under their names; `start` and `stop` on the event loop.

    ``fatal`` is called, from any thread, when going on would break a promise (a failed sync, a dead service).
    """

    def __init__(
        self,
        loaded: LoadedSettings,
        *,
        fatal: Callable[[BaseException], None],
        files: FileSystem | None = None,
        clock: Clock | None = None,
        ports: Ports | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.loaded = loaded
        self.settings = loaded.broker
        self.store_settings = loaded.store
        self.files: FileSystem = files or RealFiles()
        self.clock: Clock = clock or SystemClock()
        self.fatal = fatal
        self.ports = ports or Ports()
        self.started_ms = self.clock.now_ms()
        self.recovery: RecoveryReport | None = None
        self.is_serving = False
        self.identity: Identity = resolve_identity(self.settings.broker_ip1, self.settings.broker_ip2)
        # Configuration files and other slow file work; one thread, so that writes of one file never overtake each other.
        self.io = ThreadPoolExecutor(1, thread_name_prefix="broker-io")
        self.tasks = TaskRegistry(fatal)
        settings, directory = self.settings, Path(self.store_settings.root) / CONFIG_DIRECTORY
        self.statistics = BrokerStatistics()
        self.store = MessageStore(
            self.store_settings, files=self.files, clock=self.clock, post=loop.call_soon_threadsafe, fatal=fatal
        )
        delay_levels_ms = self.store_settings.delay_level_ms()
        has_lights = self.store_settings.has_light_queues
        self.topics = TopicTable(
            settings, self.files, directory, self.clock, self.io,
            delay_level_count=len(delay_levels_ms), has_light_queues=has_lights,
        )  # fmt: skip
        self.groups = GroupTable(settings, self.files, directory, self.clock, self.io, has_light_queues=has_lights)
        self.offsets = ConsumerOffsets(
            self.files, directory, self.clock, self.io,
            version_step=settings.consumer_offset_update_version_step, has_light_queues=has_lights,
        )  # fmt: skip
        self.producers = Producers(self.clock)
        self.consumers = Consumers(self.clock, self._is_group_notified)
        self.locks = QueueLocks(self.clock)
        self.client = RemotingClient()
        self.registration = Registration(settings, self.identity, self.topics, self.client, self.clock, self.tasks)
        self.registration.on_moved = lambda: self.store.set_store_host(self.identity.store_host)
        self.topics.announce = self.registration.announce
        self.delay = DelaySchedule(
            settings, self.store, self.statistics, self.files, directory, self.clock, self.io,
            delay_levels_ms=delay_levels_ms,
        )  # fmt: skip
        self.timers = TimerService(settings, self.store, self.statistics, self.files, directory, self.clock, self.io)
        self.timer_sending = TimerSender(settings, self.timers, self.clock)
        self.modes = MessageRequestModes(self.files, directory, self.io)
        self.groups.on_delete.append(self.modes.forget_group)
        self.replication = Replication(
            settings, loaded.replication, self.identity, self.store,
            MetadataSync(
                self.client, self.topics, self.groups, self.offsets, self.delay, self.modes, self.timers, self.clock,
                on_topics=self.registration.notify_changed,
            ),
            self.client, self.clock, self.tasks,
            on_master_lost=self.registration.notify_changed,
        )  # fmt: skip
        # Done when this life of the broker is over but not the process: the offset to cut the log at, or None.
        self.ended: asyncio.Future[int | None] = loop.create_future()
        self.succession: Succession | None = None
        if loaded.failover.is_enabled:
            self.succession = self.replication.following = Succession(
                loaded.failover, settings, self.store, self.replication, self._leases(), self.identity, self.files,
                self.clock, self.tasks, self.client,
                count_min=loaded.replication.min_in_sync_replicas,
                on_elected=self._lead,
                on_ended=self._end,
            )  # fmt: skip
        else:
            self.registration.on_master = self.replication.set_master
        self.transactions = Transactions(
            settings, self.store, self.topics, self.producers, self.offsets, self.statistics, self.clock,
            self.replication.promise,
            delay_level_max=len(delay_levels_ms),
        )  # fmt: skip
        self.admission = Admission(settings, loop.call_soon)
        self.client_memory = client_memory(settings)
        self.sending = SendProcessor(
            settings, self.admission, self.identity, self.store, self.topics, self.groups, self.locks, self.statistics, self.clock,
            self.replication.promise, self.transactions, self.timer_sending,
            delay_level_max=len(delay_levels_ms), call_soon=loop.call_soon,
        )  # fmt: skip
        self.pulling = PullProcessor(
            settings, self.store, self.topics, self.groups, self.consumers, self.offsets, self.statistics
        )
        # A pull that waits for messages is told of the move now, not when the next message comes.
        self.offsets.on_reset.append(self.pulling.held.wake_group)
        self.pulling.is_master_reachable = lambda: self.replication.is_master_reachable
        self.pop = Pop(
            settings, self.store, self.topics, self.groups, self.offsets, self.statistics, self.files, directory,
            self.clock, self.io,
        )  # fmt: skip
        self.retention = Retention(self.store, self.clock, self.timers.may_remove)
        self.observation = Observation(
            loaded, self.identity, self.topics, self.groups, self.offsets, self.consumers, self.producers, self.store,
            self.delay, self.statistics, self.files, self.clock,
            announce=self.registration.announce,
            clean=lambda: self.retention.round(is_manual=True),
            problems=self.problems,
            client_memory=self.client_memory,
            latencies=lambda: {} if self.server is None else self.server.latencies,
            recovery=lambda: self.recovery,
            replication=self.replication.status,
            succession=lambda: None if self.succession is None else self.succession.status(),
            transactions=self.transactions,
            timers=self.timers,
            pop=self.pop,
        )  # fmt: skip
        self.server: RemotingServer | None = None
        self.vip_server: RemotingServer | None = None

    def problems(self) -> list[str]:
        """Why clients should not come now, in words; empty when they should."""
        if self.recovery is None:
            return ["the store is not open: the broker recovers, or stops"]
        found = [] if self.is_serving else ["the broker starts, or stops"]
        if not self.registration.is_registered:
            found.append(f"registered at no name server: {self.registration.problem}")
        if self.succession is not None and not self.succession.has_role:
            found.append("no master is elected yet, or it cannot be reached")
        store = self.store.statistics()
        if self.settings.broker_id == 0 and not store.is_writeable:
            found.append(f"the store takes no messages: {store.refusal_reason}")
        return found

    def routes(self) -> list[Route]:
        """The whole table of requests that this broker serves, apart from those given to `start`."""
        settings = self.settings
        processors = (
            self.sending,
            self.pulling,
            SendBackProcessor(
                settings, self.store, self.topics, self.groups, self.statistics, self.replication.promise,
                delay_level_max=len(self.store_settings.delay_level_ms()),
            ),
            OffsetProcessor(settings, self.store, self.topics, self.groups, self.offsets),
            QueryProcessor(settings, self.store),
            ClientProcessor(settings, self.topics, self.groups, self.consumers, self.producers, self.locks),
            self.transactions,
            self.pop,
            AssignmentProcessor(
                settings, self.consumers, self.modes,
                TopicQueues(self.client, lambda: list(self.registration.states), self.clock),
            ),
            TimerReports(self.timers),
            RecallProcessor(
                settings, self.store, self.topics, self.statistics, self.clock, self.replication.promise, self.timer_sending
            ),
            ReplyProcessor(
                settings, self.identity, self.store, self.topics, self.producers, self.statistics, self.clock
            ),
            self.replication,
            self.observation,
        )  # fmt: skip
        return [route for processor in processors for route in processor.routes()]

    async def start(self, extra_routes: Sequence[Route] = ()) -> None:
        """Open the store and serve; the broker answers on its ports when this returns.

        Raises StoreError, TableError, OSError (a port is taken): nothing is left running then.
        """
        loop, settings = asyncio.get_running_loop(), self.settings
        try:
            await self._start_web()
            opening = loop.run_in_executor(self.io, self._open_store)
            try:
                self.recovery = await asyncio.shield(opening)
            except asyncio.CancelledError:
                # A recovery cannot be interrupted, and the store that it leaves open must be closed.
                self.recovery = await opening
                raise
            self.topics.on_change.append(self._forget_if_deleted)
            self.offsets.clamp(self._queue_bounds)
            await self._save_tables()
            await self.offsets.save_if_dirty()
            if settings.broker_role is not BrokerRole.SLAVE:
                await self._begin_delivering(is_unclean=self.recovery.mode == "unclean")
            await self._listen([*self.routes(), *extra_routes])
            self._start_services()
            await self.registration.start()
            if self.succession is not None:
                self.succession.start()
        except BaseException:
            await self._close()
            raise
        self.is_serving = True

    async def stop(self) -> None:
        """Orderly end: leave the name servers, drain, flush, write the tables, set the clean marker."""
        self.is_serving = False
        if self.succession is not None:
            await self.succession.resign()
        await self.registration.stop(timeout_ms=UNREGISTER_TIMEOUT_MS)
        self.pulling.release_all()
        self.pop.release_all()
        for server in (self.vip_server, self.server):
            if server is not None:
                await server.stop(self.settings.stop_grace_ms)
        await self._close()

    async def _begin_delivering(self, *, is_unclean: bool) -> None:
        """What only a master does with its log; a slave's master delivers, and the copies come with its log."""
        self.delay.start()
        self.transactions.load(is_unclean=is_unclean)
        self.pop.load(is_unclean=is_unclean)
        await self.timers.start(is_unclean=is_unclean)

    def _begin_asking(self) -> None:
        """What only a master does by the clock."""
        self.transactions.start(self.tasks)
        self.pop.start(self.tasks)

    async def _lead(self, epoch: int) -> None:
        """This replica was elected, or its epoch was renewed: be master, and tell the name servers."""
        settings, failover, succession = self.settings, self.loaded.failover, self.succession
        assert succession is not None
        unknown = self.store.topics() - self.topics.configs.keys()
        stored = {topic: max(self.store.queue_ids(topic), default=0) + 1 for topic in unknown}
        if restored := self.topics.restore(stored):
            logger.warning("topics that the old master did not pass on any more: %s", ", ".join(restored))
        self.topics.begin_epoch(epoch)
        if settings.broker_role is BrokerRole.SLAVE:
            settings.broker_role = BrokerRole.SYNC_MASTER if failover.is_sync else BrokerRole.ASYNC_MASTER
            settings.broker_id = 0
            ha_port = await self.replication.lead(succession, succession.welcome)
            self._bind(self.identity.port, self.identity.vip_port, ha_port)
            self.offsets.clamp(self._queue_bounds)
            # The old master may have ended anywhere.
            await self._begin_delivering(is_unclean=True)
            self._begin_asking()
        self.registration.notify_changed()

    def _end(self, truncate_at: int | None) -> None:
        if not self.ended.done():
            self.ended.set_result(truncate_at)

    def _leases(self) -> LeaseStore:
        failover, group = self.loaded.failover, self.settings.broker_name
        if failover.lease_directory:
            return FileLeaseStore(Path(failover.lease_directory), group, self.files)
        # Imported here: only a Pod pays for the HTTP client.
        from rocketmq_broker.failover.lease_kubernetes import KubernetesLeaseStore, in_cluster_url

        return KubernetesLeaseStore(in_cluster_url(os.environ), failover.lease_namespace, group, self.clock)

    async def _listen(self, routes: Sequence[Route]) -> None:
        settings = self.settings
        limits = Limits(
            idle_ms=settings.server_channel_max_idle_time_seconds * 1000, in_flight_max=REQUESTS_IN_FLIGHT_MAX
        )
        self.server = RemotingServer(routes, limits)
        self.vip_server = RemotingServer([route for route in routes if route.code not in CODES_NOT_ON_VIP], limits)
        for server in (self.server, self.vip_server):
            server.on_disconnect.append(self._drop_connection)
            server.budget = self.client_memory
        listen_port = settings.listen_port
        vip_port = settings.vip_port
        if vip_port is None:
            vip_port = listen_port - 2 if listen_port > 2 else 0
        ha_port = settings.ha_listen_port
        # Known before the first connection unless the system chooses.
        self._bind(listen_port, vip_port, listen_port + 1 if ha_port is None else ha_port)
        if self.succession is not None:
            self.succession.forwarding.attach(self.server.routes, self.vip_server.routes)
        await self.ports.listen(self.server, settings.bind_address, listen_port, "listenPort")
        await self.ports.listen(self.vip_server, settings.bind_address, vip_port, "listenPort - 2")
        port = self.server.port
        if ha_port is None:
            # With a port that the system chose, nobody knows whether the next one is free.
            ha_port = port + 1 if listen_port else 0
        try:
            ha_port = await self.replication.start(ha_port)
        except OSError as error:
            raise listen_error(settings.bind_address, ha_port, "haListenPort", error) from error
        self._bind(port, self.vip_server.port, ha_port)

    async def _start_web(self) -> None:
        settings = self.settings
        port = settings.http_port
        if port is None:
            port = max(settings.listen_port + HTTP_PORT_OFFSET, 0)
        try:
            await self.observation.start_web(port)
        except OSError as error:
            raise listen_error(settings.http_address(), port, "httpPort", error) from error

    def _bind(self, port: int, vip_port: int, ha_port: int) -> None:
        self.identity.bind(port, vip_port, ha_port)
        self.store.set_store_host(self.identity.store_host)

    def _open_store(self) -> RecoveryReport:
        report = self.store.open()
        try:
            self.files.make_directory(Path(self.store_settings.root) / CONFIG_DIRECTORY)
            for table in (
                self.topics,
                self.groups,
                self.offsets,
                self.delay,
                self.timers,
                self.pop.ordered,
                self.modes,
            ):
                table.load()
            if self.succession is not None:
                self.succession.open(report)
        except BaseException:
            self.store.close()
            raise
        return report

    async def _save_tables(self) -> None:
        await self.topics.save_if_dirty()
        await self.groups.save_if_dirty()
        await self.modes.save_if_dirty()

    async def _close(self) -> None:
        """Undo what `start` did, as far as it came."""
        for server in (self.vip_server, self.server):
            if server is not None:
                await server.stop(0)
        await self.registration.stop(timeout_ms=0)
        self.delay.stop()
        self.timers.stop()
        await self.replication.stop()
        await self.observation.stop()
        await self.tasks.stop()
        if self.succession is not None:
            await self.succession.close()
        await self.client.close()
        if self.recovery is not None:
            self.transactions.stop()
            self.pop.stop()
            # Flush first: what the tables say must not run ahead of the log.
            self.store.close()
            self.transactions.finish()
            await self.pop.finish()
            await self._save_tables()
            await self.offsets.save_if_dirty()
            await self.delay.save()
            await self.timers.finish()
            self.recovery = None
        self.io.shutdown()

    def _drop_connection(self, connection: Connection) -> None:
        self.producers.drop(connection)
        self.consumers.drop(connection)
        self.pulling.drop(connection)
        self.pop.drop(connection)

    def _is_group_notified(self, group: str) -> bool:
        config = self.groups.get(group)
        return config is None or config.notify_consumer_ids_changed_enable

    def _queue_bounds(self, topic: str, queue_id: int) -> tuple[int, int]:
        bounds = self.store.queue_bounds(topic, queue_id)
        return (0, 0) if bounds is None else (bounds.min_offset, bounds.max_offset)

    def _start_services(self) -> None:
        settings, every = self.settings, self.tasks.every
        IndexBuilder(self.store, self._note_loop_lag, self.tasks).start()
        every(
            settings.flush_consumer_offset_interval,
            forgiving(self.offsets.save_if_dirty, "consumerOffset.json"),
            "consumer offsets to disk",
        )
        every(
            settings.flush_delay_offset_interval,
            forgiving(self.delay.save_behind_flush, "delayOffset.json"),
            "delay progress to disk",
        )
        every(settings.timer_flush_interval_ms, forgiving(self.timers.save, "the timer wheel"), "timers to disk")
        every(
            TABLES_INTERVAL_MS, forgiving(self._save_tables, "topics.json or subscriptionGroup.json"), "tables to disk"
        )
        every(STORE_TICK_MS, self.store.tick, "time-outs of slow flushes")
        every(RECHECK_MS, self.pulling.held.recheck, "recheck of held pulls")
        every(EXPIRY_SCAN_MS, ClientExpiry(self.producers, self.consumers, self.locks).scan, "scan for silent clients")
        every(settings.clean_resource_interval, self.retention.round, "retention")
        if settings.broker_role is not BrokerRole.SLAVE:
            self._begin_asking()
        self.observation.start(self.tasks)
        self.tasks.start(self._load_arrays(), "what batches need")

    async def _load_arrays(self) -> None:
        # Not by the first batch, which others would have to wait for; not before the start is over.
        await asyncio.sleep(LOAD_ARRAYS_DELAY_S)
        await asyncio.get_running_loop().run_in_executor(self.io, load_arrays)

    def _note_loop_lag(self, lag_ms: float) -> None:
        self.statistics.note_loop_lag(lag_ms)
        self.admission.note_lag(lag_ms)

    def _forget_if_deleted(self, topic: str) -> None:
        if self.topics.get(topic) is None:
            self.statistics.forget_topic(topic)
            self.timers.forget_topic(topic)
            self.modes.forget_topic(topic)
