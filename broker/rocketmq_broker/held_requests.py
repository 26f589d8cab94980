"""Requests that are answered later: which ones wait, on which connection, and until when."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from typing import Final, Generic, TypeVar

from rocketmq_remoting.commands import Command
from rocketmq_remoting.connection import Connection

HOLD_MS_MAX: Final = 300_000


class HeldRequest:
    """One waiting request."""

    __slots__ = ("command", "connection", "timer")

    def __init__(self, connection: Connection, command: Command) -> None:
        self.connection = connection
        self.command = command
        self.timer: asyncio.TimerHandle | None = None


R = TypeVar("R", bound=HeldRequest)


class HeldRequests(ABC, Generic[R]):
    """All waiting requests of one kind. Subclasses know for what each waits, and bound how many do."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._by_connection: dict[Connection, dict[R, None]] = {}
        self.count = 0

    def drop(self, connection: Connection) -> None:
        """The connection closed; its requests are not answered."""
        for held in self._by_connection.pop(connection, ()):
            self._remove(held)

    @abstractmethod
    def _take_out(self, held: R) -> bool:
        """``held`` waits no longer; whether it did."""

    @abstractmethod
    def _give_up(self, held: R) -> None:
        """The time of ``held`` is over: answer it in any case."""

    def _keep(self, held: R, timeout_ms: float) -> None:
        self._by_connection.setdefault(held.connection, {})[held] = None
        self.count += 1
        held.timer = self._loop.call_later(min(max(timeout_ms, 0), HOLD_MS_MAX) / 1000, self._expire, held)

    def _expire(self, held: R) -> None:
        self._forget(held)
        self._give_up(held)

    def _forget(self, held: R) -> None:
        of_connection = self._by_connection.get(held.connection)
        if of_connection is not None:
            of_connection.pop(held, None)
            if not of_connection:
                del self._by_connection[held.connection]
        self._remove(held)

    def _remove(self, held: R) -> None:
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        if self._take_out(held):
            self.count -= 1
