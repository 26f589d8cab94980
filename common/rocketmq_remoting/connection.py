"""One end of a connection: frames in, commands dispatched, answers out, calls matched to their answers.

The same class serves both sides, for both may ask: a broker sends requests of its own on the connection that a client opened.
Plain-function handlers run inside `data_received`, and all answers of one read leave in one write; that is the hot path, and it
makes no task, future or queue entry per message. Everything here runs on the event loop's thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from time import monotonic
from types import CoroutineType
from typing import Any, NamedTuple

from rocketmq_common.message_ids import pack_host
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.budget import MemoryBudget
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import (
    DECODE_ERRORS,
    PLAIN_ANSWER,
    Buffer,
    Command,
    Header,
    Response,
    decode_command,
    decode_envelope,
    encode_request,
    encode_response,
    whole_decoder,
)
from rocketmq_remoting.errors import (
    FrameError,
    RemotingConnectError,
    RemotingError,
    RemotingOverloaded,
    RemotingTimeout,
)
from rocketmq_remoting.frames import FrameReader, pack_frame_head
from rocketmq_remoting.latencies import LatencyBuckets
from rocketmq_remoting.limits import Limits

logger = logging.getLogger(__name__)

_UNKNOWN_HOST = b"\0\0\0\0\0\0\0\0"
JOIN_MAX = 128 * 1024  # bytes; larger answers are handed over in pieces instead of copied together
OPAQUE_MASK = 0x7FFFFFFF
# Where a code of two or three digits stands in a header that begins with {"code": and what follows it.
CODE_START, CODE_END = 8, 12

# Ready JSON bytes are the shortest answer: success with these extension fields, no remark, no body.
Outcome = Response | bytes | Awaitable[Response | None] | None
Handler = Callable[["Connection", Command, Any], Outcome]


class Route(NamedTuple):
    """A row of the table: which request, what its header is (``None``: not decoded), who answers it."""

    code: int
    header: type[Header] | None
    handle: Handler


class Endpoint:
    """What all connections of one server or client share: the table, the limits, the owner of tasks, the counters."""

    def __init__(
        self,
        routes: Sequence[Route],
        limits: Limits,
        *,
        fallback: Handler | None = None,
        check: Callable[[Connection, Command], None] | None = None,
    ) -> None:
        self.routes: dict[int, Route] = {}
        for route in routes:
            if route.code in self.routes:
                raise ValueError(f"request code {route.code} stands twice in the table")
            self.routes[route.code] = route
        # Java's clients and Go's begin a header with the code, so what follows it can be decoded as that request's at once.
        self.whole_decoders: dict[bytes, Callable[[bytes], Command]] = {
            f'{route.code},"'.encode()[: CODE_END - CODE_START]: whole_decoder(route.header)
            for route in routes
            if route.header is not None and 10 <= route.code < 1000
        }
        self.limits = limits
        self.fallback = fallback
        self.check = check
        self.tasks = TaskRegistry()
        self.connections: set[Connection] = set()
        self.latencies: dict[tuple[int, int, bool], LatencyBuckets] = {}
        self.on_connect: list[Callable[[Connection], None]] = []
        self.on_disconnect: list[Callable[[Connection], None]] = []
        self.is_draining = False
        # Of the whole process, where there is one.
        self.budget: MemoryBudget | None = None

    def count(self, code: int, response_code: int, elapsed: float, held: bool, times: int = 1) -> None:
        """Note ``times`` requests answered after ``elapsed`` seconds; ``held``: after their read (long polls, group commits)."""
        key = (code, response_code, held)
        buckets = self.latencies.get(key)
        if buckets is None:
            buckets = self.latencies[key] = LatencyBuckets()
        buckets.add(elapsed * 1000, times)


class Connection(asyncio.Protocol):
    """See the module. ``state`` belongs to whoever owns the endpoint; ``remote`` is ``ip:port`` of the other side."""

    def __init__(self, endpoint: Endpoint, *, is_server: bool) -> None:
        self.endpoint = endpoint
        self.is_server = is_server
        self.state: dict[str, Any] = {}
        self.on_close: list[Callable[[Connection], None]] = []
        self.remote = "?"
        self.peer_host = _UNKNOWN_HOST
        self.local = "?"
        self.last_active = 0.0
        self.partial_since = 0.0
        self.is_closed = False
        self.close_reason = "closed by the other side"
        limits = endpoint.limits
        self._routes: Mapping[int, Route] = endpoint.routes
        self._reader = FrameReader(frame_size_max=limits.frame_size_max, header_size_max=limits.header_size_max)
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._out: list[Buffer] = []
        self._out_size = 0
        self._is_batching = False
        self._is_flush_scheduled = False
        self._in_flight = 0
        # Bodies of requests that are not answered yet.
        self._kept_size = 0
        self._is_counted = False
        self._is_paused_by_peer = False
        self._is_reading_paused = False
        self._pending: dict[int, tuple[asyncio.Future[Command], int]] = {}
        self._next_opaque = 0
        self._backlog: Iterator[Any] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    # -- what the owner may do ---------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests taken from the other side and not answered yet."""
        return self._in_flight

    def respond(self, command: Command, response: Response) -> None:
        """Answer a request that a handler kept by returning ``None``; without effect once the connection is closed."""
        if not command.flag & 2:
            self._in_flight -= 1
            self._kept_size -= command.kept_size
        self._answer(command, response, held=True)
        if self._is_reading_paused:
            self._update_reading()

    def dismiss(self, command: Command) -> None:
        """Give up a kept request without an answer, for example because its owner stops."""
        if not command.flag & 2:
            self._in_flight -= 1
            self._kept_size -= command.kept_size
        if self._is_reading_paused:
            self._update_reading()

    def notify(
        self,
        code: int,
        header: Header | Mapping[str, str] | bytes | None = None,
        body: Buffer = b"",
        *,
        remark: str | None = None,
    ) -> None:
        """Send a one-way request; without effect once the connection is closed."""
        if not self.is_closed:
            self._send([encode_request(code, self._opaque(), header, body, oneway=True, remark=remark)])

    async def invoke(
        self,
        code: int,
        header: Header | Mapping[str, str] | bytes | None = None,
        body: Buffer = b"",
        *,
        timeout_ms: float = 3000,
        remark: str | None = None,
    ) -> Command:
        """Send a request and wait for its answer, whatever its code.

        Raises RemotingTimeout, RemotingConnectError when the connection breaks, RemotingOverloaded beyond ``pending_calls_max``.
        """
        if self.is_closed:
            raise RemotingConnectError(self.remote, self.close_reason)
        if len(self._pending) >= self.endpoint.limits.pending_calls_max:
            raise RemotingOverloaded(f"{len(self._pending)} requests to {self.remote} are unanswered")
        if not self._writable.is_set():
            await self.wait_writable(code, timeout_ms)
        opaque = self._opaque()
        future: asyncio.Future[Command] = self._loop.create_future()
        self._pending[opaque] = (future, code)
        timer = self._loop.call_later(timeout_ms / 1000, self._expire, opaque, timeout_ms)
        try:
            self._send([encode_request(code, opaque, header, body, remark=remark)])
            return await future
        finally:
            timer.cancel()
            self._pending.pop(opaque, None)

    async def wait_writable(self, code: int, timeout_ms: float) -> None:
        """Wait until the other side reads on; whoever sends many one-way requests (``code``) must, for nothing else slows it.

        Raises RemotingTimeout, RemotingConnectError.
        """
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                await self._writable.wait()
        except TimeoutError:
            raise RemotingTimeout(self.remote, code, timeout_ms) from None
        if self.is_closed:
            raise RemotingConnectError(self.remote, self.close_reason)

    def close(self, reason: str) -> None:
        """Close after sending what is already handed over; the reason goes to the log."""
        if self._transport is not None and not self.is_closed:
            self.close_reason = reason
            self._flush()
            self._transport.close()

    def abort(self, reason: str) -> None:
        """Close at once and drop unsent bytes; for peers that break the protocol or do not read."""
        if self._transport is not None and not self.is_closed:
            self.close_reason = reason
            logger.warning("connection from %s dropped: %s", self.remote, reason)
            self._transport.abort()

    # -- asyncio's side ----------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A socket is there."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        if peer:
            host = peer[0].removeprefix("::ffff:")
            self.remote = f"[{host}]:{peer[1]}" if ":" in host else f"{host}:{peer[1]}"
            self.peer_host = pack_host(host, peer[1])
        name = transport.get_extra_info("sockname")
        if name:
            self.local = f"{name[0]}:{name[1]}"
        self.last_active = monotonic()
        limits = self.endpoint.limits
        self._transport.set_write_buffer_limits(high=limits.write_buffer_high)  # type: ignore[union-attr]
        connections = self.endpoint.connections
        if self.is_server and len(connections) >= limits.connections_max:
            self.abort(f"{len(connections)} connections are open, {limits.connections_max} are allowed")
            return
        connections.add(self)
        for callback in self.endpoint.on_connect:
            callback(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone: calls fail, owners are told once."""
        if self.is_closed:
            return
        self.is_closed = True
        if exc is not None:
            self.close_reason = str(exc) or type(exc).__name__
        self._writable.set()
        known = self in self.endpoint.connections
        self.endpoint.connections.discard(self)
        for future, _ in list(self._pending.values()):
            if not future.done():
                future.set_exception(RemotingConnectError(self.remote, self.close_reason))
        self._pending.clear()
        self._out.clear()
        self._backlog = None
        if self._is_counted and self.endpoint.budget is not None:
            self.endpoint.budget.note(self, 0)
        if known:
            for callback in (*self.on_close, *self.endpoint.on_disconnect):
                callback(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came: take every whole frame, then send all answers at once."""
        now = self.last_active = monotonic()
        reader = self._reader
        try:
            frames = reader.feed(data)
        except FrameError as error:
            self.abort(str(error))
            return
        self.partial_since = (self.partial_since or now) if reader.pending else 0.0
        if reader.pending:
            self._count_held()
        if frames:
            if self._backlog is None:
                self._take(iter(frames), now)
            else:
                self._backlog = _chain(self._backlog, frames)

    def pause_writing(self) -> None:
        """The other side reads slower than we answer: take no more from it."""
        self._is_paused_by_peer = True
        self._writable.clear()
        self._update_reading()

    def resume_writing(self) -> None:
        """The other side has caught up."""
        self._is_paused_by_peer = False
        self._writable.set()
        self._update_reading()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take(self, frames: Iterator[Any], now: float) -> None:
        """Dispatch frames until they end or a bound is reached; the rest then waits in ``_backlog``.

        The loop body is the hot path of a server: plain answers are encoded here, and counted once per run of equal requests, with
        the time until all of them leave together.
        """
        endpoint = self.endpoint
        limits = endpoint.limits
        out_size_max = limits.write_buffer_high
        # A check looks at the fields as they came, before anything else does.
        is_unchecked = endpoint.check is None
        routes = self._routes if is_unchecked else {}
        wholes = endpoint.whole_decoders if is_unchecked else {}
        counted_code = counted = 0
        out = self._out
        self._is_batching = True
        self._backlog = None
        try:
            for frame in frames:
                serialize_type, raw, body = frame
                whole = wholes.get(raw[CODE_START:CODE_END]) if serialize_type == 0 else None
                try:
                    if whole is not None:
                        try:
                            command = whole(raw)
                        except DECODE_ERRORS:
                            command = decode_envelope(raw)
                        command.raw = raw
                    elif serialize_type == 0:
                        command = decode_envelope(raw)
                    else:
                        command = decode_command(frame)
                    command.body = body
                except DECODE_ERRORS:
                    command = decode_command(frame)
                command.received = now
                flag = command.flag
                if flag & 1:
                    self._take_response(command)
                    continue
                code = command.code
                route = routes.get(code)
                if route is None:
                    self._dispatch(command)
                else:
                    _, header_type, handle = route
                    try:
                        ext: Any = command.ext
                        if header_type is None:
                            outcome = handle(self, command, None)
                        elif type(ext) is header_type:
                            outcome = handle(self, command, ext)
                        else:
                            outcome = handle(self, command, command.header(header_type))
                    except RemotingError as error:
                        outcome = Response(error.code, remark=error.remark)
                    except Exception as error:  # noqa: BLE001 - one request's bug must not cost the others
                        outcome = answer_bug(command, error)
                    if type(outcome) is bytes:
                        if code != counted_code:
                            if counted:
                                endpoint.count(counted_code, 0, monotonic() - now, False, counted)
                            counted_code, counted = code, 0
                        counted += 1
                        if flag & 2:
                            continue
                        answer = PLAIN_ANSWER % (outcome, command.opaque)
                        size = len(answer)
                        out += (pack_frame_head(4 + size, size), answer)
                        self._out_size += 8 + size
                        if self._out_size <= out_size_max:
                            # Nothing else that is looked at below can have changed.
                            continue
                    else:
                        self._conclude(command, outcome)
                if self._out_size > out_size_max:
                    self._flush()
                    out = self._out
                if (
                    self._in_flight >= limits.in_flight_max
                    or self._is_paused_by_peer
                    or (self._kept_size and self._is_full)
                ):
                    self._backlog = frames
                    break
        except FrameError as error:
            self.abort(str(error))
            return
        finally:
            self._is_batching = False
        self._flush()
        if counted:
            endpoint.count(counted_code, 0, monotonic() - now, False, counted)
        if self._kept_size or self._is_counted:
            self._count_held()
        if self._backlog is not None or self._is_reading_paused:
            self._update_reading()

    def _dispatch(self, command: Command) -> None:
        endpoint = self.endpoint
        route = self._routes.get(command.code)
        try:
            if endpoint.check is not None:
                endpoint.check(self, command)
            if route is None:
                if endpoint.fallback is None:
                    raise RemotingError(
                        ResponseCode.REQUEST_CODE_NOT_SUPPORTED, f" request type {command.code} not supported"
                    )
                outcome = endpoint.fallback(self, command, None)
            else:
                header_type = route.header
                outcome = route.handle(self, command, None if header_type is None else command.header(header_type))
        except RemotingError as error:
            self._answer(command, Response(error.code, remark=error.remark), held=False)
            return
        except Exception as error:  # noqa: BLE001 - one request's bug must not cost the connection its other requests
            self._answer(command, answer_bug(command, error), held=False)
            return
        self._conclude(command, outcome)

    def _conclude(self, command: Command, outcome: Outcome) -> None:
        """Answer now, or note that an answer is owed."""
        if type(outcome) is Response:
            self._answer(command, outcome, held=False)
            return
        if type(outcome) is bytes:
            self._answer(command, Response(0, outcome), held=False)
            return
        if not command.flag & 2:
            self._in_flight += 1
            command.kept_size = len(command.body)
            self._kept_size += command.kept_size
        if outcome is not None:
            self._start(command, outcome)  # type: ignore[arg-type]

    def _start(self, command: Command, outcome: Awaitable[Response | None]) -> None:
        async def finish() -> None:
            try:
                response = await outcome
            except RemotingError as error:
                response = Response(error.code, remark=error.remark)
            except Exception as error:  # noqa: BLE001 - see _dispatch
                response = answer_bug(command, error)
            except asyncio.CancelledError:
                self.dismiss(command)
                raise
            if response is not None:
                self.respond(command, response)

        try:
            self.endpoint.tasks.start(finish(), f"request {command.code} of {self.remote}")
        except RuntimeError as error:
            if isinstance(outcome, CoroutineType):
                outcome.close()
            self.respond(command, Response(ResponseCode.SYSTEM_BUSY, remark=f"[OVERLOAD]system busy: {error}"))

    def _answer(self, command: Command, response: Response, *, held: bool) -> None:
        self.endpoint.count(command.code, response.code, monotonic() - command.received, held, 1)
        if command.flag & 2 or self.is_closed:
            return
        buffers = encode_response(command.opaque, response)
        self._out += buffers
        for buffer in buffers:
            self._out_size += len(buffer)
        if not self._is_batching and not self._is_flush_scheduled:
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _send(self, buffers: Sequence[Buffer]) -> None:
        self._out += buffers
        self._out_size += sum(map(len, buffers))
        if not self._is_batching and not self._is_flush_scheduled:
            # Calls made in one turn of the loop leave together.
            self._is_flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_scheduled = False
        out = self._out
        if not out or self._transport is None or self.is_closed:
            return
        self._out = []
        size = self._out_size
        self._out_size = 0
        transport = self._transport
        if len(out) == 1:
            transport.write(out[0])
        elif size <= JOIN_MAX:
            transport.write(b"".join(out))
        else:
            transport.writelines(out)
        self.last_active = monotonic()
        unsent = transport.get_write_buffer_size()
        if unsent > self.endpoint.limits.write_buffer_max:
            self.abort(f"{unsent} bytes unread by the other side, {self.endpoint.limits.write_buffer_max} are allowed")
        elif unsent:
            self._count_held()

    def _take_response(self, command: Command) -> None:
        entry = self._pending.pop(command.opaque, None)
        if entry is None:
            logger.debug("late or unknown answer %d from %s", command.opaque, self.remote)
            return
        future = entry[0]
        if not future.done():
            future.set_result(command)

    def _expire(self, opaque: int, timeout_ms: float) -> None:
        entry = self._pending.pop(opaque, None)
        if entry is not None and not entry[0].done():
            entry[0].set_exception(RemotingTimeout(self.remote, entry[1], timeout_ms))

    def _opaque(self) -> int:
        self._next_opaque = (self._next_opaque + 1) & OPAQUE_MASK
        return self._next_opaque

    def held_bytes(self) -> int:
        """Half a frame, bodies of requests that are not answered yet, and answers that the other side has not read."""
        transport = self._transport
        if transport is None or self.is_closed:
            return 0
        return self._reader.pending + self._kept_size + transport.get_write_buffer_size()

    def _count_held(self) -> None:
        budget = self.endpoint.budget
        if budget is not None:
            held = self.held_bytes()
            self._is_counted = held > 0
            budget.note(self, held)

    @property
    def _is_full(self) -> bool:
        if self._is_paused_by_peer or self._in_flight >= self.endpoint.limits.in_flight_max:
            return True
        budget = self.endpoint.budget
        return budget is not None and self._kept_size > 0 and budget.is_pressed

    def _update_reading(self) -> None:
        """Read exactly when nothing waits: no unsent bytes beyond the mark, no frames beyond the in-flight bound."""
        if self._transport is None or self.is_closed or self._is_batching:
            return
        is_full = self._is_full
        if self._backlog is not None and not is_full:
            self._take(self._backlog, monotonic())  # comes back here
            return
        wanted = is_full or self._backlog is not None
        if wanted and not self._is_reading_paused:
            self._is_reading_paused = True
            self._transport.pause_reading()
        elif not wanted and self._is_reading_paused:
            self._is_reading_paused = False
            self._transport.resume_reading()


def _chain(first: Iterator[Any], second: Sequence[Any]) -> Iterator[Any]:
    yield from first
    yield from second


def answer_bug(command: Command, error: Exception) -> Response:
    """What is answered when a handler failed by a fault of ours; it is logged."""
    logger.error("request %d failed", command.code, exc_info=error)
    return Response(ResponseCode.SYSTEM_ERROR, remark=f"{type(error).__name__}: {error}")
