"""Metrics under the names of Apache's 5.x broker, made from plain counters when somebody asks.

Nothing here runs between two scrapes. Series of deleted topics and groups, and of closed connections, are gone with what they were
read from. Unlike Apache's, the lag of a group on its retry topic is told under that topic with ``is_retry``. A slave tells no lag,
so that sums over a group's brokers count nothing twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from rocketmq_broker.admin.progress import Progress
from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.durable import CONFIG_DIRECTORY, DAMAGED_SUFFIX
from rocketmq_broker.failover.succession import SuccessionStatus
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.ha.metrics import election_families, replication_families
from rocketmq_broker.ha.status import FollowingStatus, MasterStatus
from rocketmq_broker.pop.metrics import pop_families
from rocketmq_broker.pop.service import Pop
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import MESSAGE_SIZE_BOUNDS, BrokerStatistics
from rocketmq_broker.timer.reports import timer_families
from rocketmq_broker.timer.service import TimerService
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.transactions.metrics import transaction_families
from rocketmq_broker.transactions.service import Transactions
from rocketmq_common import names, versions
from rocketmq_common.clock import Clock
from rocketmq_common.exposition import COUNTER, GAUGE, HISTOGRAM, Family
from rocketmq_common.files import FileSystem
from rocketmq_remoting.budget import MemoryBudget
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.latencies import LATENCY_BOUNDS_MS, LatencyBuckets
from rocketmq_store.statuses import RecoveryReport
from rocketmq_store.store import MessageStore

NODE_TYPE: Final = "broker"
# (group, topic) pairs whose lag is told; more would make a scrape slower than its interval.
LAG_SERIES_MAX: Final = 50_000
# Series, and pairs, between two breaths of the event loop: about a millisecond of work.
SLICE: Final = 250
LAG_SLICE: Final = 50
CONSUME_MODES: Final = {"CONSUME_ACTIVELY": "pull", "CONSUME_PASSIVELY": "push", "CONSUME_POP": "pop"}
MESSAGE_TYPE: Final = "message.type"

Latencies = Mapping[tuple[int, int, bool], LatencyBuckets]


class BrokerMetrics:
    """Metrics over the parts of one broker."""

    def __init__(
        self,
        settings: BrokerSettings,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
        consumers: Consumers,
        producers: Producers,
        store: MessageStore,
        statistics: BrokerStatistics,
        progress: Progress,
        files: FileSystem,
        clock: Clock,
        *,
        client_memory: MemoryBudget,
        latencies: Callable[[], Latencies],
        recovery: Callable[[], RecoveryReport | None],
        replication: Callable[[], MasterStatus | FollowingStatus | None],
        succession: Callable[[], SuccessionStatus | None],
        transactions: Transactions,
        timers: TimerService,
        pop: Pop,
    ) -> None:
        self._settings = settings
        self._transactions = transactions
        self._timers = timers
        self._pop = pop
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._consumers = consumers
        self._producers = producers
        self._store = store
        self._statistics = statistics
        self._progress = progress
        self._files = files
        self._clock = clock
        self._client_memory = client_memory
        self._latencies = latencies
        self._recovery = recovery
        self._replication = replication
        self._succession = succession
        extra = parse_labels(settings.metrics_label)
        self._common = {
            "cluster": settings.broker_cluster_name,
            "node_type": NODE_TYPE,
            "node_id": settings.broker_name,
            **extra,
        }

    def collect(self) -> Iterator[Family | None]:
        """Everything, as it is now; each ``None`` is a good moment to let the event loop do something else."""
        yield from self._traffic()
        if self._settings.broker_id == 0:
            yield from self._lag()
        yield from self._connections()
        yield from self._calls()
        yield from self._storage()
        yield from replication_families(self._replication(), self._gauge, self._counter)
        yield from election_families(self._succession(), self._gauge, self._counter)
        yield from transaction_families(self._transactions, self._gauge, self._counter, self._histogram)
        yield from pop_families(self._pop, self._gauge, self._counter)
        yield from timer_families(self._timers, self._gauge, self._counter, self._histogram)
        yield from self._tables()
        yield from self._process()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _traffic(self) -> Iterator[Family | None]:
        labels = ("topic", "message_type", "is_system")
        messages_in = self._counter("rocketmq_messages_in", "Messages taken from producers", *labels)
        bytes_in = self._counter("rocketmq_throughput_in", "Body bytes taken from producers", *labels)
        sizes = self._histogram("rocketmq_message_size", "Body bytes of messages", *labels)
        for number, (topic, counters) in enumerate(list(self._statistics.topics.items())):
            if number % SLICE == SLICE - 1:
                yield None
            if names.is_retry_topic(topic) or names.is_dlq_topic(topic):
                continue
            values = [topic, self._message_type(topic), self._is_system(topic)]
            messages_in.add(values, counters.put_nums)
            bytes_in.add(values, counters.put_size)
            if counters.put_nums:
                sizes.add_histogram(values, MESSAGE_SIZE_BOUNDS, counters.size_counts(), counters.put_size)
        labels = ("topic", "consumer_group", "is_system")
        messages_out = self._counter("rocketmq_messages_out", "Messages given to consumers", *labels)
        bytes_out = self._counter("rocketmq_throughput_out", "Record bytes given to consumers", *labels)
        dead = self._counter("rocketmq_send_to_dlq_messages", "Messages sent to dead-letter topics", *labels)
        for number, ((group, topic), group_counters) in enumerate(list(self._statistics.groups.items())):
            if number % SLICE == SLICE - 1:
                yield None
            values = [topic, group, self._is_system(topic, group)]
            messages_out.add(values, group_counters.get_nums)
            bytes_out.add(values, group_counters.get_size)
            if group_counters.dlq_nums:
                dead.add(values, group_counters.dlq_nums)
        yield from (messages_in, bytes_in, sizes, messages_out, bytes_out, dead)

    def _lag(self) -> Iterator[Family | None]:
        labels = ("consumer_group", "topic", "is_retry", "is_system")
        lag = self._gauge("rocketmq_consumer_lag_messages", "Messages not yet acknowledged", *labels)
        lag_time = self._gauge(
            "rocketmq_consumer_lag_latency_milliseconds", "Age of the oldest message not yet acknowledged", *labels
        )
        inflight = self._gauge(
            "rocketmq_consumer_inflight_messages", "Messages delivered, not yet acknowledged", *labels
        )
        queueing = self._gauge(
            "rocketmq_consumer_queueing_latency_milliseconds", "Age of the oldest message not yet delivered", *labels
        )
        ready = self._gauge("rocketmq_consumer_ready_messages", "Messages not yet delivered", *labels)
        now = self._clock.now_ms()
        online = ((name, topic) for name, state in self._consumers.groups.items() for topic in state.subscriptions)
        # A group that just came has no offsets yet and shows at once, with zeros.
        for number, (group, topic) in enumerate(
            list(dict.fromkeys((*self._offsets.offsets, *online)))[:LAG_SERIES_MAX]
        ):
            if number % LAG_SLICE == LAG_SLICE - 1:
                yield None
            config = None if names.is_light_queue(topic) else self._topics.get(topic)
            if config is None or self._groups.get(group) is None or self._progress.is_left_behind(group, topic):
                continue
            behind = held = waiting = 0
            oldest_unread = oldest_undelivered = now
            for queue in self._progress.queues(group, topic, config.read_queue_nums):
                behind += queue.lag
                held += queue.inflight
                if queue.lag:
                    stored = self._progress.store_time(topic, queue.queue_id, queue.consumer_offset)
                    oldest_unread = min(oldest_unread, stored) if stored > 0 else oldest_unread
                undelivered = queue.broker_offset - queue.pull_offset if queue.consumer_offset >= 0 else 0
                if undelivered > 0:
                    waiting += undelivered
                    stored = self._progress.store_time(topic, queue.queue_id, queue.pull_offset)
                    oldest_undelivered = min(oldest_undelivered, stored) if stored > 0 else oldest_undelivered
            values = [group, topic, _text(names.is_retry_topic(topic)), self._is_system(topic, group)]
            lag.add(values, behind)
            lag_time.add(values, now - oldest_unread)
            inflight.add(values, held)
            queueing.add(values, now - oldest_undelivered)
            ready.add(values, waiting)
        yield from (lag, lag_time, inflight, queueing, ready)

    def _connections(self) -> Iterator[Family | None]:
        producers = self._gauge(
            "rocketmq_producer_connections", "Connections of producers", "language", "version", "protocol_type"
        )
        members = {
            member.connection: (member.language.lower(), versions.version_name(member.version).lower(), "remoting")
            for of_group in self._producers.groups.values()
            for member in of_group.values()
        }
        for values, count in Counter(members.values()).items():
            producers.add(values, count)
        yield producers
        consumers = self._gauge(
            "rocketmq_consumer_connections", "Connections of consumers",
            "consumer_group", "language", "version", "consume_mode", "protocol_type", "is_system",
        )  # fmt: skip
        inconsistent = self._gauge(
            "rocketmq_group_inconsistent_subscription",
            "1 while members of the group subscribe differently, which loses messages",
            "consumer_group",
        )
        for name, group in self._consumers.groups.items():
            inconsistent.add([name], int(group.is_inconsistent))
            mode = CONSUME_MODES.get(group.consume_type, "push")
            kinds = Counter(
                (m.language.lower(), versions.version_name(m.version).lower()) for m in group.members.values()
            )
            for (language, version), count in kinds.items():
                system = _text(names.is_system_group(name))
                consumers.add([name, language, version, mode, "remoting", system], count)
        yield consumers
        yield inconsistent

    def _calls(self) -> Iterator[Family | None]:
        calls = self._histogram(
            "rocketmq_rpc_latency_milliseconds", "Time from a request's arrival to its answer",
            "protocol_type", "request_code", "response_code", "is_long_polling", "result",
        )  # fmt: skip
        # Unknown codes share a name: a client may send any number, and each would be a series for ever.
        merged: dict[tuple[str, ...], tuple[list[int], float]] = {}
        for (code, response_code, held), buckets in self._latencies().items():
            is_polling = held and code in (RequestCode.PULL_MESSAGE, RequestCode.LITE_PULL_MESSAGE)
            key: tuple[str, ...] = (
                "remoting",
                _code_name(RequestCode, code),
                _code_name(ResponseCode, response_code),
                _text(is_polling),
            )
            counts, sum_ms = merged.get(key, ([0] * len(buckets.counts), 0.0))
            merged[key] = ([a + b for a, b in zip(counts, buckets.counts, strict=True)], sum_ms + buckets.sum_ms)
        for key, (counts, sum_ms) in merged.items():
            calls.add_histogram([*key, "success"], LATENCY_BOUNDS_MS, counts, sum_ms)
        yield calls

    def _storage(self) -> Iterator[Family | None]:
        store, root = self._store.statistics(), Path(self._store.settings.root)
        total, free = self._files.usage(root)
        earliest = store.earliest_store_time_ms
        for name, text, value in (
            ("rocketmq_storage_size_bytes", "Bytes in use of the store's file system", total - free),
            ("rocketmq_storage_flush_behind_bytes", "Log not yet flushed", store.written_offset - store.flushed_offset),
            (
                "rocketmq_storage_dispatch_behind_bytes",
                "Log not yet in queues and index",
                store.written_offset - store.dispatched_offset,
            ),
            (
                "rocketmq_storage_message_reserve_time_milliseconds",
                "Age of the oldest message",
                self._clock.now_ms() - earliest if earliest > 0 else 0,
            ),
        ):
            gauge = self._gauge(name, text, "storage_type", "storage_medium")
            gauge.add(["local", "disk"], value)
            yield gauge
        ratio = self._gauge("rocketmq_disk_ratio", "Share of the file system in use, 0 to 1", "path")
        ratio.add([str(root)], (total - free) / total if total else 0.0)
        yield ratio
        yield self._single("rocketmq_store_writeable", "1 while the store takes messages", int(store.is_writeable))
        for name, text, value in (
            ("rocketmq_flush", "Syncs of the log", store.flush_count),
            (
                "rocketmq_damaged_messages",
                "Messages that cannot be delivered: the disk damaged them",
                store.damaged_message_count,
            ),
            (
                "rocketmq_cold_reads",
                "Reads of messages that had left memory, made by I/O threads",
                store.cold_read_count,
            ),
            ("rocketmq_cold_read_bytes", "Bytes of these reads", store.cold_read_bytes),
        ):
            counter = self._counter(name, text)
            counter.add([], value)
            yield counter
        yield self._single(
            "rocketmq_flush_duration_seconds", "Duration of the last sync of the log", store.last_flush_ms / 1000
        )

    def _tables(self) -> Iterator[Family | None]:
        role = self._gauge("rocketmq_broker_role", "1, with the role of this broker now", "role")
        role.add([self._settings.broker_role.value], 1)
        yield role
        yield self._single("rocketmq_broker_permission", "2 write, 4 read, 6 both", self._settings.broker_permission)
        yield self._single("rocketmq_topic_number", "Topics", len(self._topics.configs))
        if self._topics.has_light_queues:
            count = sum(map(names.is_light_queue, self._store.topics()))
            yield self._single("rocketmq_light_queue_number", "Light queues (LMQ)", count)
        kept = self._files.list(Path(self._store.settings.root) / CONFIG_DIRECTORY)
        yield self._single(
            "rocketmq_damaged_tables",
            "Tables that were found damaged and replaced by the generation before; until config/*.damaged is removed",
            sum(path.name.endswith(DAMAGED_SUFFIX) for path in kept),
        )
        yield self._single("rocketmq_consumer_group_number", "Consumer groups", len(self._groups.configs))

    def _process(self) -> Iterator[Family | None]:
        statistics = self._statistics
        yield self._single(
            "rocketmq_event_loop_lag_seconds",
            "How late the last timer of the event loop was",
            statistics.loop_lag_ms / 1000,
        )
        yield self._single(
            "rocketmq_event_loop_lag_max_seconds",
            "The same, the worst since the start",
            statistics.loop_lag_ms_max / 1000,
        )
        memory = self._client_memory
        yield self._single(
            "rocketmq_client_memory_bytes", "Held for clients: requests under way, answers not read", memory.used_bytes
        )
        yield self._single("rocketmq_client_memory_max_bytes", "clientMemoryMaxBytes", memory.limit_bytes)
        dropped = self._counter("rocketmq_client_memory_drops", "Connections dropped because they held most beyond it")
        dropped.add([], memory.dropped_count)
        yield dropped
        recovery = self._recovery()
        if recovery is not None:
            gauge = self._gauge("rocketmq_recovery_duration_seconds", "Duration of the recovery at the start", "mode")
            gauge.add([recovery.mode], recovery.elapsed_ms / 1000)
            yield gauge
            yield self._single(
                "rocketmq_recovery_truncated_bytes",
                "Unreadable end of the log cut off at the start",
                recovery.truncated_bytes,
            )
        build = self._gauge("rocketmq_build_info", "Release that is spoken on the wire", "version")
        build.add([versions.version_name(versions.CURRENT)], 1)
        yield build

    def _counter(self, name: str, text: str, *labels: str) -> Family:
        return Family(COUNTER, f"{name}_total", text, self._common, labels)

    def _gauge(self, name: str, text: str, *labels: str) -> Family:
        return Family(GAUGE, name, text, self._common, labels)

    def _histogram(self, name: str, text: str, *labels: str) -> Family:
        return Family(HISTOGRAM, name, text, self._common, labels)

    def _single(self, name: str, text: str, value: float) -> Family:
        gauge = self._gauge(name, text)
        gauge.add([], value)
        return gauge

    def _is_system(self, topic: str, group: str = "") -> str:
        return _text(self._topics.is_system(topic) or (bool(group) and names.is_system_group(group)))

    def _message_type(self, topic: str) -> str:
        config = self._topics.get(topic)
        found = "" if config is None else config.attributes.get(MESSAGE_TYPE, "")
        return found.lower() if found and found != "UNSPECIFIED" else "normal"


def parse_labels(text: str) -> dict[str, str]:
    """``metricsLabel``: ``name:value`` pairs separated by commas; pairs that are none are left out."""
    pairs = (part.split(":", 1) for part in text.split(",") if ":" in part)
    return {name.strip(): value.strip() for name, value in pairs if name.strip().isidentifier()}


def _code_name(codes: type[RequestCode] | type[ResponseCode], code: int) -> str:
    try:
        return codes(code).name.lower()
    except ValueError:
        return "unknown"


def _text(value: bool) -> str:
    return "true" if value else "false"
