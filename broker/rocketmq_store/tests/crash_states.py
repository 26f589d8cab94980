"""Power cuts at every step of a store's life, each state recovered and judged against a model.

A scenario (sends, batches, rolls, cleaning, table saves, restarts, kills) runs on `MemoryFiles`. Before any step of the file
system, in any thread, the power may be cut: the state is copied together with what must survive it, and recovered apart. During
that recovery the power is cut once more. Everything follows from the seed, up to what the store's threads do at the same time.
"""

from __future__ import annotations

import json
import random
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from rocketmq_common.records import RecordError
from rocketmq_store.errors import StoreError
from rocketmq_store.statuses import PutStatus
from rocketmq_store.tests.harness import Harness
from rocketmq_testkit.memory_files import Loss, MemoryFiles

QUEUE_COUNT: Final = 3
OPEN_S_MAX: Final = 10.0
TINY: Final[dict[str, Any]] = {
    "commit_log_segment_size": 8192,
    "consume_queue_segment_size": 400,
    "index_slot_count": 23,
    "index_entry_count": 60,
    "file_reserved_hours": 1,
}
TABLE: Final = "topics.json"
# One scenario gives about so many states before another is more interesting.
STATES_PER_SCENARIO: Final = 60
STEP_COUNT: Final = 40
CUT_CHANCE: Final = 0.35
STEPS: Final = ("put", "put", "put", "batch", "flush", "checkpoint", "index", "save", "clean", "reopen", "kill", "roll")


@dataclass
class Findings:
    """What an exploration came to; ``problems`` begin with their kind."""

    states: int = 0
    lost: list[str] = field(default_factory=list)
    phantoms: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def problems(self) -> list[str]:
        return self.lost + self.phantoms + self.errors

    def add(self, other: Findings) -> None:
        self.states += other.states
        self.lost += other.lost
        self.phantoms += other.phantoms
        self.errors += other.errors


class State(NamedTuple):
    """A power cut: what it left, and what must be there. ``must_count`` counts messages in the order of the log."""

    files: MemoryFiles
    label: str
    must_count: int
    saved_generation: int
    removed_offset: int


class Explorer:
    """One scenario in one flush mode. ``directory`` is a real, empty one: only the lock file goes there."""

    def __init__(
        self,
        directory: Path,
        *,
        sync: bool,
        seed: int,
        state_count: int = STATES_PER_SCENARIO,
        files_type: type[MemoryFiles] = MemoryFiles,
    ) -> None:
        self._chance = random.Random(seed)
        self._cuts = random.Random(seed + 1)
        self._directory = directory
        self._sync = sync
        self._seed = seed
        self._state_count = state_count
        root = directory / "live"
        root.mkdir()
        (directory / "copy").mkdir()
        self.files = files_type(root)
        self.harness = Harness(root, sync=sync, files=self.files, **TINY)
        self.files.now_ms = self.harness.clock.now_ms
        # In the order of the log; a message that is just being appended is attempted but has no end yet.
        self.attempts: list[tuple[int, int]] = []
        self.starts: list[int] = []
        self.ends: list[int] = []
        self.acknowledged_count = 0
        self.saved_generation = 0
        self.generation = 0
        self.findings = Findings()
        self._states: list[State] = []
        # What was once kept, or rightly removed, stays so while a store that reopens knows nothing yet.
        self._kept_count = 0
        self._removed_offset = 0

    def run(self) -> Findings:
        """Live the scenario and judge its states."""
        self.files.on_step = self._maybe_cut
        try:
            self.harness.open()
            for _ in range(STEP_COUNT):
                self.step(self._chance.choice(STEPS))
                if not self._sync or self._chance.random() < 0.5:
                    self.harness.pump()
                self._judge_states()
                if self.findings.states >= self._state_count or self.findings.problems:
                    break
            while self.findings.states < self._state_count and not self.findings.problems:
                self._states.append(self.cut(self._cuts.choice(list(Loss)), "end"))
                self._judge_states()
        except (AssertionError, StoreError) as error:
            self._error("live", f"{type(error).__name__}: {error}")
        finally:
            self.files.on_step = None
            self.harness.abandon()
        self._judge_states()
        return self.findings

    # The scenario.

    def step(self, name: str) -> None:
        """One thing that happens to a store."""
        harness, chance = self.harness, self._chance
        if name == "put":
            self.put(chance.randrange(QUEUE_COUNT), chance.choice((10, 60, 200, 900, 3000)))
        elif name == "batch":
            self.batch(chance.randrange(QUEUE_COUNT), chance.randint(2, 12))
        elif name == "roll":
            for _ in range(4):
                self.put(chance.randrange(QUEUE_COUNT), 3000)
        elif name == "flush":
            harness.flush()
        elif name == "checkpoint":
            harness.checkpoint()
        elif name == "index":
            harness.store.build_index(chance.randint(1, 50))
        elif name == "save":
            self.save_table()
        elif name == "clean":
            harness.clock.advance(chance.choice((600_000, 2_400_000)))
            harness.store.clean(harness.clock.now_ms(), is_manual=True)
        else:
            if name == "reopen":
                harness.close()
            else:
                harness.abandon()
            self._judge_states()
            report = harness.open()
            self._kept_count = len(self.ends)
            self._compare(harness, self._kept_count, f"after {name}: {report.mode}")

    def put(self, queue_id: int, size: int) -> None:
        """Send one message."""
        number = len(self.attempts)
        self.attempts.append((queue_id, number))
        result = self.harness.put(number, queue_id, size=size)
        self._sent(result.status, [result.physical_offset], result.end_offset, result.reason)

    def batch(self, queue_id: int, count: int) -> None:
        """Send a client's batch."""
        first = len(self.attempts)
        self.attempts += [(queue_id, number) for number in range(first, first + count)]
        result = self.harness.put_batch(range(first, first + count), queue_id, size=self._chance.choice((20, 300)))
        self._sent(result.status, result.physical_offsets, result.end_offset, result.reason, count)

    def _sent(self, status: PutStatus, starts: Sequence[int], end: int, reason: str, count: int = 1) -> None:
        if status is not PutStatus.PUT_OK:
            # Only where a failure was planned: nothing of it may be there.
            del self.attempts[-count:]
            self.refused(reason)
            return
        self.starts += starts
        self.ends += [*starts[1:], end]
        total = len(self.ends)
        self.harness.store.when_durable(end, lambda answer: self._answered(total, answer))

    def refused(self, reason: str) -> None:
        """A send was refused; in a run without planned failures that is an error."""
        self.findings.errors.append(f"refused: {reason}")

    def _answered(self, total: int, status: PutStatus) -> None:
        if status is PutStatus.PUT_OK and self._sync:
            self.acknowledged_count = max(self.acknowledged_count, total)

    def save_table(self) -> None:
        """Replace a table of the broker, as a topic's creation does."""
        self.generation += 1
        directory = self.harness.root / "config"
        self.files.make_directory(directory)
        self.files.replace(directory / TABLE, json.dumps({"generation": self.generation}).encode() + b" " * 600)
        self.saved_generation = self.generation

    # Cutting the power.

    def must_count(self, loss: Loss) -> int:
        """Messages that must survive, in the order of the log: acknowledged or seen by consumers in the flush mode's sense."""
        ends, positions = self.ends, self.harness.store.positions
        if loss is Loss.NONE:
            return len(ends)
        bound = positions.dispatched if self._sync else positions.flushed
        self._kept_count = max(self._kept_count, bisect_right(ends, bound), self.acknowledged_count)
        return self._kept_count

    def cut(self, loss: Loss, label: str) -> State:
        """Cut the power now."""
        # What must survive is noted first: what happens meanwhile may survive or not.
        must, saved = self.must_count(loss), self.saved_generation
        files = self.files.crash(self._directory / "copy", loss, self._cuts)
        self._removed_offset = max(self._removed_offset, self.harness.store.log_min_offset)
        return State(files, f"{label}, {loss.value}", must, saved, self._removed_offset)

    def _maybe_cut(self, operation: str, path: Path) -> None:
        if len(self._states) < 6 and self._cuts.random() < CUT_CHANCE:
            self.files.remember()
            self._states.append(self.cut(self._cuts.choice(list(Loss)), f"before {operation} of {path.name}"))

    def _judge_states(self) -> None:
        while self._states:
            self.judge(self._states.pop(0), is_nested=True)

    # Judging.

    def judge(self, state: State, *, is_nested: bool) -> None:
        """Recover a state and compare; with ``is_nested`` cut the power again during and after that."""
        files = state.files
        files.now_ms = self.harness.clock.now_ms
        nested: list[State] = []

        def cut_again(operation: str, path: Path) -> None:
            if self._cuts.random() < 0.03:
                files.remember()
                again = files.crash(files_root, self._cuts.choice(list(Loss)), self._cuts)
                nested.append(state._replace(files=again, label=f"{state.label}; recovering, before {operation}"))

        files_root = self._directory / "copy"
        if is_nested:
            files.on_step = cut_again
        self._recover(state, files, nested if is_nested else None)
        for inner in nested:
            self.judge(inner, is_nested=False)

    def _recover(self, state: State, files: MemoryFiles, nested: list[State] | None) -> None:
        self.findings.states += 1
        harness = Harness(self._directory / "copy", sync=self._sync, files=files, **TINY)
        harness.clock.advance(max(0, self.harness.clock.now_ms() - harness.clock.now_ms()))
        started = time.monotonic()
        try:
            harness.open()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to this state and seed
            self._error(state.label, f"does not open: {type(error).__name__}: {error}")
            return
        finally:
            files.on_step = None
        try:
            if time.monotonic() - started > OPEN_S_MAX:
                self._error(state.label, f"took {time.monotonic() - started:.1f} s to open")
            kept = self._compare(harness, state.must_count, state.label, state.removed_offset)
            self._compare_table(files, state)
            if kept is None:
                return
            if nested is not None and self._cuts.random() < 0.1:
                # What a recovered store has shown must not vanish with the next cut (rule E11).
                again = files.crash(self._directory / "copy", Loss.ALL, self._cuts)
                nested.append(state._replace(files=again, label=f"{state.label}; after recovery", must_count=kept))
            if self._cuts.random() < 0.2:
                self._use(harness, state.label)
        finally:
            harness.abandon()

    def _compare(self, harness: Harness, must_count: int, label: str, removed_offset: int | None = None) -> int | None:
        """The store holds the attempts up to some number, ``must_count`` at least, without those that expired."""
        store = harness.store
        log_min = store.log_min_offset
        if removed_offset is not None and log_min > removed_offset:
            self._error(label, f"log begins at {log_min}, removed was what lies below {removed_offset}")
        # Of what was to be removed, queues may be without it although the log still has it.
        gone = bisect_right(self.starts, max(log_min, removed_offset or 0) - 1)
        try:
            found = [
                [number for number in harness.numbers(queue_id=queue_id) if number >= gone]
                for queue_id in range(QUEUE_COUNT)
            ]
        except (AssertionError, RecordError, ValueError) as error:
            self._error(label, f"queues cannot be read: {error}")
            return None
        kept = gone + sum(map(len, found))
        for queue_id, numbers in enumerate(found):
            expected = [number for queue, number in self.attempts[gone:kept] if queue == queue_id]
            if numbers != expected:
                odd = sorted(set(numbers) ^ set(expected))[:5]
                self.findings.phantoms.append(
                    f"phantom: {label}: queue {queue_id} differs from what was sent at {odd} (kept {kept}, gone {gone})"
                )
                return None
        if kept < must_count:
            self.findings.lost.append(f"lost: {label}: {must_count} must be there, {kept} are")
            return None
        for _, number in self.attempts[gone:kept][:: max(1, (kept - gone) // 4)]:
            found_by_key = harness.find(number)
            if found_by_key != [number]:
                self._error(label, f"message {number} is found by its key as {found_by_key}")
        return kept

    def _compare_table(self, files: MemoryFiles, state: State) -> None:
        path = self._directory / "copy" / "config" / TABLE
        try:
            generation = json.loads(files.read(path))["generation"]
        except FileNotFoundError:
            generation = 0
        except ValueError as error:
            self._error(state.label, f"{path} cannot be read: {error}")
            return
        if not state.saved_generation <= generation <= self.generation:
            self._error(state.label, f"{path} is of generation {generation}, saved was {state.saved_generation}")

    def _use(self, harness: Harness, label: str) -> None:
        """A recovered store takes messages and shows them."""
        before = len(harness.numbers())
        result = harness.put(9_999_999)
        if result.status is not PutStatus.PUT_OK:
            self._error(label, f"takes no message: {result.reason}")
            return
        harness.flush()
        if len(harness.numbers()) != before + 1:
            self._error(label, "a message sent after the recovery is not there")

    def _error(self, label: str, text: str) -> None:
        self.findings.errors.append(f"error: {label}: {text}")


def explore(directory: Path, *, sync: bool, state_count: int, seed: int) -> Findings:
    """Scenarios from ``seed`` on until ``state_count`` states were judged; the first problem names its seed and ends it."""
    findings = Findings()
    while findings.states < state_count and not findings.problems:
        place = directory / f"{'sync' if sync else 'async'}-{seed}"
        place.mkdir()
        wanted = min(STATES_PER_SCENARIO, state_count - findings.states)
        one = Explorer(place, sync=sync, seed=seed, state_count=wanted).run()
        mode = "SYNC_FLUSH" if sync else "ASYNC_FLUSH"
        for kind in (one.lost, one.phantoms, one.errors):
            kind[:] = [f"{text} ({mode}, seed {seed})" for text in kind]
        findings.add(one)
        seed += 1
    return findings
