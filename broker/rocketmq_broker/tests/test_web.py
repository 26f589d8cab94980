"""Pages for probes: alive, ready, and no place to hang on to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from rocketmq_broker.listening import ListenError
from rocketmq_broker.tests.harness import make_broker, serving
from rocketmq_broker.web import WebServer


@asynccontextmanager
async def pages(problems: list[str], idle_seconds: float = 15.0) -> AsyncIterator[WebServer]:
    server = WebServer(lambda: problems, lambda: iter(()), idle_seconds=idle_seconds)
    await server.start("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()


async def get(port: int, path: str) -> tuple[int, str]:
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, session.get(path) as answer:
        return answer.status, await answer.text()


async def test_readiness_follows_the_reasons():
    problems = ["disk full"]
    async with pages(problems) as server:
        assert await get(server.port, "/healthz") == (200, '{"status": "ok"}')
        assert await get(server.port, "/readyz") == (503, '{"status": "not ready", "reasons": ["disk full"]}')
        problems.clear()
        assert await get(server.port, "/readyz") == (200, '{"status": "ready", "reasons": []}')
        assert (await get(server.port, "/metrics"))[0] == 200
        assert (await get(server.port, "/nothing"))[0] == 404


async def test_half_a_request_is_cut_off():
    async with pages([], idle_seconds=0.05) as server:
        for sent in (b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(sent)
            async with asyncio.timeout(5):
                rest = await reader.read()
            assert b"200" not in rest
            writer.close()
            await writer.wait_closed()


async def test_giant_headers_are_refused():
    async with pages([]) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"GET /healthz HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n")
        async with asyncio.timeout(5):
            assert b" 400 " in await reader.readline()
        writer.close()


async def test_broker_is_alive_while_it_recovers_and_ready_only_when_registered(tmp_path: Path):
    broker = make_broker(tmp_path)
    assert broker.problems() == ["the store is not open: the broker recovers, or stops"]
    opened = broker._open_store
    seen: list[tuple[int, str]] = []

    def slow_open():
        for path in ("/healthz", "/readyz"):
            future = asyncio.run_coroutine_threadsafe(get(broker.identity.http_port, path), loop)
            seen.append(future.result(5))
        return opened()

    loop = asyncio.get_running_loop()
    broker._open_store = slow_open  # type: ignore[method-assign]
    await broker.start()
    try:
        assert [status for status, _ in seen] == [200, 503]
        status, text = await get(broker.identity.http_port, "/readyz")
        assert (status, "namesrvAddr is not set" in text) == (503, True)
    finally:
        await broker.stop()
    assert broker.problems() != []


async def test_store_that_takes_nothing_makes_unready(tmp_path: Path):
    async with serving(tmp_path) as peer:
        peer.broker.store.set_writeable(False, "disk of /x is 91 % full")
        assert any("91 % full" in problem for problem in peer.broker.problems())


async def test_taken_http_port_is_named_with_its_key(tmp_path: Path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        broker = make_broker(tmp_path, httpPort=taken.getsockname()[1])
        with pytest.raises(ListenError, match=r"\(httpPort\): cannot listen: Address already in use"):
            await broker.start()
