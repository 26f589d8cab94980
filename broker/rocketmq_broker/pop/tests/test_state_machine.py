"""A model of POP against a real store, with kills anywhere: nothing is lost, nothing that was acknowledged comes again, and nothing
comes twice within its invisible time; stored offsets never go back.

Everything but the sockets is the real thing. A kill abandons the store, throws away what the loop had not run yet, and reads
offsets back as they were last written.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.filters.subscriptions import tag_filter
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.pop import queues as queues_module
from rocketmq_broker.pop.counters import PopCounters
from rocketmq_broker.pop.ordering import OrderedQueues
from rocketmq_broker.pop.queues import PopQueues
from rocketmq_broker.pop.taking import Taking
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import RealFiles
from rocketmq_common.properties import PROPERTY_POP_CK, find_property
from rocketmq_common.records import decode_messages
from rocketmq_common.topics import TopicConfig
from rocketmq_remoting.headers.pop import PopMessageRequestHeader
from rocketmq_remoting.pop_handles import parse_handle
from rocketmq_store.appending import NewMessage
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore

GROUP, TOPIC, RETRY = "cg", "T", "%RETRY%cg_T"
QUEUES = 2
PLACES = [*((TOPIC, number) for number in range(QUEUES)), (RETRY, 0)]


class Held:
    """A delivery that somebody holds: where it stands, its pop time, and until when nobody else may get the message."""

    def __init__(self, number: int, topic: str, queue_id: int, offset: int, pop_time_ms: int, due_ms: int) -> None:
        self.number = number
        self.place = (topic, queue_id)
        self.offset = offset
        self.pop_time_ms = pop_time_ms
        self.due_ms = due_ms


class PopMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="pop-"))
        self.clock = ManualClock()
        self.executor = ThreadPoolExecutor(1)
        self.settings = BrokerSettings(broker_name="b", pop_inflight_message_threshold=32)
        self.span = patch.object(queues_module, "JOURNAL_SPAN_MAX", 3)
        self.span.start()
        self.sent = 0
        self.acked: set[int] = set()
        # What only a kill in the same turn made uncertain: it may come early, or again.
        self.doubtful: set[int] = set()
        self.held: dict[int, Held] = {}
        self.stale: list[Held] = []
        self.committed = dict.fromkeys(PLACES, 0)
        self.run(self.open(is_unclean=False))

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def open(self, *, is_unclean: bool) -> None:
        files, config = RealFiles(), self.root / "config"
        files.make_directory(config)
        self.store = MessageStore(
            StoreSettings(
                root=str(self.root), commit_log_segment_size=1 << 18, consume_queue_segment_size=20_000,
                index_slot_count=97, index_entry_count=400,
            ),
            post=self.loop.call_soon_threadsafe,
            fatal=self.fail,
            clock=self.clock,
        )  # fmt: skip
        report = self.store.open()
        assert report.mode == "fresh" or (report.mode == "unclean") == is_unclean
        self.offsets = ConsumerOffsets(files, config, self.clock, self.executor)
        self.offsets.load()
        self.offsets.clamp(lambda topic, queue_id: (0, self.store.queue(topic, queue_id).end))
        topics = TopicTable(self.settings, files, config, self.clock, self.executor)
        topics.load()
        for topic, count in ((TOPIC, QUEUES), (RETRY, 1)):
            await topics.update(TopicConfig(topic_name=topic, read_queue_nums=count, write_queue_nums=count))
        statistics, counters = BrokerStatistics(), PopCounters()
        groups = GroupTable(self.settings, files, config, self.clock, self.executor)
        self.queues = PopQueues(
            self.settings, self.store, topics, groups, self.offsets, statistics, counters, self.clock
        )
        self.taking = Taking(
            self.settings, self.store, topics, self.offsets, self.queues,
            OrderedQueues(files, config, self.clock, self.executor), statistics, self.clock, Random(7),
        )  # fmt: skip
        self.queues.load(is_unclean=report.mode == "unclean")

    @staticmethod
    def fail(error: BaseException) -> None:
        raise AssertionError("the store failed") from error

    # Rules.

    @rule(queue_id=st.integers(0, QUEUES - 1), count=st.integers(1, 5))
    def send(self, queue_id: int, count: int) -> None:
        for _ in range(count):
            result = self.store.append(NewMessage(TOPIC, queue_id, b"%d" % self.sent))
            assert result.status is PutStatus.PUT_OK
            self.sent += 1

    @rule(count=st.integers(1, 32), invisible_ms=st.sampled_from([1, 50, 1000]), is_killed=st.booleans())
    def pop(self, count: int, invisible_ms: int, is_killed: bool) -> None:
        numbers = self.do(lambda: self.take(count, invisible_ms), is_killed=is_killed)
        if is_killed:
            self.doubtful.update(numbers)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), is_killed=st.booleans())
    def acknowledge(self, data: st.DataObject, is_killed: bool) -> None:
        held = data.draw(st.sampled_from(list(self.held.values())))
        is_settled = self.do(lambda: self.settle(held), is_killed=is_killed)
        if is_settled:
            del self.held[held.number]
            self.acked.add(held.number)
            if is_killed:
                self.doubtful.add(held.number)
        else:
            # Too late: it is, or will be, given again. Only what was revived, or what a kill made doubtful, is refused.
            assert held.due_ms <= self.clock.now_ms() or held.number in self.doubtful

    @precondition(lambda self: self.held)
    @rule(data=st.data(), invisible_ms=st.sampled_from([0, 100, 2000]))
    def prolong(self, data: st.DataObject, invisible_ms: int) -> None:
        held = data.draw(st.sampled_from(list(self.held.values())))

        def change() -> int | None:
            queue = self.queues.find(GROUP, *held.place)
            return self.queues.prolong(queue, held.offset, held.pop_time_ms, invisible_ms)

        pop_time_ms = self.do(change)
        if pop_time_ms is None:
            assert held.due_ms <= self.clock.now_ms() or held.number in self.doubtful
            return
        self.stale.append(Held(held.number, *held.place, held.offset, held.pop_time_ms, held.due_ms))
        held.pop_time_ms = pop_time_ms
        held.due_ms = pop_time_ms + invisible_ms

    @precondition(lambda self: self.stale)
    @rule(data=st.data())
    def acknowledge_with_an_old_handle(self, data: st.DataObject) -> None:
        assert not self.do(lambda: self.settle(data.draw(st.sampled_from(self.stale))))

    @rule(ms=st.sampled_from([1, 60, 1500]), is_killed=st.booleans())
    def time_passes(self, ms: int, is_killed: bool) -> None:
        self.clock.advance(ms)
        before = self.retried()
        self.do(self.queues.revival.run_due, is_killed=is_killed)
        if is_killed:
            # Given again, and perhaps not noted: it may be given again once more.
            self.doubtful.update(self.retried()[len(before) :])

    @rule()
    def upkeep(self) -> None:
        """Progress is noted, flushed, noted again and written."""

        async def go() -> None:
            self.queues.round()
            async with asyncio.timeout(20):
                while self.store.positions.flushed < self.store.positions.written:
                    self.clock.advance(1000)
                    self.store.flush()
                    await asyncio.sleep(0.001)
            self.queues.round()
            await self.offsets.save_if_dirty()

        self.run(go())

    @rule()
    def kill(self) -> None:
        self.do(lambda: None, is_killed=True)

    @rule()
    def restart(self) -> None:
        async def go() -> None:
            self.queues.stop()
            self.store.close()
            self.queues.finish()
            await self.offsets.save_if_dirty()
            await self.open(is_unclean=False)

        self.run(go())

    @rule()
    def drain(self) -> None:
        """Whatever was sent can be had, sooner or later."""
        for _ in range(100):
            self.clock.advance(10_000)
            self.do(self.queues.revival.run_due)
            self.do(lambda: self.take(32, 5000))
            for held in list(self.held.values()):
                if self.do(lambda held=held: self.settle(held)):
                    del self.held[held.number]
                    self.acked.add(held.number)
            if len(self.acked) == self.sent and not self.queues.in_flight_count:
                return
        raise AssertionError(f"lost: {set(range(self.sent)) - self.acked}")

    @invariant()
    def stored_offsets_never_go_back(self) -> None:
        for place in PLACES:
            stored = max(self.offsets.query(GROUP, *place), 0)
            assert stored >= self.committed[place], place
            self.committed[place] = stored

    # Means.

    def do(self, action: Any, *, is_killed: bool = False) -> Any:
        """Do something in one turn of the loop, which the process may not live to end."""

        async def go() -> Any:
            result = action()
            if is_killed:
                self.queues.journal.abandon()
                self.store.abandon()
                # What the stored offsets were is known from the file only, as late as it was written.
                await self.open(is_unclean=True)
                self.committed = dict.fromkeys(PLACES, 0)
            await asyncio.sleep(0)
            return result

        return self.run(go())

    def take(self, count: int, invisible_ms: int) -> list[int]:
        header = PopMessageRequestHeader(
            consumer_group=GROUP, topic=TOPIC, queue_id=-1, max_msg_nums=count, invisible_time=invisible_ms, poll_time=0
        )
        response = self.taking.take(header, tag_filter("*"))
        if response is None:
            return []
        assert isinstance(response.ext, bytes)
        pop_time_ms = int(msgspec.json.decode(response.ext)["popTime"])
        numbers = []
        assert isinstance(response.body, list)
        for buffer in response.body:
            for message in decode_messages(buffer):
                number, now_ms = int(message.body), self.clock.now_ms()
                known = self.held.get(number)
                if number not in self.doubtful:
                    assert number not in self.acked, f"{number} was acknowledged and comes again"
                    assert known is None or known.due_ms <= now_ms, f"{number} comes while it is invisible"
                text = find_property(message.properties, PROPERTY_POP_CK)
                topic = TOPIC if text is None else RETRY
                queue_id, offset = message.queue_id, message.queue_offset
                if text is not None:
                    handle = parse_handle(text)
                    assert (handle.queue_id, handle.offset, handle.retry) == (queue_id, offset, "1")
                self.held[number] = Held(number, topic, queue_id, offset, pop_time_ms, pop_time_ms + invisible_ms)
                numbers.append(number)
        return numbers

    def settle(self, held: Held) -> bool:
        queue = self.queues.find(GROUP, *held.place)
        return self.queues.acknowledge(queue, held.offset, held.pop_time_ms)

    def retried(self) -> list[int]:
        queue = self.store.queue(RETRY, 0)
        offset, found = 0, []
        while offset < queue.end:
            got = self.store.get_messages(RETRY, 0, offset, 32)
            found += [int(message.body) for buffer in got.buffers for message in decode_messages(buffer)]
            offset = got.next_offset
        return found

    def teardown(self) -> None:
        self.drain()

        async def go() -> None:
            self.queues.stop()
            self.store.close()

        self.run(go())
        self.span.stop()
        self.executor.shutdown()
        self.loop.close()
        shutil.rmtree(self.root)


# 10 000 steps in CI take a minute or two.
EXAMPLES, STEPS = (200, 50) if os.environ.get("CI") else (20, 30)
PopMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPop = PopMachine.TestCase
