"""Server and client over loopback: pipelining, one-way, calls in both directions, bounds, bad peers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from rocketmq_remoting.client import RemotingClient, split_address
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import Command, Response, encode_request
from rocketmq_remoting.connection import Connection, Endpoint, Route
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingTimeout
from rocketmq_remoting.frames import FrameReader
from rocketmq_remoting.headers.clients import ConsumerGroupHeader
from rocketmq_remoting.limits import Limits
from rocketmq_remoting.server import RemotingServer

ECHO, HOLD, SLOW, RAISE, BUG, CALL_BACK, COUNT, BIG = range(1, 9)


class Service:
    """Handlers of every kind."""

    def __init__(self) -> None:
        self.held: list[tuple[Connection, Command]] = []
        self.oneways = 0

    def routes(self) -> list[Route]:
        return [
            Route(ECHO, None, lambda connection, command, header: Response(ext={"n": "1"}, body=command.body)),
            Route(HOLD, None, self.hold),
            Route(SLOW, None, self.slow),
            Route(RAISE, ConsumerGroupHeader, self.refuse),
            Route(BUG, None, self.bug),
            Route(CALL_BACK, None, self.call_back),
            Route(COUNT, None, self.count),
            Route(BIG, None, lambda connection, command, header: Response(body=[bytes(1 << 20)] * 4)),
        ]

    def hold(self, connection: Connection, command: Command, header: None) -> None:
        self.held.append((connection, command))

    async def slow(self, connection: Connection, command: Command, header: None) -> Response:
        await asyncio.sleep(0)
        return Response(body=b"slow " + command.body)

    def refuse(self, connection: Connection, command: Command, header: ConsumerGroupHeader) -> Response:
        raise RemotingError(ResponseCode.NO_PERMISSION, f"not for {header.consumer_group}")

    def bug(self, connection: Connection, command: Command, header: None) -> Response:
        raise KeyError("oops")

    async def call_back(self, connection: Connection, command: Command, header: None) -> Response:
        answer = await connection.invoke(ECHO, {"k": "v"}, b"ping")
        return Response(body=answer.body)

    def count(self, connection: Connection, command: Command, header: None) -> None:
        self.oneways += 1


@asynccontextmanager
async def serving(
    limits: Limits | None = None, client_routes: list[Route] | None = None
) -> AsyncIterator[tuple[RemotingServer, RemotingClient, Service, str]]:
    service = Service()
    server = RemotingServer(service.routes(), limits)
    await server.start("127.0.0.1", 0)
    client = RemotingClient(routes=client_routes or [])
    try:
        yield server, client, service, f"127.0.0.1:{server.port}"
    finally:
        await client.close()
        await server.stop(grace_ms=0)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


async def test_answers_match_their_requests_whatever_the_order() -> None:
    async with serving() as (_, client, service, address):
        first = asyncio.ensure_future(client.invoke(address, HOLD, body=b"first"))
        others = await asyncio.gather(*(client.invoke(address, ECHO, body=str(i).encode()) for i in range(200)))
        assert [answer.body for answer in others] == [str(i).encode() for i in range(200)]
        ((connection, command),) = service.held
        connection.respond(command, Response(body=b"late"))
        assert (await first).body == b"late"
        assert connection.in_flight == 0


async def test_handlers_may_be_coroutines_and_may_call_the_client_back() -> None:
    routes = [Route(ECHO, None, lambda connection, command, header: Response(body=command.body + b" pong"))]
    async with serving(client_routes=routes) as (_, client, _service, address):
        assert (await client.invoke(address, SLOW, body=b"x")).body == b"slow x"
        assert (await client.invoke(address, CALL_BACK)).body == b"ping pong"


async def test_failures_become_answers(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as (_, client, _service, address):
        refused = await client.invoke(address, RAISE, {"consumerGroup": "g"})
        assert (refused.code, refused.remark) == (16, "not for g")
        incomplete = await client.invoke(address, RAISE)
        assert incomplete.code == 1
        assert "consumerGroup" in str(incomplete.remark)
        unknown = await client.invoke(address, 999)
        assert (unknown.code, unknown.remark) == (3, " request type 999 not supported")
        with caplog.at_level(logging.CRITICAL):
            bug = await client.invoke(address, BUG)
        assert bug.code == 1
        assert "KeyError" in str(bug.remark)


async def test_oneway_requests_are_never_answered() -> None:
    async with serving() as (server, client, service, address):
        for code in (COUNT, RAISE, 999, HOLD, ECHO):
            await client.invoke_oneway(address, code)
        await client.invoke(address, ECHO)
        await until(lambda: service.oneways == 1 and len(service.held) == 1)
        connection, command = service.held[0]
        connection.respond(command, Response())
        assert connection.in_flight == 0
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(
            encode_request(ECHO, 1, oneway=True) + encode_request(999, 2, oneway=True) + encode_request(ECHO, 3)
        )
        frames = FrameReader().feed(await reader.read(4096))
        assert len(frames) == 1
        assert b'"opaque":3' in frames[0].header
        await end(writer)


async def test_a_call_without_answer_times_out_and_the_connection_lives_on() -> None:
    async with serving() as (_, client, _service, address):
        with pytest.raises(RemotingTimeout, match="20 ms"):
            await client.invoke(address, HOLD, timeout_ms=20)
        assert (await client.invoke(address, ECHO, body=b"x")).body == b"x"
        assert len(client.connections) == 1


async def test_a_broken_connection_fails_its_calls_and_is_replaced() -> None:
    async with serving() as (server, client, service, address):
        call = asyncio.ensure_future(client.invoke(address, HOLD))
        await until(lambda: len(service.held) == 1)
        next(iter(server.connections)).abort("test")
        with pytest.raises(RemotingConnectError):
            await call
        assert (await client.invoke(address, ECHO)).code == 0


async def test_nobody_listening_is_a_connect_error() -> None:
    client = RemotingClient()
    async with serving() as (_server, _, _service, address):
        pass
    with pytest.raises(RemotingConnectError, match=address):
        await client.invoke(address, ECHO)
    with pytest.raises(RemotingConnectError, match="host:port"):
        await client.invoke("nonsense", ECHO)
    await client.close()


async def end(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


async def raw_exchange(port: int, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(5):
            return await reader.read()
    except ConnectionResetError:
        return b""
    finally:
        await end(writer)


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\xff" * 64,
        b"\x00\x00\x00\x10\x07" + bytes(60),
        b"\x00\x00\x00\x08\x00\x00\x00\x04{{{{",
    ],
)
async def test_a_peer_that_breaks_the_protocol_loses_only_its_own_connection(
    garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving() as (server, client, _service, address):
        assert (await client.invoke(address, ECHO)).code == 0
        with caplog.at_level(logging.WARNING):
            assert await raw_exchange(server.port, garbage) == b""
        assert "dropped" in caplog.text
        assert (await client.invoke(address, ECHO)).code == 0


async def test_half_sent_and_idle_connections_are_closed() -> None:
    limits = Limits(idle_ms=200, frame_ms=50)
    async with serving(limits) as (server, _client, _service, _address):
        assert await raw_exchange(server.port, b"\x00\x00\x00\x10\x00") == b""
        assert await raw_exchange(server.port, b"") == b""
        assert server.connections == set()


async def test_connections_beyond_the_limit_are_refused() -> None:
    async with serving(Limits(connections_max=1)) as (server, client, _service, address):
        assert (await client.invoke(address, ECHO)).code == 0
        assert await raw_exchange(server.port, encode_request(ECHO, 1)) == b""
        assert (await client.invoke(address, ECHO)).code == 0
        assert len(server.connections) == 1


async def test_requests_beyond_the_in_flight_bound_wait_until_others_are_answered() -> None:
    async with serving(Limits(in_flight_max=4)) as (_, client, service, address):
        calls = [asyncio.ensure_future(client.invoke(address, HOLD, body=bytes([i]))) for i in range(10)]
        await until(lambda: len(service.held) == 4)
        await asyncio.sleep(0.01)
        assert len(service.held) == 4
        answered = 0
        while answered < 10:
            connection, command = service.held[answered]
            connection.respond(command, Response(body=command.body))
            answered += 1
            await until(lambda: len(service.held) == min(10, 4 + answered))  # noqa: B023
        assert [answer.body for answer in await asyncio.gather(*calls)] == [bytes([i]) for i in range(10)]


async def test_a_peer_that_does_not_read_stops_being_served_and_costs_bounded_memory() -> None:
    async with serving(Limits(write_buffer_high=1 << 16)) as (server, client, _service, address):
        _reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1)
        writer.write(b"".join(encode_request(BIG, i) for i in range(200)))
        await until(lambda: any(c._is_reading_paused for c in server.connections))
        transport = next(c for c in server.connections if c._is_reading_paused)._transport
        assert transport is not None
        held = transport.get_write_buffer_size()
        assert held <= 200 * (4 << 20)
        assert (await client.invoke(address, ECHO)).code == 0
        writer.transport.abort()
        await end(writer)


async def test_stop_answers_what_is_under_way() -> None:
    service = Service()
    server = RemotingServer(service.routes())
    await server.start("127.0.0.1", 0)
    client = RemotingClient()
    call = asyncio.ensure_future(client.invoke(f"127.0.0.1:{server.port}", HOLD))
    await until(lambda: len(service.held) == 1)
    stopping = asyncio.ensure_future(server.stop(grace_ms=5000))
    await asyncio.sleep(0.01)
    connection, command = service.held[0]
    connection.respond(command, Response(body=b"done"))
    assert (await call).body == b"done"
    await stopping
    await client.close()


async def test_who_connects_between_two_servers_of_one_socket_is_served_by_the_second() -> None:
    first, second = RemotingServer(Service().routes()), RemotingServer(Service().routes())
    client = RemotingClient()
    await first.start("127.0.0.1", 0)
    address, kept = f"127.0.0.1:{first.port}", first.listening()
    assert kept is not None
    try:
        await first.stop(0)
        waiting = asyncio.ensure_future(client.invoke(address, ECHO, None, b"hello", timeout_ms=30_000))
        # It is connected although nobody accepts: its request waits with the kernel.
        await until(lambda: bool(client.connections))
        await second.start("127.0.0.1", 0, kept.dup())
        assert (await waiting).body == b"hello"
        assert address == f"127.0.0.1:{second.port}"
    finally:
        kept.close()
        await client.close()
        await second.stop(0)


async def test_closing_is_told_once_to_each_owner() -> None:
    async with serving() as (server, client, _service, address):
        told: list[str] = []
        server.on_disconnect.append(lambda connection: told.append(connection.remote))
        await client.invoke(address, ECHO)
        client.disconnect(address)
        await until(lambda: len(told) == 1)
        assert server.connections == set()


async def test_latencies_are_counted_by_request_and_answer() -> None:
    async with serving() as (server, client, _service, address):
        await client.invoke(address, ECHO)
        await client.invoke(address, 999)
        assert sum(server.latencies[ECHO, 0, False].counts) == 1
        assert sum(server.latencies[999, 3, False].counts) == 1


def test_a_code_may_stand_in_the_table_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        Endpoint([*Service().routes(), *Service().routes()], Limits())


@pytest.mark.parametrize("address", ["", "host", "host:", ":1", "h:99999", "h:x"])
def test_malformed_addresses_are_named(address: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        split_address(address)


def test_addresses_are_split() -> None:
    assert split_address("[::1]:9876") == ("::1", 9876)
    assert split_address(" broker.example:10911 ") == ("broker.example", 10911)
