"""Configuration of a name server: Apache's keys of namesrv.conf, and the few of ours.

What may change while the server runs is the table `CHANGEABLE`: never a path, an address or a command.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from rocketmq_common import settings as common_settings
from rocketmq_common.settings import SettingsError
from rocketmq_namesrv.listeners import parse_ports

ROCKETMQ_HOME: Final = "ROCKETMQ_HOME"


class NamesrvSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Keys, meanings and defaults of Apache's NamesrvConfig and NettyServerConfig; times are ms unless the name says otherwise."""

    listen_port: int = 9876
    bind_address: str = "0.0.0.0"
    kv_config_path: str = ""
    config_store_path: str = ""
    order_message_enable: bool = False
    return_order_topic_config_to_broker: bool = True
    enable_all_topic_list: bool = True
    enable_topic_list: bool = True
    notify_min_broker_id_changed: bool = False
    support_acting_master: bool = False
    delete_topic_with_broker_registration: bool = False
    need_wait_for_service: bool = False
    wait_seconds_for_service: int = 45
    scan_not_active_broker_interval: int = 5000
    server_channel_max_idle_time_seconds: int = 120
    # Ours. Port 0 lets the system choose, a negative one switches the web pages off.
    http_port: int = 9877
    http_bind_address: str = ""
    # Further ports, name:port joined by ";": see `rocketmq_namesrv.listeners`.
    listeners: str = ""


class Change(NamedTuple):
    """A key that may change at run time and the range of its value (``None``: any value of its type)."""

    minimum: int | None = None
    maximum: int | None = None


CHANGEABLE: Final[Mapping[str, Change]] = {
    "orderMessageEnable": Change(),
    "returnOrderTopicConfigToBroker": Change(),
    "enableAllTopicList": Change(),
    "enableTopicList": Change(),
    "notifyMinBrokerIdChanged": Change(),
    "supportActingMaster": Change(),
    "deleteTopicWithBrokerRegistration": Change(),
    "needWaitForService": Change(),
    "waitSecondsForService": Change(0, 3600),
    "scanNotActiveBrokerInterval": Change(100, 600_000),
}

# Keys of Apache's file that have no meaning here: thread pools, Netty, the embedded controller. They are not worth a warning.
WITHOUT_EFFECT: Final = frozenset(
    {
        "rocketmqHome", "clientRequestThreadPoolNums", "defaultThreadPoolNums", "clientRequestThreadPoolQueueCapacity",
        "defaultThreadPoolQueueCapacity", "unRegisterBrokerQueueCapacity", "clusterTest", "productEnvName",
        "enableControllerInNamesrv", "configBlackList", "serverWorkerThreads", "serverCallbackExecutorThreads",
        "serverSelectorThreads", "serverOnewaySemaphoreValue", "serverAsyncSemaphoreValue", "useEpollNativeSelector",
        "serverPooledByteBufAllocatorEnable", "serverSocketSndBufSize", "serverSocketRcvBufSize", "serverSocketBacklog",
        "writeBufferHighWaterMark", "writeBufferLowWaterMark", "tlsConfig", "serverNettyWorkerGroupEnable",
        "enableShutdownGracefully", "shutdownWaitTimeSeconds",
    }
)  # fmt: skip


def default_directory(environment: Mapping[str, str]) -> Path:
    """Where a name server keeps its files when nothing is configured: below ROCKETMQ_HOME, else below the home directory."""
    home = environment.get(ROCKETMQ_HOME)
    return Path(home if home else os.path.expanduser("~")) / "namesrv"


def load(
    file: Path | None, assignments: list[str], environment: Mapping[str, str]
) -> tuple[NamesrvSettings, dict[str, str], list[str]]:
    """The settings, the values that were set, and unknown keys; raises SettingsError in words for the user.

    Lowest first: defaults, ``file``, the changes made at run time (``configStorePath``), environment, ``assignments``.
    """
    values = _read(file) if file is not None else {}
    above = {
        **common_settings.from_environment(environment, NamesrvSettings),
        **common_settings.parse_assignments(assignments),
    }
    store = {**values, **above}.get("configStorePath")
    if store and (file is None or Path(store) != file) and Path(store).exists():
        values.update({key: value for key, value in _read(Path(store)).items() if key in CHANGEABLE})
    values.update(above)
    settings, unknown = common_settings.bind(NamesrvSettings, values, source=str(file or "configuration"))
    _check(settings)
    directory = default_directory(environment)
    settings = msgspec.structs.replace(
        settings,
        kv_config_path=settings.kv_config_path or str(directory / "kvConfig.json"),
        config_store_path=settings.config_store_path or str(file or directory / "namesrv.properties"),
        http_bind_address=settings.http_bind_address or settings.bind_address,
    )
    return settings, values, [key for key in unknown if key not in WITHOUT_EFFECT]


def changed(settings: NamesrvSettings, changes: Mapping[str, str]) -> NamesrvSettings:
    """``settings`` with ``changes`` applied; raises PermissionError or SettingsError naming the key, and changes nothing then."""
    names = common_settings.wire_names(NamesrvSettings)
    typed: dict[str, Any] = {}
    for key, text in changes.items():
        attribute = names.get(key)
        if attribute is None:
            raise SettingsError(f"{key}={text!r}: a name server has no such key")
        current = common_settings.format_value(getattr(settings, attribute))
        if current == text.strip():
            continue
        allowed = CHANGEABLE.get(key)
        if allowed is None:
            raise PermissionError(f"{key}={text!r}: cannot be changed at run time, it is {current!r}; change the file")
        hint = NamesrvSettings.__annotations__[attribute]
        value = common_settings.convert_value(key, text, {"int": int, "bool": bool}[hint], source="update")
        if allowed.minimum is not None and not allowed.minimum <= value <= (allowed.maximum or value):
            raise SettingsError(f"{key}={text!r}: {allowed.minimum} to {allowed.maximum} are allowed")
        typed[attribute] = value
    return msgspec.structs.replace(settings, **typed)


def as_properties(settings: NamesrvSettings) -> dict[str, object]:
    """All keys with their values in wire names."""
    return {key: getattr(settings, name) for key, name in common_settings.wire_names(NamesrvSettings).items()}


def _read(path: Path) -> dict[str, str]:
    try:
        return common_settings.parse_java_properties(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path}: {error.strerror}: give the path of a readable properties file") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 ({error}): save it as UTF-8") from error


def _check(settings: NamesrvSettings) -> None:
    if not 0 <= settings.listen_port <= 65535:
        raise SettingsError(f"listenPort={settings.listen_port}: write a port, 0 to 65535")
    if settings.http_port > 65535:
        raise SettingsError(f"httpPort={settings.http_port}: write a port up to 65535, or -1 for none")
    parse_ports(settings.listeners)
    for key, allowed in CHANGEABLE.items():
        value = getattr(settings, common_settings.wire_names(NamesrvSettings)[key])
        if (
            allowed.minimum is not None
            and allowed.maximum is not None
            and not allowed.minimum <= value <= allowed.maximum
        ):
            raise SettingsError(f"{key}={value}: {allowed.minimum} to {allowed.maximum} are allowed")
    if not 1 <= settings.server_channel_max_idle_time_seconds <= 86_400:
        raise SettingsError(
            f"serverChannelMaxIdleTimeSeconds={settings.server_channel_max_idle_time_seconds}: 1 to 86400 are allowed"
        )
