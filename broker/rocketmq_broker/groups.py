"""Subscription groups: ``config/subscriptionGroup.json``, creation on first use, and the table of forbidden topics per group."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import msgspec

from rocketmq_broker.durable import DurableTable, TableError
from rocketmq_broker.settings import BrokerSettings
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.groups import SubscriptionGroupConfig, group_config_from
from rocketmq_common.topics import DataVersion

GROUP_COUNT_MAX = 100_000
# Bit of the forbidden mask that stops pulling (SubscriptionForbidden index 2 in Java, "consume").
FORBIDDEN_CONSUME_INDEX = 2
_KNOWN_FIELDS = frozenset(SubscriptionGroupConfig.__struct_encode_fields__)
_KNOWN_TOP = frozenset({"dataVersion", "subscriptionGroupTable", "forbiddenTable"})


class GroupTable:
    """See the module. A group made on first use is written soon; one that an administrator makes is durable when answered."""

    def __init__(
        self,
        settings: BrokerSettings,
        files: FileSystem,
        directory: Path,
        clock: Clock,
        executor: Executor,
        *,
        has_light_queues: bool = False,
    ) -> None:
        self._has_lights = has_light_queues
        self._settings = settings
        self._clock = clock
        self._unknown: dict[str, dict[str, Any]] = {}
        self._unknown_top: dict[str, Any] = {}
        self._table = DurableTable(files, directory / "subscriptionGroup.json", self.encode, executor)
        self.configs: dict[str, SubscriptionGroupConfig] = {}
        self.forbidden: dict[str, dict[str, int]] = {}
        self.data_version = DataVersion()
        self.on_delete: list[Callable[[str], None]] = []

    def load(self) -> None:
        """Read the file and add missing system groups; blocking. Raises TableError."""
        raw = self._table.load()
        self._unknown_top = {key: value for key, value in raw.items() if key not in _KNOWN_TOP}
        try:
            self.data_version, self.configs, self.forbidden, self._unknown = _parse(raw)
        except msgspec.ValidationError as error:
            raise TableError(f"{self._table.path}: {error}: repair the file, or restore its .bak") from error
        for group in sorted(names.SYSTEM_GROUPS):
            if group not in self.configs:
                # As Apache creates them: the tools' group may read whatever is there.
                self.configs[group] = SubscriptionGroupConfig(group_name=group)
                self._changed()
                self._table.touch()

    def get(self, group: str) -> SubscriptionGroupConfig | None:
        """The configuration of ``group`` if it exists; creates nothing. Readers of light queues have one without a table."""
        config = self.configs.get(group)
        if config is None and self._has_lights and names.is_light_queue(group):
            return SubscriptionGroupConfig(group_name=group)
        return config

    def find(self, group: str) -> SubscriptionGroupConfig | None:
        """The configuration of ``group``, made on first use where that is allowed; else ``None``."""
        config = self.get(group)
        if config is not None:
            return config
        if not self._settings.auto_create_subscription_group and not names.is_system_group(group):
            return None
        if names.group_name_problem(group) is not None or len(self.configs) >= GROUP_COUNT_MAX:
            return None
        config = self.configs[group] = SubscriptionGroupConfig(group_name=group)
        self._changed()
        self._table.touch()
        return config

    async def update(self, config: SubscriptionGroupConfig) -> None:
        """Create or replace a group, durably. Raises OSError; nothing is changed then."""
        await self.update_all((config,))

    async def update_all(self, configs: Iterable[SubscriptionGroupConfig]) -> None:
        """Create or replace several groups at the price of one."""
        configs = list(configs)
        before = {config.group_name: self.configs.get(config.group_name) for config in configs}
        for config in configs:
            self.configs[config.group_name] = config
        self._changed()
        try:
            await self._table.save()
        except OSError:
            for group, old in before.items():
                if old is None:
                    self.configs.pop(group, None)
                else:
                    self.configs[group] = old
            raise

    async def delete(self, group: str) -> bool:
        """Remove a group, durably; False when there was none."""
        if self.configs.pop(group, None) is None:
            return False
        self._unknown.pop(group, None)
        self.forbidden.pop(group, None)
        self._changed()
        for callback in self.on_delete:
            callback(group)
        await self._table.save()
        return True

    def adopt(self, raw: dict[str, Any]) -> bool:
        """Take the table of this broker's master in place of the own one, if its version differs; whether it did.

        ``raw`` is the parsed answer to GET_ALL_SUBSCRIPTIONGROUP_CONFIG. Raises msgspec.ValidationError; nothing is changed then.
        """
        version, configs, forbidden, unknown = _parse(raw)
        if version == self.data_version:
            return False
        kept = {group: config for group, config in self.configs.items() if group in names.SYSTEM_GROUPS}
        gone = [group for group in self.configs if group not in configs and group not in kept]
        self.configs, self.forbidden, self._unknown = {**kept, **configs}, forbidden, unknown
        self.data_version = version
        for group in gone:
            for callback in self.on_delete:
                callback(group)
        self._table.touch()
        return True

    def is_forbidden(self, group: str, topic: str, index: int = FORBIDDEN_CONSUME_INDEX) -> bool:
        """Whether bit ``index`` of the group's mask for ``topic`` is set."""
        if not self.forbidden:
            return False
        return bool(self.forbidden.get(group, {}).get(topic, 0) >> index & 1)

    def forbidden_mask(self, group: str, topic: str) -> int:
        """All bits of the group's mask for ``topic``."""
        return self.forbidden.get(group, {}).get(topic, 0)

    async def set_forbidden(self, group: str, topic: str, mask: int) -> None:
        """Replace the mask of (group, topic), durably; 0 removes it."""
        if mask:
            self.forbidden.setdefault(group, {})[topic] = mask
        else:
            of_group = self.forbidden.get(group, {})
            of_group.pop(topic, None)
            if not of_group:
                self.forbidden.pop(group, None)
        self._changed()
        await self._table.save()

    def encode(self) -> bytes:
        """Content of the file, with whatever an earlier reader did not understand."""
        table: dict[str, Any] = {}
        for group in sorted(self.configs):
            fields = {
                key: value for key, value in msgspec.to_builtins(self.configs[group]).items() if value is not None
            }
            table[group] = {**fields, **self._unknown.get(group, {})}
        return msgspec.json.encode(
            {
                **self._unknown_top,
                "dataVersion": self.data_version,
                "forbiddenTable": self.forbidden,
                "subscriptionGroupTable": table,
            }
        )

    async def save_if_dirty(self) -> None:
        """Write groups that were made on first use."""
        await self._table.save_if_dirty()

    def save_now(self) -> None:
        """Write on the calling thread."""
        self._table.save_now()

    def _changed(self) -> None:
        self.data_version = self.data_version.next(self._clock.now_ms())


_Parsed = tuple[DataVersion, dict[str, SubscriptionGroupConfig], dict[str, dict[str, int]], dict[str, dict[str, Any]]]


def _parse(raw: dict[str, Any]) -> _Parsed:
    """Version, groups, forbidden masks, and per group the fields that this version does not know. Raises ValidationError."""
    configs: dict[str, SubscriptionGroupConfig] = {}
    unknown: dict[str, dict[str, Any]] = {}
    try:
        version = msgspec.convert(raw.get("dataVersion") or {}, DataVersion, strict=False)
        forbidden = msgspec.convert(raw.get("forbiddenTable") or {}, dict[str, dict[str, int]], strict=False)
        for group, fields in (raw.get("subscriptionGroupTable") or {}).items():
            configs[group] = group_config_from(fields, group)
            foreign = {key: value for key, value in fields.items() if key not in _KNOWN_FIELDS}
            if foreign:
                unknown[group] = foreign
    except (AttributeError, TypeError) as error:
        raise msgspec.ValidationError(f"the table of groups has another shape: {error}") from error
    return version, configs, forbidden, unknown
