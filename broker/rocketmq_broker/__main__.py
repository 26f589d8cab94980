"""``python -m rocketmq_broker``: one broker process, with the flags of Apache's ``mqbroker``."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from rocketmq_broker.app import Broker
from rocketmq_broker.durable import TableError
from rocketmq_broker.listening import ListenError, Ports
from rocketmq_broker.settings import LoadedSettings, load_settings
from rocketmq_common.files import RealFiles
from rocketmq_common.settings import SettingsError, format_java_properties, wire_names
from rocketmq_store.errors import StoreError
from rocketmq_store.truncation import truncate_log

logger = logging.getLogger("rocketmq_broker")

IMPORTANT_KEYS = (
    "brokerClusterName", "brokerName", "brokerId", "brokerRole", "namesrvAddr", "listenPort", "brokerIP1", "brokerIP2",
    "storePathRootDir", "flushDiskType", "fileReservedTime", "deleteWhen", "brokerPermission", "autoCreateTopicEnable",
    "autoCreateSubscriptionGroup", "maxMessageSize", "defaultTopicQueueNums",
)  # fmt: skip
EXIT_FATAL = 70
# What a dying process gives its log; then it is gone whatever hangs.
FATAL_GRACE_S = 0.5
# Collections of the young generation are what a message allocates; fewer of them, since nothing on the hot path makes cycles.
GC_THRESHOLDS = (50_000, 50, 1000)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a broker until SIGTERM or SIGINT; return the exit code."""
    arguments = _parser().parse_args(argv)
    logging.basicConfig(
        level=os.environ.get("ROCKETMQ_LOG_LEVEL", "INFO").upper(),
        stream=sys.stderr,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        loaded = _load(arguments)
        if arguments.print_config or arguments.print_important:
            sys.stdout.write(_listing(loaded, important=arguments.print_important))
            return 0
        for note in loaded.notes:
            logger.info("%s", note)
        for key in loaded.unknown:
            logger.warning("%s: unknown key %s is ignored", loaded.file or "configuration", key)
        _raise_descriptor_limit()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_live(loaded, lambda: _load(arguments)))
    except (SettingsError, StoreError, TableError, ListenError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(f"{error.filename or 'start'}: {error.strerror or error}: check the path and its permissions")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="rocketmq broker", description="A RocketMQ broker.")
    add = parser.add_argument
    add("-c", "--configFile", dest="file", type=Path, help="properties file with Apache's broker.conf keys")
    add("-n", "--namesrvAddr", dest="namesrv", help="name servers, host:port separated by ;")
    add("-p", "--printConfigItem", dest="print_config", action="store_true", help="print the configuration and exit")
    add(
        "-m", "--printImportantConfig", dest="print_important", action="store_true", help="print its main part and exit"
    )
    add(
        "--set",
        dest="assignments",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one key; may repeat",
    )
    return parser


def _load(arguments: argparse.Namespace) -> LoadedSettings:
    flags = {} if arguments.namesrv is None else {"namesrvAddr": arguments.namesrv.strip("'\"")}
    return load_settings(arguments.file, os.environ, arguments.assignments, flags)


def _listing(loaded: LoadedSettings, *, important: bool) -> str:
    values: dict[str, object] = {}
    for struct in (loaded.broker, loaded.store, loaded.replication, loaded.failover):
        for key, attribute in wire_names(type(struct)).items():
            value = getattr(struct, attribute)
            if not important or key in IMPORTANT_KEYS:
                values[key] = getattr(value, "value", value)
    return format_java_properties(values)


def _fail(message: str) -> int:
    line = " ".join(message.split())
    sys.stderr.write(f"rocketmq broker: {line}\n")
    return 1


def _die(error: BaseException) -> None:
    """Any thread: a promise cannot be kept any more (a failed sync, a dead service). No unwinding that could write anything."""
    # The log may hang on the same broken disk; the exit must not.
    watchdog = threading.Timer(FATAL_GRACE_S, os._exit, (EXIT_FATAL,))
    watchdog.daemon = True
    watchdog.start()
    logger.critical("rocketmq broker: cannot go on: %s: %s", type(error).__name__, error, exc_info=error)
    sys.stderr.flush()
    os._exit(EXIT_FATAL)


def _raise_descriptor_limit() -> None:
    """Each mapped queue and each connection takes descriptors; what the system allows is meant to be used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def _live(loaded: LoadedSettings, reload: Callable[[], LoadedSettings]) -> None:
    """Serve until told to stop; where elections decide on the role, each reign that ends begins a new life of the broker."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    ports = Ports(is_kept=loaded.failover.is_enabled)
    try:
        while await _serve(loaded, stopping, ports):
            gc.unfreeze()
            loaded = reload()
    finally:
        ports.close()


async def _serve(loaded: LoadedSettings, stopping: asyncio.Event, ports: Ports) -> bool:
    """One life of the broker; whether another is to follow."""
    broker = Broker(loaded, fatal=_die, ports=ports)
    start = asyncio.ensure_future(broker.start())
    interrupted = asyncio.ensure_future(stopping.wait())
    await asyncio.wait((start, interrupted), return_when=asyncio.FIRST_COMPLETED)
    if not start.done():
        start.cancel()
    try:
        await start
    except asyncio.CancelledError:
        logger.info("stopped before the broker was ready")
        return False
    identity, settings, recovery = broker.identity, broker.settings, broker.recovery
    assert recovery is not None
    logger.info(
        "recovery of %s: %s, %d bytes scanned, %d truncated, %d messages dispatched, %d ms",
        broker.store_settings.root, recovery.mode, recovery.scanned_bytes, recovery.truncated_bytes,
        recovery.dispatched_count, recovery.elapsed_ms,
    )  # fmt: skip
    if not broker.registration.is_registered:
        logger.warning("not registered at any name server yet (%s); trying again", broker.registration.problem)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    sys.stdout.write(
        f"broker {settings.broker_name}[{settings.broker_id}] of {settings.broker_cluster_name} ready: "
        f"{settings.broker_role.value} at {identity.address}, vip {identity.vip_port}, http {identity.http_port}, "
        f"store {broker.store_settings.root}\n"
    )
    sys.stdout.flush()
    await asyncio.wait((interrupted, broker.ended), return_when=asyncio.FIRST_COMPLETED)
    logger.info("broker %s stops", settings.broker_name)
    if stopping.is_set():
        ports.close()
    await broker.stop()
    logger.info("broker %s stopped", settings.broker_name)
    if stopping.is_set():
        return False
    interrupted.cancel()
    truncate_at = broker.ended.result()
    if truncate_at is not None:
        await asyncio.to_thread(truncate_log, RealFiles(), broker.store_settings, truncate_at)
    return True


if __name__ == "__main__":
    sys.exit(main())
