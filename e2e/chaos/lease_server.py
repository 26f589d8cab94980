"""As much of a Kubernetes API server as Leases need: made, read, replaced under their resourceVersion."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from rocketmq_broker.failover.lease import LeaseRecord
from rocketmq_broker.failover.lease_kubernetes import record_of


class LeaseServer:
    """Listens on a free port of loopback while it is entered."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()
        self._version = 0
        leases = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Connections that a partition left behind end some time.
            timeout = 60

            def handle(self) -> None:
                # Whoever asked may have been cut off and have given up.
                with suppress(ConnectionError):
                    super().handle()

            def log_message(self, *_: Any) -> None:
                pass

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status, answer = leases.handle(self.command, self.path, json.loads(body) if body else {})
                content = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names that the standard library calls

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="lease-server")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def handle(self, method: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        """Status and answer of one request."""
        with self._lock:
            name = body["metadata"]["name"] if method == "POST" else path.rsplit("/", 1)[-1]
            found = self._objects.get(name)
            if method == "GET":
                return (200, found) if found else (404, {})
            sent = body["metadata"].get("resourceVersion")
            if (
                (found is not None)
                if method == "POST"
                else (found or {}).get("metadata", {}).get("resourceVersion") != sent
            ):
                return 409, {}
            self._version += 1
            body["metadata"]["resourceVersion"] = str(self._version)
            self._objects[name] = body
            return 200, body

    def record(self, name: str) -> LeaseRecord:
        """What the Lease ``name`` says; an empty record before the first write."""
        with self._lock:
            return record_of(self._objects[name]) if name in self._objects else LeaseRecord()
