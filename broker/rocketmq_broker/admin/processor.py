"""All administration requests of a broker as one table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from rocketmq_broker.admin.broker import BrokerReports
from rocketmq_broker.admin.configuration import ConfigurationAdministration
from rocketmq_broker.admin.connections import ClientReports
from rocketmq_broker.admin.consumption import ConsumptionReports
from rocketmq_broker.admin.groups import GroupAdministration
from rocketmq_broker.admin.offsets import OffsetAdministration
from rocketmq_broker.admin.progress import Progress
from rocketmq_broker.admin.queues import QueueReports
from rocketmq_broker.admin.topics import TopicAdministration
from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.delay import DelaySchedule
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.status import FollowingStatus, MasterStatus
from rocketmq_broker.identity import Identity
from rocketmq_broker.runtime_info import RuntimeInfo
from rocketmq_broker.settings import LoadedSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.windows import StatisticsWindows
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_remoting.connection import Route
from rocketmq_store.store import MessageStore


class AdminProcessor:
    """Gives each part the few collaborators that it uses; ``progress`` serves the metrics too."""

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
        windows: StatisticsWindows,
        runtime: RuntimeInfo,
        files: FileSystem,
        clock: Clock,
        *,
        announce: Callable[[], Awaitable[None]],
        clean: Callable[[], None],
        replication: Callable[[], MasterStatus | FollowingStatus | None],
    ) -> None:
        settings = loaded.broker
        self.progress = Progress(topics, offsets, consumers, store)
        self.configuration = ConfigurationAdministration(loaded, topics, files, clock, announce)
        self._parts = (
            TopicAdministration(topics, offsets, store, statistics.forget_topic),
            GroupAdministration(groups, offsets, statistics.forget_group),
            OffsetAdministration(settings, topics, groups, offsets, consumers, store, self.progress),
            ConsumptionReports(
                settings.broker_name, identity, topics, groups, offsets, consumers, store, self.progress, windows, clock
            ),
            ClientReports(settings.broker_name, topics, groups, consumers, producers, store, clock),
            BrokerReports(settings, identity, topics, groups, store, delay, runtime, windows, clean, replication),
            QueueReports(consumers, store),
            self.configuration,
        )

    def routes(self) -> list[Route]:
        """The rows of the broker's table that administration serves."""
        return [route for part in self._parts for route in part.routes()]
