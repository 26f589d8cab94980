"""A model of timer messages against a real store, with kills anywhere: nothing is lost, early or late, or comes twice or recalled.

Everything but sockets and time is the real thing. A kill leaves the files as the kernel has them and throws away what the loop
had not run yet.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from rocketmq_broker.timer.tests.rig import TimerRig

# Roll over 8 slots, so that messages a few seconds away go round several times.
ROLL_SLOTS = 8
DELAYS_MS = st.one_of(st.integers(1, 1500), st.integers(1, 30_000))


class Model:
    """One message as its sender knows it."""

    def __init__(self, due_ms: int) -> None:
        self.due_ms = due_ms
        self.is_recalled = False


class TimersMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="timers-"))
        self.rig = TimerRig(self.root, self.loop, settings={"timer_roll_window_slot": ROLL_SLOTS})
        self.rig.open()
        self.models: dict[int, Model] = {}

    @property
    def now_ms(self) -> int:
        return self.rig.clock.now_ms()

    @rule(delays=st.lists(DELAYS_MS, min_size=1, max_size=20), is_settled=st.booleans())
    def send(self, delays: list[int], is_settled: bool) -> None:
        for delay_ms in delays:
            number = len(self.models)
            self.models[number] = Model(self.now_ms + delay_ms)
            self.rig.send(number, self.now_ms + delay_ms)
        if is_settled:
            self.rig.settle()

    # What is drawn never depends on the state: how far the clock came depends a little on the disk's speed.

    @rule(choice=st.integers(0, 1000))
    def recall(self, choice: int) -> None:
        waiting = [number for number, model in self.models.items() if model.due_ms > self.now_ms]
        if waiting:
            number = waiting[choice % len(waiting)]
            self.rig.recall(number, self.models[number].due_ms)
            self.models[number].is_recalled = True

    @rule(ms=st.one_of(st.integers(1, 300), st.integers(1, 20_000)))
    def wait(self, ms: int) -> None:
        self.rig.advance(ms)

    @rule()
    def save(self) -> None:
        self.rig.save()
        self.rig.settle()

    @rule(ms=st.sampled_from([0, 700, 40_000]))
    def restart(self, ms: int) -> None:
        self.rig.close()
        self.rig.clock.advance(ms)
        self.rig.open()
        self.rig.settle()

    @rule(ms=st.sampled_from([0, 700, 40_000]), turns=st.integers(0, 2))
    def kill(self, ms: int, turns: int) -> None:
        async def go() -> None:
            for _ in range(turns):
                self.rig.service._wake()
                await asyncio.sleep(0)

        self.rig.run(go())
        self.rig.kill()
        self.rig.clock.advance(ms)
        self.rig.open()
        self.rig.settle()

    @rule()
    def release(self) -> None:
        """Retention takes the oldest segment of the log."""
        store = self.rig.store
        if len(store._log.segments) < 2:
            return
        end = store._log.segments[0].end
        for _ in range(100):
            self.rig.flush()
            if self.rig.service.may_remove(end):
                # Some delivered messages go with the segment.
                self.delivered_before = self.seen()
                store._log.remove_first()
                for queue in store._queues.by_key.values():
                    queue.correct_min_offset(store.log_min_offset)
                return
            self.rig.settle()
            # A slot that is being fired holds it up until its second is over.
            self.rig.advance(200)
        raise AssertionError("the log is never released")

    # What must always hold.

    delivered_before: frozenset[int] = frozenset()

    def seen(self) -> frozenset[int]:
        return self.delivered_before | frozenset(self.rig.numbers())

    @invariant()
    def nothing_comes_early_or_twice_or_after_its_recall(self) -> None:
        messages = self.rig.delivered()
        numbers = [int(message.body) for message in messages]
        assert len(set(numbers)) == len(numbers), f"twice: {sorted(numbers)}"
        for message in messages:
            model = self.models[int(message.body)]
            assert message.store_timestamp >= model.due_ms
            assert not model.is_recalled

    @invariant()
    def nothing_is_late_once_the_service_had_its_turn(self) -> None:
        self.rig.settle()
        due = {n for n, model in self.models.items() if model.due_ms <= self.now_ms and not model.is_recalled}
        assert due == self.seen()

    def teardown(self) -> None:
        self.rig.close()
        self.rig.end()
        self.loop.close()
        shutil.rmtree(self.root)


# 10 000 steps in CI.
EXAMPLES, STEPS = (200, 50) if os.environ.get("CI") else (15, 30)
TimersMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTimers = pytest.mark.timeout(600)(TimersMachine.TestCase)
