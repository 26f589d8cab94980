"""The page ``docs/protocol.md``, made from the tables of requests themselves.

``python -m rocketmq_tools.protocol_page > docs/protocol.md`` writes it anew.

A test holds the page against the tables, so it cannot say more or less than the code serves.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import Iterable

import msgspec

from rocketmq_broker.app import CODES_NOT_ON_VIP, Broker
from rocketmq_broker.settings import load_settings
from rocketmq_namesrv.app import NameServer
from rocketmq_namesrv.settings import NamesrvSettings
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.connection import Route

_INTRODUCTION = """\
# Requests served

Made by `python -m rocketmq_tools.protocol_page` from the tables of requests; do not edit. Names and numbers are
Apache RocketMQ's. A field in *italics* is optional. Every other code is answered with code 3, `REQUEST_CODE_NOT_SUPPORTED`.
"""


def page() -> str:
    """The whole page; constructs a broker and a name server without starting them."""
    return asyncio.run(_page())


async def _page() -> str:
    with tempfile.TemporaryDirectory() as directory:
        broker = Broker(load_settings(None, {}, [f"storePathRootDir={directory}"]), fatal=_unexpected)
        try:
            broker_routes = broker.routes()
        finally:
            broker.io.shutdown()
        server = NameServer(NamesrvSettings(kv_config_path=f"{directory}/kvConfig.json"))
        namesrv_routes = list(server.server.routes.values())
    return "\n".join(
        (
            _INTRODUCTION,
            "## Broker",
            "",
            "All on the listening port; those marked † wait for messages and are not on the VIP port.",
            "",
            *_table(broker_routes),
            "",
            "## Name server",
            "",
            *_table(namesrv_routes),
            "",
        )
    )


def _unexpected(error: BaseException) -> None:
    raise error


def _table(routes: Iterable[Route]) -> list[str]:
    rows = ["| code | request | fields of the header |", "|---|---|---|"]
    for route in sorted(routes, key=lambda route: route.code):
        mark = " †" if route.code in CODES_NOT_ON_VIP else ""
        rows.append(f"| {int(route.code)} | {RequestCode(route.code).name}{mark} | {_fields(route)} |")
    return rows


def _fields(route: Route) -> str:
    if route.header is None:
        return "none"
    return ", ".join(
        f"`{field.encode_name}`" if field.required else f"*`{field.encode_name}`*"
        for field in msgspec.structs.fields(route.header)
    )


if __name__ == "__main__":
    sys.stdout.write(page())
