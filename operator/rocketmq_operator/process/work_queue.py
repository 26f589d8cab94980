"""What has to be looked at: each key once, one worker per key at a time, failures again with growing pauses.

A key that is added while it is worked on is worked on once more afterwards, so no change is missed; how often it is added meanwhile
makes no difference.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from typing import NamedTuple

KEYS_MAX = 50_000
BACKOFF_SECONDS_MIN = 1.0
BACKOFF_SECONDS_MAX = 60.0


class Key(NamedTuple):
    """One object to look at."""

    kind: str
    namespace: str
    name: str


class WorkQueue:
    """See the module. All calls from one event loop; times are seconds of its clock."""

    def __init__(self, rng: random.Random | None = None) -> None:
        self._random = rng or random.Random()
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._order = itertools.count()
        self._working: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._due)

    @property
    def oldest_age(self) -> float:
        """For how many seconds the longest waiting key has been due; 0 when none is."""
        due = min((at for key, at in self._due.items() if key not in self._working), default=None)
        return 0.0 if due is None else max(self._loop.time() - due, 0.0)

    def add(self, key: Key, after_seconds: float = 0.0) -> None:
        """Look at ``key`` after that time, or sooner if it is waiting for less already."""
        at = self._loop.time() + after_seconds
        if key in self._due:
            if self._due[key] <= at:
                return
        elif len(self._due) >= KEYS_MAX:
            # The resync brings it back; unbounded memory would not come back.
            self.dropped += 1
            return
        self._due[key] = at
        heapq.heappush(self._heap, (at, next(self._order), key))
        self._changed.set()

    async def take(self) -> Key:
        """The next due key; nobody else gets it before `done` or `failed`."""
        while True:
            key = self._next()
            if key is not None:
                del self._due[key]
                self._working.add(key)
                return key
            self._changed.clear()
            wait = self._heap[0][0] - self._loop.time() if self._heap else None
            try:
                async with asyncio.timeout(None if wait is None else max(wait, 0.0)):
                    await self._changed.wait()
            except TimeoutError:
                pass

    def done(self, key: Key, again_after_seconds: float | None = None) -> None:
        """The work on ``key`` succeeded."""
        self._failures.pop(key, None)
        self._finish(key, again_after_seconds)

    def failed(self, key: Key) -> float:
        """The work on ``key`` failed; it is due again after the returned seconds."""
        count = self._failures.get(key, 0)
        self._failures[key] = min(count + 1, 16)
        pause: float = min(BACKOFF_SECONDS_MIN * 2**count, BACKOFF_SECONDS_MAX) * self._random.uniform(0.75, 1.25)
        self._finish(key, pause)
        return pause

    # -- inside ------------------------------------------------------------------------------------------------------

    def _finish(self, key: Key, after_seconds: float | None) -> None:
        self._working.discard(key)
        if key in self._due:
            # Its entry was passed over while it was worked on.
            heapq.heappush(self._heap, (self._due[key], next(self._order), key))
        if after_seconds is not None:
            self.add(key, after_seconds)
        self._changed.set()

    def _next(self) -> Key | None:
        now = self._loop.time()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._due.get(key) == at and key not in self._working:
                return key
        return None
