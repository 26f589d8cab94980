"""What looks at a broker from outside: administration requests, statistics over time, HTTP pages.

Made and started by `app` with the broker's parts; nothing on the hot path knows it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from rocketmq_broker.admin.processor import AdminProcessor
from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.delay import DelaySchedule
from rocketmq_broker.failover.succession import SuccessionStatus
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.status import FollowingStatus, MasterStatus
from rocketmq_broker.identity import Identity
from rocketmq_broker.metrics import BrokerMetrics
from rocketmq_broker.pop.service import Pop
from rocketmq_broker.runtime_info import Latencies, RuntimeInfo
from rocketmq_broker.settings import LoadedSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.service import TimerService
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.transactions.service import Transactions
from rocketmq_broker.windows import SAMPLE_INTERVAL_MS, StatisticsWindows
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.budget import MemoryBudget
from rocketmq_remoting.connection import Route
from rocketmq_store.statuses import RecoveryReport
from rocketmq_store.store import MessageStore

if TYPE_CHECKING:
    from rocketmq_broker.web import WebServer


class Observation:
    """See the module. ``problems`` says why clients should not come, ``latencies`` gives the server's histograms."""

    def __init__(
        self,
        loaded: LoadedSettings,
        identity: Identity,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
        consumers: Consumers,
        producers: Producers,
        store: MessageStore,
        delay: DelaySchedule,
        statistics: BrokerStatistics,
        files: FileSystem,
        clock: Clock,
        *,
        announce: Callable[[], Awaitable[None]],
        clean: Callable[[], None],
        problems: Callable[[], list[str]],
        client_memory: MemoryBudget,
        latencies: Callable[[], Latencies],
        recovery: Callable[[], RecoveryReport | None],
        replication: Callable[[], MasterStatus | FollowingStatus | None],
        succession: Callable[[], SuccessionStatus | None],
        transactions: Transactions,
        timers: TimerService,
        pop: Pop,
    ) -> None:
        settings = loaded.broker
        self._settings = settings
        self._identity = identity
        self._problems = problems
        self.windows = StatisticsWindows(statistics, store.statistics, clock)
        runtime = RuntimeInfo(settings, store, statistics, self.windows, delay, timers, files, clock, latencies)
        self.admin = AdminProcessor(
            loaded, identity, topics, groups, offsets, consumers, producers, store, delay, statistics, self.windows,
            runtime, files, clock, announce=announce, clean=clean, replication=replication,
        )  # fmt: skip
        self._web: WebServer | None = None

        self.metrics = BrokerMetrics(
            settings, topics, groups, offsets, consumers, producers, store, statistics, self.admin.progress,
            files, clock, client_memory=client_memory, latencies=latencies, recovery=recovery, replication=replication,
            succession=succession, transactions=transactions, timers=timers, pop=pop,
        )  # fmt: skip

    def routes(self) -> list[Route]:
        """The rows of the broker's table that administration serves."""
        return self.admin.routes()

    async def start_web(self, port: int) -> None:
        """Serve the pages from now on, so that probes see a broker that is still recovering. Raises OSError: address taken."""
        # Imported here: a broker with its pages switched off does not pay for the framework.
        from rocketmq_broker.web import WebServer

        self._web = WebServer(self._problems, self.metrics.collect)
        await self._web.start(self._settings.http_address(), port)
        self._identity.http_port = self._web.port

    def start(self, tasks: TaskRegistry) -> None:
        """Take statistics from now on; the store is open."""
        tasks.every(SAMPLE_INTERVAL_MS, self.windows.sample_in_slices, "statistics windows")

    async def stop(self) -> None:
        """Close the pages."""
        if self._web is not None:
            await self._web.stop()
            self._web = None
