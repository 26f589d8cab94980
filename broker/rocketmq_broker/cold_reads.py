"""Requests that read what has left memory: answered a little later, while the broker goes on with the others.

A handler given to `reading` must be one that may be called again from its beginning when the store raised `Absent`: it is called
until everything that it touches is in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Handler, Outcome
from rocketmq_remoting.errors import RemotingError
from rocketmq_store.residency import Absent
from rocketmq_store.store import MessageStore

# Fetches for one request, each for what the one before did not know of (a chain of the index); then it reads and waits.
ATTEMPTS_MAX: Final = 100


def reading(store: MessageStore, handle: Callable[[Connection, Command, Any], Response | None]) -> Handler:
    """``handle``, whose reads of the store do not hold up the loop."""
    residency = store.residency

    def handle_reading(connection: Connection, command: Command, header: Any) -> Outcome:
        residency.is_strict = True
        try:
            return handle(connection, command, header)
        except Absent as absent:
            first = absent
        finally:
            residency.is_strict = False
        return _answer_later(store, first, handle, connection, command, header)

    return handle_reading


async def _answer_later(
    store: MessageStore,
    absent: Absent,
    handle: Callable[[Connection, Command, Any], Response | None],
    connection: Connection,
    command: Command,
    header: Any,
) -> Response | None:
    for _ in range(ATTEMPTS_MAX):
        await fetch(store, absent)
        if connection.is_closed:
            return None
        try:
            return store.residency.from_memory(lambda: handle(connection, command, header))
        except Absent as more:
            absent = more
    return handle(connection, command, header)


async def fetch(store: MessageStore, absent: Absent) -> None:
    """Return once what is absent was read. Raises RemotingError when the disk fails or too many reads wait for it."""
    fetched: asyncio.Future[OSError | None] = asyncio.get_running_loop().create_future()

    def end(error: OSError | None) -> None:
        if not fetched.done():
            fetched.set_result(error)

    if not store.cold_reader.read(absent, end):
        raise RemotingError(
            ResponseCode.SYSTEM_BUSY,
            f"[OVERLOAD]system busy: {store.cold_reader.waiting_count} reads wait for the disk",
        )
    error = await fetched
    if error is not None:
        raise RemotingError(ResponseCode.SYSTEM_ERROR, f"the disk does not give what was asked for: {error}") from error
