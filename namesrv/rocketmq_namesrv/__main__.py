"""``python -m rocketmq_namesrv``: Apache's mqnamesrv flags, one line per error, one line when ready."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from rocketmq_common.settings import SettingsError, format_java_properties
from rocketmq_namesrv import settings as namesrv_settings
from rocketmq_namesrv.app import ListenError, NameServer
from rocketmq_namesrv.kv import KvConfigError
from rocketmq_namesrv.settings import NamesrvSettings

PROGRAM = "rocketmq namesrv"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a name server until SIGTERM or SIGINT; return the exit code (0 orderly, 1 could not start, 2 usage)."""
    try:
        arguments = _parser().parse_args(argv)
    except SystemExit as error:
        return int(error.code or 0)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s %(message)s", force=True
    )
    try:
        settings, values, unknown = namesrv_settings.load(arguments.config_file, arguments.set, os.environ)
    except SettingsError as error:
        return _fail(str(error))
    if arguments.print:
        sys.stdout.write(format_java_properties(namesrv_settings.as_properties(settings)))
        return 0
    for key in unknown:
        logging.getLogger("rocketmq_namesrv").warning(
            "%s: key %s is unknown and ignored", arguments.config_file or "--set", key
        )
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(settings, values))
    except (ListenError, KvConfigError) as error:
        return _fail(str(error))
    except OSError as error:
        return _fail(
            f"{error.filename or 'start'}: {error.strerror or error}: make it accessible or configure another path"
        )
    return 0


async def _run(settings: NamesrvSettings, values: dict[str, str]) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    namesrv = NameServer(settings, values)
    await namesrv.start()
    # What lives now lives for good: keep it out of every later collection.
    gc.collect()
    gc.freeze()
    http = f", http {settings.http_bind_address}:{namesrv.web.port}" if namesrv.web is not None else ""
    print(f"name server ready: remoting {settings.bind_address}:{namesrv.port}{http}", flush=True)
    await stopped.wait()
    await namesrv.stop()
    print("name server stopped", flush=True)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: type[asyncio.AbstractEventLoop] = uvloop.Loop
    return factory


def _fail(message: str) -> int:
    print(f"{PROGRAM}: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="A RocketMQ name server.")
    parser.add_argument("-c", "--configFile", dest="config_file", type=Path, help="properties file (namesrv.conf)")
    parser.add_argument("-n", "--namesrvAddr", dest="namesrv_addr", help="ignored, as by Apache's mqnamesrv")
    parser.add_argument(
        "-p", "--printConfigItem", dest="print", action="store_true", help="print all settings and exit"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="set one key, above file and environment"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
