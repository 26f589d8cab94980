"""The broker itself: 28 runtime info, 315 statistics, 306 and 329 cleaning, 45 delay progress, 901 members, 907 replication."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from rocketmq_broker.delay import DelaySchedule
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.status import FollowingStatus, MasterStatus
from rocketmq_broker.identity import Identity
from rocketmq_broker.runtime_info import RuntimeInfo
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.windows import StatisticsWindows, Window, Windows
from rocketmq_common import javajson
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.admin import ViewBrokerStatsDataRequestHeader
from rocketmq_remoting.headers.namesrv import BrokerMemberGroupHeader
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

# Name → position of value and of number of events in the topic's or group's counters (see `windows`).
TOPIC_STATS: Final = {"TOPIC_PUT_NUMS": (0, 0), "TOPIC_PUT_SIZE": (1, 0)}
GROUP_STATS: Final = {
    "GROUP_GET_NUMS": (0, 2),
    "GROUP_GET_SIZE": (1, 2),
    "SNDBCK_PUT_NUMS": (3, 3),
    "DLQ_PUT_NUMS": (4, 4),
}
BROKER_STATS: Final = {
    "BROKER_PUT_NUMS": 0,
    "BROKER_GET_NUMS": 1,
    "BROKER_PUT_NUMS_WITHOUT_SYSTEM_TOPIC": 2,
    "BROKER_GET_NUMS_WITHOUT_SYSTEM_TOPIC": 3,
}
# Known to Apache and not counted here: zeros for whatever exists, so that exporters are not flooded with errors.
ZERO_GROUP_STATS: Final = frozenset(
    {"GROUP_GET_LATENCY", "GROUP_GET_FALL_SIZE", "GROUP_GET_FALL_TIME", "GROUP_ACK_NUMS", "GROUP_CK_NUMS"}
)
ZERO_TOPIC_STATS: Final = frozenset(
    {"TOPIC_PUT_LATENCY", "QUEUE_PUT_NUMS", "QUEUE_PUT_SIZE", "QUEUE_GET_NUMS", "QUEUE_GET_SIZE"}
)
ZERO_BROKER_STATS: Final = frozenset({"BROKER_ACK_NUMS", "BROKER_CK_NUMS"})


class BrokerReports:
    """See the module."""

    def __init__(
        self,
        settings: BrokerSettings,
        identity: Identity,
        topics: TopicTable,
        groups: GroupTable,
        store: MessageStore,
        delay: DelaySchedule,
        runtime: RuntimeInfo,
        windows: StatisticsWindows,
        clean: Callable[[], None],
        replication: Callable[[], MasterStatus | FollowingStatus | None],
    ) -> None:
        self._settings = settings
        self._identity = identity
        self._topics = topics
        self._groups = groups
        self._store = store
        self._delay = delay
        self._runtime = runtime
        self._windows = windows
        self._clean = clean
        self._replication = replication

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        return [
            Route(RequestCode.GET_BROKER_RUNTIME_INFO, None, self.runtime_info),
            Route(RequestCode.VIEW_BROKER_STATS_DATA, ViewBrokerStatsDataRequestHeader, self.stats),
            Route(RequestCode.CLEAN_EXPIRED_CONSUMEQUEUE, None, self.clean),
            Route(RequestCode.DELETE_EXPIRED_COMMITLOG, None, self.clean),
            Route(RequestCode.GET_ALL_DELAY_OFFSET, None, self.delay_offsets),
            Route(RequestCode.GET_BROKER_MEMBER_GROUP, BrokerMemberGroupHeader, self.member_group),
            Route(RequestCode.GET_BROKER_HA_STATUS, None, self.ha_status),
        ]

    def runtime_info(self, _: Connection, __: Command, ___: None) -> Response:
        """28."""
        return Response(body=javajson.dumps({"table": self._runtime.table()}))

    def stats(self, _: Connection, __: Command, header: ViewBrokerStatsDataRequestHeader) -> Response:
        """315; an existing topic or group without traffic has zeros."""
        windows = self._find(header.stats_name, header.stats_key)
        if windows is None:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"The stats <{header.stats_name}> <{header.stats_key}> not exist"
            )
        body = {
            "statsDay": _item(windows.day),
            "statsHour": _item(windows.hour),
            "statsMinute": _item(windows.minute),
        }
        return Response(body=javajson.dumps(body))

    def clean(self, connection: Connection, command: Command, _: None) -> Response:
        """306 and 329: one round of retention now, whatever the hour."""
        self._clean()
        logger.info("%s asked for request %d: retention ran", connection.remote, command.code)
        return Response()

    def delay_offsets(self, _: Connection, __: Command, ___: None) -> Response:
        """45, as the file has it."""
        return Response(body=self._delay.encode())

    def member_group(self, _: Connection, __: Command, header: BrokerMemberGroupHeader) -> Response:
        """901: what this broker knows of its group, which is itself."""
        own = header.broker_name == self._settings.broker_name
        addresses = {str(self._settings.broker_id): self._identity.address} if own else {}
        body = {
            "brokerMemberGroup": {
                "brokerAddrs": addresses,
                "brokerName": header.broker_name,
                "cluster": header.cluster_name,
            }
        }
        return Response(body=javajson.dumps(body))

    def ha_status(self, _: Connection, __: Command, ___: None) -> Response:
        """907."""
        status = self._replication()
        if status is None:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "this broker is still starting")
        return Response(body=javajson.dumps(status.to_runtime_info()))

    # -- inside ------------------------------------------------------------------------------------------------------

    def _find(self, name: str, key: str) -> Windows | None:
        if name in TOPIC_STATS:
            return self._windows.topic(key, *TOPIC_STATS[name]) if self._topics.get(key) is not None else None
        topic, _, group = key.partition("@")
        if name in GROUP_STATS:
            exists = self._topics.get(topic) is not None and self._groups.get(group) is not None
            return self._windows.group(group, topic, *GROUP_STATS[name]) if exists else None
        if name in BROKER_STATS or name in ZERO_BROKER_STATS:
            if key != self._settings.broker_cluster_name:
                return None
            return self._windows.broker(BROKER_STATS[name]) if name in BROKER_STATS else Windows()
        parts = key.split("@")
        if name in ZERO_GROUP_STATS and any(self._groups.get(part) is not None for part in parts):
            return Windows()
        if name in ZERO_TOPIC_STATS and any(self._topics.get(part) is not None for part in parts):
            return Windows()
        return None


def _item(window: Window) -> dict[str, float]:
    return {"avgpt": window.avgpt, "sum": window.sum, "tps": window.tps}
