"""What GET_BROKER_RUNTIME_INFO (28) tells: some ninety texts that mqadmin, the exporter and the dashboard take apart.

Names and formats are Apache's; thread pools, which this broker does not have, are reported as empty queues.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from rocketmq_broker.delay import DelaySchedule
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.timer.reports import timer_runtime_info
from rocketmq_broker.timer.service import TimerService
from rocketmq_broker.windows import StatisticsWindows
from rocketmq_common import versions
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.latencies import LATENCY_BOUNDS_MS, LatencyBuckets
from rocketmq_store.store import MessageStore

SEND_CODES: Final = frozenset({RequestCode.SEND_MESSAGE, RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE})
PULL_CODES: Final = frozenset({RequestCode.PULL_MESSAGE, RequestCode.LITE_PULL_MESSAGE})
QUEUE_CAPACITY: Final = 10_000
GIB: Final = 1 << 30
# Apache's thirteen spans, and for each bucket of ours the span that holds its upper bound.
PUT_SPANS: Final = (
    "[<=0ms]", "[0~10ms]", "[10~50ms]", "[50~100ms]", "[100~200ms]", "[200~500ms]", "[500ms~1s]", "[1~2s]", "[2~3s]",
    "[3~4s]", "[4~5s]", "[5~10s]", "[10s~]",
)  # fmt: skip
_SPAN_OF_BUCKET: Final = (0, 1, 1, 1, 1, 3, 6, 7, 8, 12)

Latencies = Mapping[tuple[int, int, bool], LatencyBuckets]


class RuntimeInfo:
    """See the module. ``latencies`` gives the server's histograms, empty before it listens."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        statistics: BrokerStatistics,
        windows: StatisticsWindows,
        delay: DelaySchedule,
        timers: TimerService,
        files: FileSystem,
        clock: Clock,
        latencies: Callable[[], Latencies],
    ) -> None:
        self._settings = settings
        self._store = store
        self._statistics = statistics
        self._windows = windows
        self._delay = delay
        self._timers = timers
        self._files = files
        self._clock = clock
        self._latencies = latencies
        self._boot_ms = clock.now_ms()

    def table(self) -> dict[str, str]:
        """Every key, all values as text."""
        return {
            **self._identity(),
            **self._totals(),
            **self._latency(),
            **self._storage(),
            **self._queues(),
            **{name: str(rates) for name, rates in self._windows.rates().items()},
            **{
                f"scheduleMessageOffset_{level}": f"{offset},{end}"
                for level, (offset, end) in self._delay.bounds().items()
            },
        }

    # -- inside ------------------------------------------------------------------------------------------------------

    def _identity(self) -> dict[str, str]:
        now = self._clock.now_ms()
        return {
            "brokerVersionDesc": versions.version_name(versions.CURRENT),
            "brokerVersion": str(versions.CURRENT),
            "brokerActive": "true",
            "bootTimestamp": str(self._boot_ms),
            "runtime": _duration(now - self._boot_ms),
            "startAcceptSendRequestTimeStamp": str(self._settings.start_accept_send_request_time_stamp),
            "pid": str(os.getpid()),
        }

    def _totals(self) -> dict[str, str]:
        put, got = self._windows.put_totals(), self._windows.get_totals()
        statistics, store = self._statistics, self._store.statistics()
        return {
            "msgPutTotalYesterdayMorning": str(put.yesterday_morning),
            "msgPutTotalTodayMorning": str(put.today_morning),
            "msgPutTotalTodayNow": str(put.now),
            "msgGetTotalYesterdayMorning": str(got.yesterday_morning),
            "msgGetTotalTodayMorning": str(got.today_morning),
            "msgGetTotalTodayNow": str(got.now),
            "putMessageTimesTotal": str(store.put_message_count),
            "putMessageSizeTotal": str(statistics.put_size),
            "putMessageAverageSize": str(statistics.put_size / statistics.put_nums if statistics.put_nums else 0.0),
            "putMessageFailedTimes": str(store.put_failed_count),
            "getMessageFoundTimesTotal": str(store.get_found_count),
            "getMessageMissTimesTotal": str(store.get_missed_count),
            "getMessageTransferredMsgCount": str(store.get_message_count),
        }

    def _latency(self) -> dict[str, str]:
        latencies = self._latencies()
        put = _merged(buckets for (code, _, _), buckets in latencies.items() if code in SEND_CODES)
        got = _merged(buckets for (code, _, held), buckets in latencies.items() if code in PULL_CODES and not held)
        spans = [0] * len(PUT_SPANS)
        for bucket, count in enumerate(put):
            spans[_SPAN_OF_BUCKET[bucket]] += count
        return {
            "putMessageDistributeTime": " ".join(
                f"{span}:{count}" for span, count in zip(PUT_SPANS, spans, strict=True)
            ),
            "putMessageEntireTimeMax": str(_bound(put, 1.0)),
            "getMessageEntireTimeMax": str(_bound(got, 1.0)),
            "putLatency99": str(float(_bound(put, 0.99))),
            "putLatency999": str(float(_bound(put, 0.999))),
        }

    def _storage(self) -> dict[str, str]:
        store = self._store.statistics()
        root = Path(self._store.settings.root)
        total, free = self._files.usage(root)
        # Asked now, not taken from the last round of retention: tools look at it when something is filling up.
        ratio = str(round((total - free) / total, 4) if total else 0.0)
        log_path = str(root / "commitlog")
        return {
            "commitLogMinOffset": str(store.log_min_offset),
            "commitLogMaxOffset": str(store.written_offset),
            "dispatchBehindBytes": str(store.written_offset - store.dispatched_offset),
            "dispatchMaxBuffer": "0",
            "remainHowManyDataToFlush": _size(store.written_offset - store.flushed_offset),
            "remainHowManyDataToCommit": _size(0),
            "remainTransientStoreBufferNumbs": "2147483647",
            "earliestMessageTimeStamp": str(store.earliest_store_time_ms),
            "pageCacheLockTimeMills": "0",
            "commitLogDiskRatio": ratio,
            f"commitLogDiskRatio_{log_path}": ratio,
            "consumeQueueDiskRatio": ratio,
            "commitLogDirCapacity": f"Total : {_size(total)}, Free : {_size(free)}.",
            **timer_runtime_info(self._timers),
        }

    def _queues(self) -> dict[str, str]:
        # The event loop's lag is what waits in a queue here, so it stands for the head's waiting time.
        wait = str(int(self._statistics.loop_lag_ms))
        info: dict[str, str] = {}
        for pool in ("send", "pull", "litePull", "query", "ack"):
            info[f"{pool}ThreadPoolQueueSize"] = "0"
            info[f"{pool}ThreadPoolQueueCapacity"] = str(QUEUE_CAPACITY)
            info[f"{pool}ThreadPoolQueueHeadWaitTimeMills"] = wait
        info["EndTransactionQueueSize"] = "0"
        info["EndTransactionThreadPoolQueueCapacity"] = str(QUEUE_CAPACITY)
        return info


def _merged(histograms: Iterable[LatencyBuckets]) -> list[int]:
    total = [0] * (len(LATENCY_BOUNDS_MS) + 1)
    for histogram in histograms:
        total = [a + b for a, b in zip(total, histogram.counts, strict=True)]
    return total


def _bound(counts: list[int], share: float) -> int:
    """Upper bound in ms of the bucket that holds the given share of all; 0 without any."""
    wanted = sum(counts) * share
    seen = 0
    for bucket, count in enumerate(counts):
        seen += count
        if count and seen >= wanted:
            return LATENCY_BOUNDS_MS[min(bucket, len(LATENCY_BOUNDS_MS) - 1)]
    return 0


def _size(size: int) -> str:
    """Bytes in the largest fitting unit, as Java's tools print them: ``1.5 GiB``."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{size} B" if unit == "B" else f"{value:.1f} {unit}"


def _duration(ms: int) -> str:
    """``[ 0 days, 1 hours, 2 minutes, 3 seconds ]``."""
    seconds = ms // 1000
    return f"[ {seconds // 86400} days, {seconds // 3600 % 24} hours, {seconds // 60 % 60} minutes, {seconds % 60} seconds ]"
