"""A seeded world in one thread: virtual time, a queue of events, a network that delays, loses and parts.

A run is a function of its seed alone, so whatever it finds can be run again. Nodes are names; what a node does is a callable that
the world calls when its time comes. A frozen node (SIGSTOP) finds everything that was meant for it when it goes on.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable

EVENT_COUNT_MAX = 2_000_000


class Simulation:
    """See the module. ``invariant`` is called after every event and raises AssertionError when something must not be."""

    def __init__(self, seed: int, *, delay_s: tuple[float, float] = (0.001, 0.05), loss: float = 0.0) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.invariant: Callable[[], None] = lambda: None
        self.loss = loss
        self.trace: list[str] = []
        self._delay_s = delay_s
        self._events: list[tuple[float, int, str, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._arrivals: dict[tuple[str, str], float] = {}
        self._blocked: set[tuple[str, str]] = set()
        self._frozen: dict[str, list[Callable[[], None]]] = {}

    def note(self, text: str) -> None:
        """Remember what happened, for the story of a seed that failed."""
        self.trace.append(f"{self.now:9.3f} {text}")

    def after(self, delay_s: float, node: str, action: Callable[[], None]) -> None:
        """Have ``node`` do ``action`` in ``delay_s`` seconds."""
        heapq.heappush(self._events, (self.now + delay_s, next(self._numbers), node, action))

    def send(self, source: str, target: str, action: Callable[[], None]) -> None:
        """A message: ``action`` happens at ``target``, in the order of sending, unless the network loses it."""
        if (source, target) in self._blocked or self.random.random() < self.loss:
            return
        arrival = max(self._arrivals.get((source, target), 0.0), self.now + self.random.uniform(*self._delay_s))
        self._arrivals[source, target] = arrival
        self.after(arrival - self.now, target, action)

    def block(self, source: str, target: str) -> None:
        """Lose what ``source`` sends to ``target`` from now on; one way only."""
        self._blocked.add((source, target))

    def heal(self) -> None:
        """The network is whole again."""
        self._blocked.clear()

    def freeze(self, node: str) -> None:
        """Nothing happens at ``node`` until `thaw`."""
        self._frozen.setdefault(node, [])

    def thaw(self, node: str) -> None:
        """Let ``node`` go on, with everything that waited for it, in order."""
        for action in self._frozen.pop(node, []):
            self.after(0.0, node, action)

    @property
    def frozen(self) -> frozenset[str]:
        """Nodes at which nothing happens."""
        return frozenset(self._frozen)

    def run_until(self, time_s: float) -> None:
        """Let everything happen up to ``time_s``. Raises AssertionError with the end of the story when the invariant fails."""
        events = self._events
        while events and events[0][0] <= time_s:
            if next(self._numbers) > EVENT_COUNT_MAX:
                raise AssertionError(f"more than {EVENT_COUNT_MAX} events: the simulated system does not come to rest")
            self.now, _, node, action = heapq.heappop(events)
            if node in self._frozen:
                self._frozen[node].append(action)
                continue
            action()
            self.invariant()
        self.now = time_s
