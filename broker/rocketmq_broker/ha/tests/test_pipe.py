"""Master and slave joined by a pipe in memory: whatever the pieces and wherever it breaks, logs agree and answers are true."""

from __future__ import annotations

import asyncio
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rocketmq_broker.ha.master import ReplicationMaster
from rocketmq_broker.ha.master_link import SlaveLink
from rocketmq_broker.ha.origin import MasterLog, OwnLog, decide_origin
from rocketmq_broker.ha.slave_link import MasterLink
from rocketmq_broker.ha.tests.nodes import Nodes, quick
from rocketmq_broker.ha.tests.stores import log_bytes, put, queues_of
from rocketmq_common.clock import SystemClock
from rocketmq_store.statuses import PutStatus
from rocketmq_store.store import MessageStore


class PipeEnd(asyncio.Transport):
    """One end of a pipe: what is written waits in `sent` until the test delivers it."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.is_cut = False

    def write(self, data: Any) -> None:
        self.sent += data

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.sent += data

    def abort(self) -> None:
        self.is_cut = True

    def is_closing(self) -> bool:
        return self.is_cut

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return None

    def take(self, size: int) -> bytes:
        data = bytes(self.sent[:size])
        del self.sent[:size]
        return data


class Pipe:
    """One link between a master and a slave's store."""

    def __init__(self, master: ReplicationMaster, ours: MessageStore, theirs: MessageStore) -> None:
        settings = quick()
        follower = theirs.follower
        follower.forget_partial()
        span = MasterLog(ours.log_min_offset, ours.positions.written, ours.settings.commit_log_segment_size)
        own = OwnLog(theirs.positions.written, follower.is_empty, theirs.settings.commit_log_segment_size)
        self.master_end, self.slave_end = PipeEnd(), PipeEnd()
        self.slave_link = SlaveLink(master)
        self.reasons: list[str] = []
        self.master_link = MasterLink(settings, theirs, SystemClock(), decide_origin(own, span), self.reasons.append)
        self.slave_link.connection_made(self.master_end)
        self.master_link.connection_made(self.slave_end)

    @property
    def is_cut(self) -> bool:
        return self.master_end.is_cut or self.slave_end.is_cut

    def to_slave(self, size: int) -> None:
        data = self.master_end.take(size)
        if data and not self.is_cut:
            self.master_link.data_received(data)

    def to_master(self, size: int) -> None:
        data = self.slave_end.take(size)
        if data and not self.is_cut:
            self.slave_link.data_received(data)

    def cut(self) -> None:
        self.master_end.is_cut = self.slave_end.is_cut = True
        self.slave_link.connection_lost(None)
        self.master_link.connection_lost(None)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 1500)),
        st.tuples(st.just("to slave"), st.integers(1, 5000)),
        st.tuples(st.just("to master"), st.integers(1, 20)),
        st.tuples(st.just("cut"), st.just(0)),
    ),
    min_size=1,
    max_size=120,
)


async def play(root: Path, steps: list[tuple[str, int]]) -> None:
    nodes = Nodes(root)
    try:
        ours, theirs = nodes.store("m"), nodes.store("s")
        master = await nodes.master(ours, quick(in_sync_replicas=2), is_sync=True)
        pipe = Pipe(master, ours, theirs)
        answered: set[int] = set()
        sent = 0

        def answer(end: int, status: PutStatus) -> None:
            # The claim of the whole: success is said only when the slave has the bytes.
            assert status is PutStatus.PUT_OK
            assert theirs.positions.written >= end
            answered.add(end)

        async def follow_up() -> None:
            await asyncio.sleep(0)
            assert not pipe.reasons or pipe.is_cut, pipe.reasons
            bounds = ours.queue_bounds("t", 0)
            visible = 0 if bounds is None else bounds.max_offset
            if visible:
                physical, size, _ = ours.queue("t", 0).unit(visible - 1)
                assert theirs.positions.written >= physical + size

        for step, size in steps:
            if step == "send":
                end = put(ours, sent, body_size=size).end_offset
                sent += 1
                master.when_replicated(end, lambda status, end=end: answer(end, status))  # type: ignore[misc]
            elif step == "to slave":
                pipe.to_slave(size)
            elif step == "to master":
                pipe.to_master(size)
            else:
                pipe.cut()
                pipe = Pipe(master, ours, theirs)
            await follow_up()
        for _ in range(100_000):
            if len(answered) == sent:
                break
            pipe.to_slave(1 << 20)
            pipe.to_master(1 << 20)
            await follow_up()
        assert len(answered) == sent
        assert log_bytes(theirs) == log_bytes(ours)
        assert queues_of(theirs) == queues_of(ours)
        pipe.cut()
    finally:
        await nodes.end()


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_no_piece_and_no_break_makes_logs_differ_or_an_answer_untrue(steps: list[tuple[str, int]]) -> None:
    with TemporaryDirectory() as directory:
        asyncio.run(play(Path(directory), steps))
