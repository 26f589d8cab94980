"""HTTP pages of a name server: liveness, readiness, metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from rocketmq_common.exposition import CONTENT_TYPE
from rocketmq_namesrv import metrics

if TYPE_CHECKING:
    from rocketmq_namesrv.app import NameServer

REQUEST_BYTES_MAX: Final = 64 * 1024
# A connection over which no whole request came for so long is closed.
IDLE_SECONDS: Final = 15.0
STOP_SECONDS: Final = 1.0


class WebServer:
    """Serves the pages; reads from the name server, changes nothing."""

    def __init__(self, namesrv: NameServer) -> None:
        self._namesrv = namesrv
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

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        reasons = []
        if not self._namesrv.is_started:
            reasons.append("starting or stopping")
        elif not self._namesrv.processor.is_ready:
            reasons.append("waiting for brokers (needWaitForService)")
        body: dict[str, Any] = {
            "status": "not ready" if reasons else "ready",
            "reasons": reasons,
            "brokers": len(self._namesrv.table.live),
            "topics": len(self._namesrv.table.topics),
        }
        return web.json_response(body, status=503 if reasons else 200)

    async def _metrics(self, _: web.Request) -> web.Response:
        page = b"".join(family.encode() for family in metrics.collect(self._namesrv))
        return web.Response(body=page, headers={"Content-Type": CONTENT_TYPE})
