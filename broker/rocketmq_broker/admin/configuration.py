"""Configuration over the wire: 25 changes keys of an allow-list within ranges and rewrites broker.conf, 26 shows everything.

No key that names a path, a command or a port is on the list: whoever may send a request must not get at the machine that way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple, get_type_hints

import msgspec

from rocketmq_broker import listeners
from rocketmq_broker.foreign_keys import KEYS_WITHOUT_EFFECT
from rocketmq_broker.ha.settings import ReplicationSettings
from rocketmq_broker.settings import BrokerSettings, LoadedSettings
from rocketmq_broker.topics import TopicTable
from rocketmq_common import javajson
from rocketmq_common import settings as common_settings
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_common.settings import SettingsError, format_java_properties, format_value, parse_java_properties
from rocketmq_common.topics import DataVersion
from rocketmq_remoting.client import split_address
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.admin import GetBrokerConfigResponseHeader
from rocketmq_store.settings import StoreSettings

logger = logging.getLogger(__name__)


class Change(NamedTuple):
    """A key that may change at run time; numbers within the range, both ends included."""

    minimum: int | None = None
    maximum: int | None = None


CHANGEABLE: Final[Mapping[str, Change]] = {
    "namesrvAddr": Change(),
    "listenerAddresses": Change(),
    "brokerPermission": Change(0, 6),
    "autoCreateTopicEnable": Change(),
    "autoCreateSubscriptionGroup": Change(),
    "rejectTransactionMessage": Change(),
    "transactionTimeOut": Change(0, 86_400_000),
    "transactionCheckMax": Change(0, 1_000_000),
    "transactionCheckInterval": Change(100, 86_400_000),
    "transactionOpMsgMaxSize": Change(32, 1 << 20),
    "litePullMessageEnable": Change(),
    "longPollingEnable": Change(),
    "shortPollingTimeMills": Change(1, 60_000),
    "useServerSideResetOffset": Change(),
    "enablePropertyFilter": Change(),
    "slaveReadEnable": Change(),
    "defaultQueryMaxNum": Change(1, 1024),
    "startAcceptSendRequestTimeStamp": Change(0, (1 << 63) - 1),
    "registerNameServerPeriod": Change(10_000, 60_000),
    "registerBrokerTimeoutMills": Change(100, 60_000),
    "forceRegister": Change(),
    "deleteWhen": Change(),
    "fileReservedTime": Change(0, 24 * 3650),
    "deleteFileBatchMax": Change(1, 1000),
    "cleanFileForciblyEnable": Change(),
    "diskMaxUsedSpaceRatio": Change(10, 95),
    "diskSpaceCleanForciblyRatio": Change(30, 85),
    "diskSpaceWarningLevelRatio": Change(35, 90),
    "maxFilterMessageSize": Change(20, 16 << 20),
    "maxTransferBytesOnMessageInMemory": Change(1, 8 << 20),
    "maxTransferCountOnMessageInMemory": Change(1, 4096),
    "maxTransferBytesOnMessageInDisk": Change(1, 8 << 20),
    "maxTransferCountOnMessageInDisk": Change(1, 4096),
    "accessMessageInMemoryMaxRatio": Change(0, 100),
    "maxMsgsNumBatch": Change(1, 1024),
    # Replication; ranges beyond these and how they go together are its own to check.
    "totalReplicas": Change(),
    "inSyncReplicas": Change(),
    "minInSyncReplicas": Change(),
    "enableAutoInSyncReplicas": Change(),
    "slaveTimeout": Change(),
    "haMaxGapNotInSync": Change(),
    "haFlowControlEnable": Change(),
    "maxHaTransferByteInSecond": Change(),
}
# These show in what name servers know: they are told at once.
ANNOUNCED: Final = frozenset({"brokerPermission", "listenerAddresses", "namesrvAddr"})


class ConfigurationAdministration:
    """See the module. Both settings objects are changed in place: every part reads them at each use."""

    def __init__(
        self,
        loaded: LoadedSettings,
        topics: TopicTable,
        files: FileSystem,
        clock: Clock,
        announce: Callable[[], Awaitable[None]],
    ) -> None:
        self._loaded = loaded
        self._topics = topics
        self._files = files
        self._clock = clock
        self._announce = announce
        self._lock = asyncio.Lock()
        self._file_values = dict(loaded.file_values)
        self.data_version = DataVersion(timestamp=clock.now_ms())

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        return [
            Route(RequestCode.UPDATE_BROKER_CONFIG, None, self.update),
            Route(RequestCode.GET_BROKER_CONFIG, None, self.get),
        ]

    def values(self) -> dict[str, str]:
        """Every key with its value, those of the file that have no effect here included."""
        result = {key: value for key, value in self._file_values.items() if key in KEYS_WITHOUT_EFFECT}
        for settings in (self._loaded.replication, self._loaded.store, self._loaded.broker):
            for key, attribute in common_settings.wire_names(type(settings)).items():
                value = getattr(settings, attribute)
                result[key] = format_value(getattr(value, "value", value))
        return dict(sorted(result.items()))

    def get(self, _: Connection, __: Command, ___: None) -> Response:
        """26."""
        version = GetBrokerConfigResponseHeader(version=javajson.dumps(self.data_version).decode())
        return Response(ext=version, body=format_java_properties(self.values()).encode())

    async def update(self, connection: Connection, command: Command, _: None) -> Response:
        """25; all keys of the body or none."""
        try:
            changes = parse_java_properties(command.body.decode())
            if not changes:
                raise SettingsError("string2Properties error: no key=value in the body")
            async with self._lock:
                remark = await self._apply(changes, connection.remote)
        except UnicodeDecodeError as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"UnsupportedEncodingException {error}") from error
        except PermissionError as error:
            raise RemotingError(ResponseCode.NO_PERMISSION, str(error)) from error
        except SettingsError as error:
            raise RemotingError(ResponseCode.INVALID_PARAMETER, str(error)) from error
        return Response(remark=remark)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _apply(self, changes: Mapping[str, str], who: str) -> str | None:
        current = self.values()
        planned: list[tuple[msgspec.Struct, str, Any]] = []
        for key, text in changes.items():
            if current.get(key) == text.strip():
                continue
            planned.append(self._planned(key, text.strip(), current))
        if not planned:
            return None
        self._check_disk_ratios(planned)
        replication = self._loaded.replication
        after = {attribute: value for settings, attribute, value in planned if settings is replication}
        msgspec.structs.replace(replication, **after).check("update")
        for settings, attribute, value in planned:
            setattr(settings, attribute, value)
        self.data_version = self.data_version.next(self._clock.now_ms())
        logger.info("%s changed the configuration: %s", who, dict(changes))
        self._file_values.update({key: text.strip() for key, text in changes.items()})
        remark = await self._store()
        if not ANNOUNCED.isdisjoint(changes):
            # Name servers take permissions over only with a newer version of the topic table.
            self._topics.data_version = self._topics.data_version.next(self._clock.now_ms())
            await self._announce()
        return remark

    def _planned(self, key: str, text: str, current: Mapping[str, str]) -> tuple[msgspec.Struct, str, Any]:
        for settings in (self._loaded.broker, self._loaded.store, self._loaded.replication):
            attribute = common_settings.wire_names(type(settings)).get(key)
            if attribute is not None:
                break
        else:
            if key in KEYS_WITHOUT_EFFECT:
                raise PermissionError(f"{key}={text}: has no effect in this broker")
            raise SettingsError(f"{key}={text}: a broker has no such key")
        allowed = CHANGEABLE.get(key)
        if allowed is None:
            raise PermissionError(
                f"{key}={text}: can not be changed at run time, it is {current.get(key, '')!r}; change the file and restart"
            )
        hint = get_type_hints(type(settings))[attribute]
        value = common_settings.convert_value(key, text, hint, source="update")
        if allowed.minimum is not None and not allowed.minimum <= value <= (allowed.maximum or 0):
            raise SettingsError(f"{key}={text}: {allowed.minimum} to {allowed.maximum} are allowed")
        check = _CHECKS.get(key)
        if check is not None:
            check(text)
        return settings, attribute, value

    def _check_disk_ratios(self, planned: list[tuple[msgspec.Struct, str, Any]]) -> None:
        store = self._loaded.store
        after = {attribute: value for settings, attribute, value in planned if settings is store}
        names = ("disk_max_used_percent", "disk_clean_forcibly_percent", "disk_warning_percent")
        if not after.keys() & set(names):
            return
        used, forcibly, warning = (after.get(name, getattr(store, name)) for name in names)
        if forcibly > warning:
            raise SettingsError(
                f"diskSpaceCleanForciblyRatio={forcibly}: must not be above diskSpaceWarningLevelRatio={warning}"
            )
        if used > warning:
            raise SettingsError(f"diskMaxUsedSpaceRatio={used}: must not be above diskSpaceWarningLevelRatio={warning}")

    async def _store(self) -> str | None:
        """Rewrite the file; what to tell when that was not possible: the change holds, but only until the next restart."""
        path = self._loaded.file
        if path is None:
            return "changed until the next restart: this broker was started without a configuration file"
        document = format_java_properties(self._file_values).encode()
        try:
            await asyncio.to_thread(self._files.replace, path, document)
        except OSError as error:
            # A mounted ConfigMap is read-only.
            logger.warning("configuration change is not kept over a restart: %s: %s", path, error)
            return f"changed until the next restart: {path}: {error.strerror or error}"
        return None


def _check_addresses(text: str) -> None:
    for entry in text.replace(",", ";").split(";"):
        if entry.strip():
            try:
                split_address(entry)
            except ValueError as error:
                raise SettingsError(f"namesrvAddr={text}: {error}") from error


def _check_hours(text: str) -> None:
    for hour in text.split(";"):
        if not hour.strip().isdecimal() or int(hour) > 23:
            raise SettingsError(f"deleteWhen={text}: write hours such as 04, or 04;16")


def _check_permission(text: str) -> None:
    if int(text) not in (0, 2, 4, 6):
        raise SettingsError(f"brokerPermission={text}: write 2 (write), 4 (read), 6 (both) or 0 (none)")


_CHECKS: Final[Mapping[str, Callable[[str], None]]] = {
    "namesrvAddr": _check_addresses,
    "listenerAddresses": listeners.check,
    "deleteWhen": _check_hours,
    "brokerPermission": _check_permission,
}
assert CHANGEABLE.keys() <= {
    *common_settings.wire_names(BrokerSettings),
    *common_settings.wire_names(StoreSettings),
    *common_settings.wire_names(ReplicationSettings),
}, "a changeable key that no setting has"
