"""One bound for all that clients make a server hold: halves of frames, bodies of requests under way, answers that are not read.

Each connection has bounds of its own, but twenty thousand of them add up. Counted is what a connection holds whenever it read or
wrote; where nothing is held, nothing is counted. From half of the budget on, connections with requests under way are not read any
more until these are answered; beyond it whoever holds most is dropped.
"""

from __future__ import annotations

from typing import Protocol


class Holder(Protocol):
    """A connection."""

    def held_bytes(self) -> int:
        """What it holds at this moment."""
        ...

    def abort(self, reason: str) -> None:
        """Drop it with everything that it holds."""
        ...


class MemoryBudget:
    """Shared by the servers of one process; used on the event loop only."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.dropped_count = 0
        # Only of those that hold something.
        self._held: dict[Holder, int] = {}

    @property
    def is_pressed(self) -> bool:
        """Whether whoever has requests under way should wait."""
        return self.used_bytes * 2 > self.limit_bytes

    def note(self, holder: Holder, held_bytes: int) -> None:
        """``holder`` holds this much now."""
        self._set(holder, held_bytes)
        if self.used_bytes > self.limit_bytes:
            self._relieve()

    def recount(self) -> None:
        """Ask all: transports do not tell when a peer has read what was below their mark."""
        for holder in list(self._held):
            self._set(holder, holder.held_bytes())

    def _set(self, holder: Holder, held_bytes: int) -> None:
        before = self._held.pop(holder, 0)
        if held_bytes:
            self._held[holder] = held_bytes
        self.used_bytes += held_bytes - before

    def _relieve(self) -> None:
        self.recount()
        while self.used_bytes > self.limit_bytes:
            largest = max(self._held, key=self._held.__getitem__)
            reason = (
                f"clients make this server hold {self.used_bytes} bytes, {self.limit_bytes} are allowed, and this one holds "
                f"{self._held[largest]} of them"
            )
            self._set(largest, 0)
            self.dropped_count += 1
            largest.abort(reason)
