"""What was sent, what was answered, what is there: the judge of every test that breaks something.

The rules: nothing acknowledged is lost or stands elsewhere than its answer said, nothing is there that was never sent, offsets
are dense (who reads the queues sees to that), one sender's messages keep their order within a queue, what a consumer has seen at an
offset stays there, committed offsets neither go back nor beyond the end. Numbers identify messages; a queue is anything that
can be a key. Feed a history from one thread.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

# For each queue the numbers in it from its first offset on.
Found = Mapping[Hashable, Sequence[int]]


class Verdict(NamedTuple):
    """Violations in words, by kind; all empty when every rule holds."""

    lost: list[str]
    phantoms: list[str]
    disorder: list[str]

    def all(self) -> list[str]:
        """Everything, the worst first."""
        return self.lost + self.phantoms + self.disorder


@dataclass(slots=True)
class History:
    """One run. ``acknowledged`` maps a number to the place that the answer named; ``answered_at`` to its monotonic time.

    A send answered with less than success (stored, but the mode's promise was not kept) belongs into ``attempted`` only.
    """

    attempted: set[int] = field(default_factory=set)
    acknowledged: dict[int, tuple[Hashable, int]] = field(default_factory=dict)
    answered_at: dict[int, float] = field(default_factory=dict)
    seen: dict[tuple[Hashable, int], int] = field(default_factory=dict)
    committed: dict[tuple[str, Hashable], int] = field(default_factory=dict)

    def acknowledge(self, number: int, queue: Hashable, offset: int, at: float = 0.0) -> None:
        """The send was answered with success."""
        self.acknowledged[number] = (queue, offset)
        self.answered_at[number] = at

    def judge(
        self, found: Found, *, first_offsets: Mapping[Hashable, int] | None = None, ordered: bool = True
    ) -> Verdict:
        """Compare with what is there. ``first_offsets``: where queues begin (0 unless named); what lay before counts as expired.

        ``ordered``: one sender wrote one message after the other and never again, so queues must be in order without doubles.
        """
        firsts = first_offsets or {}
        lost: list[str] = []
        phantoms: list[str] = []
        disorder: list[str] = []
        places: dict[int, list[tuple[Hashable, int]]] = defaultdict(list)
        for queue, numbers in found.items():
            for offset, number in enumerate(numbers, firsts.get(queue, 0)):
                places[number].append((queue, offset))
                if number not in self.attempted:
                    phantoms.append(f"phantom: {number} at {queue}:{offset} was never sent")
            if ordered:
                disorder += [f"order: {b} after {a} in queue {queue}" for a, b in itertools.pairwise(numbers) if b <= a]
        for number, place in self.acknowledged.items():
            if place[1] < firsts.get(place[0], 0):
                continue
            if place not in places.get(number, []):
                lost.append(
                    f"lost: {number} was acknowledged at {place[0]}:{place[1]} and is at {places.get(number, 'no place')}"
                )
            if ordered and len(places.get(number, [])) > 1:
                disorder.append(f"twice: {number} at {places[number]}")
        return Verdict(lost, phantoms, disorder)

    def problems(self, found: Found) -> list[str]:
        """`judge` as one list, for an assertion."""
        return self.judge(found).all()

    def observe(self, found: Found) -> list[str]:
        """Remember what consumers could read now; tells places whose message is another than before, or gone."""
        problems = []
        for (queue, offset), number in self.seen.items():
            numbers = found.get(queue, ())
            now = numbers[offset] if offset < len(numbers) else None
            if now != number:
                problems.append(f"changed: {queue}:{offset} was {number} and is {'gone' if now is None else now}")
        for queue, numbers in found.items():
            self.seen.update({(queue, offset): number for offset, number in enumerate(numbers)})
        return problems

    def commit(self, group: str, queue: Hashable, offset: int) -> None:
        """A consumer's commit was answered with success."""
        self.committed[group, queue] = offset

    def commit_problems(self, now: Mapping[tuple[str, Hashable], int], ends: Mapping[Hashable, int]) -> list[str]:
        """Committed offsets that went back, or that lie beyond the end of their queue."""
        problems = []
        for (group, queue), offset in self.committed.items():
            current = now.get((group, queue), -1)
            if current < offset:
                problems.append(f"committed: {group} at queue {queue} went back from {offset} to {current}")
            if current > ends.get(queue, 0):
                problems.append(
                    f"committed: {group} at queue {queue} is {current}, beyond the end {ends.get(queue, 0)}"
                )
        return problems

    def lost_tail(self, found: Found) -> tuple[list[int], list[str]]:
        """What an asynchronous flush may cost: (numbers acknowledged but gone, violations).

        Numbers of one sequential sender were stored in their order, so what is left must be all up to some number: a gap below
        it is a hole, which no mode allows.
        """
        present = {number for numbers in found.values() for number in numbers}
        gone = sorted(number for number in self.acknowledged if number not in present)
        newest = max(present, default=-1)
        holes = [f"hole: {number} is gone although {newest} is there" for number in gone if number < newest]
        return gone, holes
