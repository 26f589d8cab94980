"""HTTP pages of the operator: liveness, readiness, metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from aiohttp import web

from rocketmq_common.exposition import CONTENT_TYPE, Family

REQUEST_BYTES_MAX: Final = 64 * 1024
IDLE_SECONDS: Final = 15.0
STOP_SECONDS: Final = 1.0


class WebServer:
    """``dead`` and ``unready`` say why, empty when all is well."""

    def __init__(
        self, dead: Callable[[], str], unready: Callable[[], str], metrics: Callable[[], Iterable[Family]]
    ) -> None:
        self._dead = dead
        self._unready = unready
        self._families = metrics
        self._runner: web.AppRunner | None = None

    @property
    def port(self) -> int:
        """The port listened on; raises RuntimeError before `start`."""
        if self._runner is None or not self._runner.addresses:
            raise RuntimeError("the web server does not listen")
        port: int = self._runner.addresses[0][1]
        return port

    async def start(self, host: str, port: int) -> None:
        """Listen; raises OSError when the address is taken."""
        application = web.Application(client_max_size=REQUEST_BYTES_MAX)
        application.router.add_get("/healthz", self._healthz)
        application.router.add_get("/readyz", self._readyz)
        application.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(
            application, access_log=None, keepalive_timeout=IDLE_SECONDS, shutdown_timeout=STOP_SECONDS
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Close the port and the connections."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _healthz(self, _: web.Request) -> web.Response:
        return _verdict(self._dead())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _verdict(self._unready())

    async def _metrics(self, _: web.Request) -> web.Response:
        body = b"".join(family.encode() for family in self._families())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})


def _verdict(problem: str) -> web.Response:
    return web.Response(status=503 if problem else 200, text=f"{problem or 'ok'}\n")
