"""HTTP pages of a broker: liveness, readiness, metrics.

Only this module knows the web framework. It reads through two functions and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Final

from aiohttp import web

from rocketmq_common.exposition import CONTENT_TYPE, Family

REQUEST_BYTES_MAX: Final = 64 * 1024
HEADER_BYTES_MAX: Final = 8190
# A connection over which no whole request came for so long is closed.
IDLE_SECONDS: Final = 15.0
STOP_SECONDS: Final = 1.0
CONNECTIONS_MAX: Final = 256


class WebServer:
    """``problems`` says why clients should not come yet (empty: ready); ``metrics`` gives families, and ``None`` for a pause."""

    def __init__(
        self,
        problems: Callable[[], list[str]],
        metrics: Callable[[], Iterator[Family | None]],
        *,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        self._problems = problems
        self._collect = metrics
        self._idle_seconds = idle_seconds
        self._runner: web.AppRunner | None = None
        # One scrape at a time: two would only make each other, and the messages, slower.
        self._scrape_lock = asyncio.Lock()

    @property
    def port(self) -> int:
        """The port listened on; raises RuntimeError before `start`."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the web server does not listen")
        port: int = self._runner.addresses[0][1]
        return port

    async def start(self, host: str, port: int) -> None:
        """Listen; port 0 lets the system choose. Raises OSError when the address is taken."""
        application = web.Application(client_max_size=REQUEST_BYTES_MAX)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            keepalive_timeout=self._idle_seconds,
            shutdown_timeout=STOP_SECONDS,
            max_line_size=HEADER_BYTES_MAX,
            max_field_size=HEADER_BYTES_MAX,
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, backlog=CONNECTIONS_MAX).start()

    async def stop(self) -> None:
        """Close the port and the connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _: web.Request) -> web.Response:
        # That this runs at all says that the loop turns.
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = self._problems()
        body = {"status": "not ready" if problems else "ready", "reasons": problems}
        return web.json_response(body, status=503 if problems else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        parts: list[bytes] = []
        async with self._scrape_lock:
            for family in self._collect():
                if family is not None:
                    parts.append(family.encode())
                await asyncio.sleep(0)
        return web.Response(body=b"".join(parts), headers={"Content-Type": CONTENT_TYPE})
