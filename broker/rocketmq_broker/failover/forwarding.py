"""Requests for the master that reach a replica which is not: passed on to the master, whose answer is the answer.

Clients ask for routes each half minute, and a failed send does not make Java's ask earlier; a broker has no words to tell them. A
killed master is back as a slave much sooner, and a deposed one never went away: both know the new master from the lease. While a
group has no master, requests are kept for less than a client's patience (3 s), so that a planned switchover fails none.

A master pays nothing for it: rows of the servers' tables are exchanged while the replica is not master.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Final

from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Outcome, Route
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout

CODES: Final = frozenset(
    {
        RequestCode.SEND_MESSAGE, RequestCode.SEND_MESSAGE_V2, RequestCode.SEND_BATCH_MESSAGE, RequestCode.CONSUMER_SEND_MSG_BACK,
        RequestCode.END_TRANSACTION, RequestCode.RECALL_MESSAGE,
    }
)  # fmt: skip
# In the remark, which no client sets and no signature covers: what was passed on once is answered here.
PASSED_ON: Final = "passed on by another replica"
NOT_MASTER: Final = "this broker is not the master of its group: send again"
# Clients give up after 3 s, all their tries together.
MASTER_WAIT_MS: Final = 2000
MASTER_POLL_MS: Final = 20
CALL_TIMEOUT_MS: Final = 5000
REQUESTS_MAX: Final = 4096
BYTES_MAX: Final = 64 << 20


class Forwarding:
    """See the module. ``master`` tells the address of the group's master, empty while there is none or it is this broker."""

    def __init__(self, client: RemotingClient, master: Callable[[], str]) -> None:
        self._client = client
        self._master = master
        self._tables: tuple[dict[int, Route], ...] = ()
        self._own: dict[int, Route] = {}
        # What came first is passed on first: one sender's messages of a queue keep their order.
        self._turn = asyncio.Lock()
        self._tasks: set[asyncio.Task[object]] = set()
        self._size = 0
        self.passed_on_count = 0
        self.is_active = False
        # Somebody waits for the master to be known.
        self.is_waiting = False

    def attach(self, *tables: dict[int, Route]) -> None:
        """The tables of the servers whose rows are exchanged, all with the same rows; a replica begins as a slave."""
        self._tables = tables
        self._own = {code: tables[0][code] for code in CODES if code in tables[0]}
        self.begin()

    def begin(self) -> None:
        """This replica is not the master, or will not be in a moment."""
        if not self.is_active:
            self.is_active = True
            self._exchange({code: Route(code, None, self._take) for code in self._own})

    def end(self) -> None:
        """This replica is the master."""
        if self.is_active:
            self.is_active = False
            self._exchange(self._own)

    def close(self) -> None:
        """Give up what is kept without an answer: its clients try again as soon as their connections close."""
        for task in self._tasks:
            task.cancel()

    def _exchange(self, rows: dict[int, Route]) -> None:
        for table in self._tables:
            table.update(rows)

    def _take(self, connection: Connection, command: Command, _: None) -> Outcome:
        if command.remark == PASSED_ON:
            raise RemotingError(ResponseCode.SERVICE_NOT_AVAILABLE, NOT_MASTER)
        if len(self._tasks) >= REQUESTS_MAX or self._size > BYTES_MAX:
            raise RemotingError(
                ResponseCode.SYSTEM_BUSY,
                f"[OVERLOAD]system busy: {len(self._tasks)} requests wait for the group's master",
            )
        return self._pass_on(command)

    async def _pass_on(self, command: Command) -> Response | None:
        deadline = monotonic() + MASTER_WAIT_MS / 1000
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._size += len(command.body)
        try:
            while True:
                answer = await self._answer(command, deadline)
                if answer is None or answer.code != ResponseCode.SERVICE_NOT_AVAILABLE or answer.remark != NOT_MASTER:
                    return answer
                # It was elected and does not lead yet.
                if monotonic() > deadline:
                    return answer
                await asyncio.sleep(MASTER_POLL_MS / 1000)
        except (RemotingConnectError, RemotingTimeout, RemotingOverloaded) as error:
            raise RemotingError(ResponseCode.SERVICE_NOT_AVAILABLE, f"the group's master: {error}") from error
        finally:
            self._tasks.discard(task)
            self._size -= len(command.body)

    async def _answer(self, command: Command, deadline: float) -> Response | None:
        code, ext = command.code, bytes(command.raw_ext())
        async with self._turn:
            link = await self._link(deadline)
            if command.is_oneway:
                link.notify(code, ext, command.body, remark=PASSED_ON)
                return None
            # Tasks begin in the order in which they are made.
            call = asyncio.ensure_future(
                link.invoke(code, ext, command.body, timeout_ms=CALL_TIMEOUT_MS, remark=PASSED_ON)
            )
        try:
            answer = await call
        finally:
            call.cancel()
        self.passed_on_count += 1
        return Response(answer.code, bytes(answer.raw_ext()), answer.remark, answer.body)

    async def _link(self, deadline: float) -> Connection:
        try:
            while True:
                problem = NOT_MASTER
                if address := self._master():
                    try:
                        return await self._client.connect(address)
                    except RemotingConnectError as error:
                        # The lease may name a master that died.
                        problem = f"the group's master: {error}"
                if monotonic() > deadline or not self.is_active:
                    raise RemotingError(ResponseCode.SERVICE_NOT_AVAILABLE, problem)
                self.is_waiting = True
                await asyncio.sleep(MASTER_POLL_MS / 1000)
        finally:
            self.is_waiting = False
