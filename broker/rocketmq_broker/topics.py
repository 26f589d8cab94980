"""The topics of this broker: ``config/topics.json``, system topics, creation on demand.

`TopicTable.configs` is read by every send and pull and changed only here, on the loop. A change is answered after it is on disk and
the name servers were told: producers look the route up right after, and would otherwise fall back to the template topic.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec

from rocketmq_broker.durable import DurableTable, TableError
from rocketmq_broker.settings import BrokerSettings
from rocketmq_common import names, permissions
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.topics import FLAG_UNIT, FLAG_UNIT_SUB, DataVersion, TopicConfig, topic_config_from

logger = logging.getLogger(__name__)

TOPIC_COUNT_MAX = 100_000
QUEUE_COUNT_MAX = 1024
SCHEDULE_QUEUE_NUMS_MIN = 18
_KNOWN_FIELDS = frozenset(TopicConfig.__struct_encode_fields__)
_KNOWN_TOP = frozenset({"dataVersion", "topicConfigTable"})


class TopicLimitReached(Exception):
    """There are `TOPIC_COUNT_MAX` topics."""


async def _announce_nothing() -> None:
    return None


class TopicTable:
    """See the module. ``announce`` tells the name servers and is set by whoever owns the registration."""

    def __init__(
        self,
        settings: BrokerSettings,
        files: FileSystem,
        directory: Path,
        clock: Clock,
        executor: Executor,
        *,
        delay_level_count: int = SCHEDULE_QUEUE_NUMS_MIN,
        has_light_queues: bool = False,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self.has_light_queues = has_light_queues
        self._schedule_queue_nums = max(SCHEDULE_QUEUE_NUMS_MIN, delay_level_count)
        self._unknown: dict[str, dict[str, Any]] = {}
        self._unknown_top: dict[str, Any] = {}
        self._table = DurableTable(files, directory / "topics.json", self.encode, executor)
        self.configs: dict[str, TopicConfig] = {}
        self.system_topics: set[str] = set()
        self.data_version = DataVersion()
        self.announce: Callable[[], Awaitable[None]] = _announce_nothing
        # Called with the topic's name after each change or removal, for caches.
        self.on_change: list[Callable[[str], None]] = []

    def load(self) -> None:
        """Read the file and add missing system topics; blocking. Raises TableError."""
        raw = self._table.load()
        self._unknown_top = {key: value for key, value in raw.items() if key not in _KNOWN_TOP}
        try:
            self.data_version, self.configs, self._unknown = _parse(raw)
        except msgspec.ValidationError as error:
            raise TableError(f"{self._table.path}: {error}: repair the file, or restore its .bak") from error
        self._add_system_topics()

    def get(self, topic: str) -> TopicConfig | None:
        """The configuration of ``topic``, ``None`` when there is no such topic. Light queues have one without a table."""
        config = self.configs.get(topic)
        if config is None and self.is_light(topic):
            return TopicConfig(topic_name=topic, read_queue_nums=1, write_queue_nums=1, perm=permissions.READ)
        return config

    def is_light(self, topic: str) -> bool:
        """Whether the topic is a light queue, which other topics fill."""
        return self.has_light_queues and names.is_light_queue(topic)

    def is_system(self, topic: str) -> bool:
        """Whether the topic belongs to the broker itself, the ones named after cluster and broker included."""
        return topic in self.system_topics or names.is_system_topic(topic)

    async def update(self, config: TopicConfig) -> None:
        """Create or replace a topic; return when that is durable and the name servers were told.

        Raises OSError when it cannot be written (nothing is changed then), TopicLimitReached.
        """
        await self.update_all((config,))

    async def update_all(self, configs: Iterable[TopicConfig]) -> None:
        """Create or replace several topics at the price of one."""
        configs = list(configs)
        if len(self.configs) + len(configs) > TOPIC_COUNT_MAX:
            raise TopicLimitReached(f"this broker has {len(self.configs)} topics, {TOPIC_COUNT_MAX} are allowed")
        before = {config.topic_name: self.configs.get(config.topic_name) for config in configs}
        for config in configs:
            self.configs[config.topic_name] = config
        self._changed(before)
        try:
            await self._table.save()
        except OSError:
            for topic, old in before.items():
                if old is None:
                    self.configs.pop(topic, None)
                else:
                    self.configs[topic] = old
            self._changed(before)
            raise
        await self.announce()

    async def delete(self, topic: str) -> bool:
        """Remove a topic; False when there was none. Raises OSError as `update`."""
        old = self.configs.pop(topic, None)
        if old is None:
            return False
        unknown = self._unknown.pop(topic, None)
        self._changed((topic,))
        try:
            await self._table.save()
        except OSError:
            self.configs[topic] = old
            if unknown is not None:
                self._unknown[topic] = unknown
            self._changed((topic,))
            raise
        await self.announce()
        return True

    def inherited(
        self, topic: str, template: str, queue_nums_wanted: int, *, unit_mode: bool = False
    ) -> TopicConfig | None:
        """What a send to the unknown ``topic`` would create from ``template``; ``None`` when it may not be inherited from."""
        parent = self.configs.get(template)
        if parent is None or not permissions.is_inherited(parent.perm):
            return None
        if template == names.DEFAULT_TOPIC and not self._settings.auto_create_topic_enable:
            return None
        queue_nums = max(0, min(queue_nums_wanted, parent.write_queue_nums, QUEUE_COUNT_MAX))
        return TopicConfig(
            topic_name=topic,
            read_queue_nums=queue_nums,
            write_queue_nums=queue_nums,
            perm=parent.perm & ~permissions.INHERIT,
            topic_filter_type=parent.topic_filter_type,
            topic_sys_flag=FLAG_UNIT if unit_mode else 0,
        )

    async def ensure(self, topic: str, queue_nums: int, *, unit_mode: bool = False) -> TopicConfig:
        """The configuration of a retry or dead-letter topic, created if need be. Raises as `update`."""
        config = self.configs.get(topic)
        if config is None:
            flag = FLAG_UNIT_SUB if unit_mode else 0
            config = TopicConfig(
                topic_name=topic, read_queue_nums=queue_nums, write_queue_nums=queue_nums, topic_sys_flag=flag
            )
            await self.update(config)
        return config

    def adopt(self, raw: dict[str, Any]) -> bool:
        """Take the table of this broker's master in place of the own one, if its version differs; whether it did.

        Topics that the master lacks are gone, except the broker's own; their messages stay until they are deleted as such.
        ``raw`` is the parsed answer to GET_ALL_TOPIC_CONFIG. Raises msgspec.ValidationError; nothing is changed then.
        """
        version, configs, unknown = _parse(raw)
        if version == self.data_version:
            return False
        kept = {topic: config for topic, config in self.configs.items() if topic in self.system_topics}
        configs = {**kept, **configs}
        before = self.configs
        self.configs, self._unknown = configs, unknown
        changed = {topic for topic in before.keys() | configs.keys() if before.get(topic) != configs.get(topic)}
        self._changed(changed)
        self.data_version = version
        self._table.touch()
        return True

    def begin_epoch(self, epoch: int) -> None:
        """This broker is master of a new epoch: name servers and slaves take its table over any of an older one."""
        self.data_version = self.data_version.next(self._clock.now_ms(), state_version=epoch)
        self._table.touch()

    def restore(self, stored: Mapping[str, int]) -> list[str]:
        """Make topics that the log holds messages of but this table does not know: their creation died with the old master.

        ``stored`` maps topics to their number of queues. Attributes that were set with them are lost.
        """
        missing = [topic for topic in stored if self.get(topic) is None and names.topic_name_problem(topic) is None]
        for topic in missing:
            queue_nums = min(max(stored[topic], 1), QUEUE_COUNT_MAX)
            self.configs[topic] = TopicConfig(
                topic_name=topic, read_queue_nums=queue_nums, write_queue_nums=queue_nums, perm=permissions.READ_WRITE
            )
        if missing:
            self._changed(missing)
            self._table.touch()
        return missing

    def apply_order_topics(self, order_topics: Iterable[str]) -> None:
        """Mark exactly these topics as ordered, as the name server's answer to a registration says."""
        wanted = set(order_topics)
        changed = [c.topic_name for c in self.configs.values() if c.order != (c.topic_name in wanted)]
        for topic in changed:
            self.configs[topic].order = topic in wanted
        if changed:
            self._changed(changed)
            self._table.touch()

    def encode(self) -> bytes:
        """Content of the file, with whatever an earlier reader did not understand."""
        table: dict[str, Any] = {}
        for topic, config in self.configs.items():
            unknown = self._unknown.get(topic)
            table[topic] = config if unknown is None else {**msgspec.to_builtins(config), **unknown}
        return msgspec.json.encode(
            {**self._unknown_top, "dataVersion": self.data_version, "topicConfigTable": dict(sorted(table.items()))}
        )

    async def save_if_dirty(self) -> None:
        """Write what changed without anybody waiting for it."""
        await self._table.save_if_dirty()

    def save_now(self) -> None:
        """Write on the calling thread."""
        self._table.save_now()

    def _changed(self, topics: Iterable[str]) -> None:
        self.data_version = self.data_version.next(self._clock.now_ms())
        for topic in topics:
            for callback in self.on_change:
                callback(topic)

    def _add_system_topics(self) -> None:
        settings = self._settings
        cluster, broker = settings.broker_cluster_name, settings.broker_name
        read_write, inherit = permissions.READ_WRITE, permissions.INHERIT
        wanted = [
            (names.SELF_TEST_TOPIC, 1, read_write),
            (names.BENCHMARK_TOPIC, 1024, read_write),
            (cluster, 16, inherit | (read_write if settings.cluster_topic_enable else 0)),
            (broker, 1, inherit | (read_write if settings.broker_topic_enable else 0)),
            (names.OFFSET_MOVED_EVENT, 1, read_write),
            (names.SCHEDULE_TOPIC, self._schedule_queue_nums, read_write),
            (f"{cluster}_{names.REPLY_TOPIC_POSTFIX}", 1, read_write),
            (f"{names.REVIVE_TOPIC_PREFIX}{cluster}", settings.revive_queue_num, read_write),
            (f"{names.SYNC_BROKER_MEMBER_PREFIX}{broker}", 1, inherit),
            (names.TRANS_HALF_TOPIC, 1, read_write),
            (names.TRANS_OP_HALF_TOPIC, 1, read_write),
        ]
        if settings.auto_create_topic_enable:
            wanted.insert(1, (names.DEFAULT_TOPIC, settings.default_topic_queue_nums, read_write | inherit))
        if settings.trace_topic_enable:
            wanted.append((settings.msg_trace_topic_name, 1, read_write))
        if settings.timer_wheel_enable:
            wanted.append((names.TIMER_TOPIC, 1, read_write))
        self.system_topics = {topic for topic, _, _ in wanted}
        for topic, queue_nums, perm in wanted:
            # The template is the broker's own setting, so it follows the configuration; other topics keep what an operator set.
            if topic not in self.configs or topic == names.DEFAULT_TOPIC:
                config = TopicConfig(
                    topic_name=topic, read_queue_nums=queue_nums, write_queue_nums=queue_nums, perm=perm
                )
                if self.configs.get(topic) != config:
                    self.configs[topic] = config
                    self._changed((topic,))
                    self._table.touch()
        if not settings.auto_create_topic_enable and self.configs.pop(names.DEFAULT_TOPIC, None) is not None:
            self._changed((names.DEFAULT_TOPIC,))
            self._table.touch()


def _parse(raw: dict[str, Any]) -> tuple[DataVersion, dict[str, TopicConfig], dict[str, dict[str, Any]]]:
    """Version, configurations, and per topic the fields that this version does not know. Raises msgspec.ValidationError."""
    configs: dict[str, TopicConfig] = {}
    unknown: dict[str, dict[str, Any]] = {}
    try:
        version = msgspec.convert(raw.get("dataVersion") or {}, DataVersion, strict=False)
        for topic, fields in (raw.get("topicConfigTable") or {}).items():
            configs[topic] = topic_config_from(fields, topic)
            foreign = {key: value for key, value in fields.items() if key not in _KNOWN_FIELDS}
            if foreign:
                unknown[topic] = foreign
    except (AttributeError, TypeError) as error:
        raise msgspec.ValidationError(f"the table of topics has another shape: {error}") from error
    return version, configs, unknown
