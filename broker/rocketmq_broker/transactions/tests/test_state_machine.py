"""A model of transactions against a real store, with kills anywhere: between a commit and its op, between a question and its op.

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
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rocketmq_broker.clients.producers import Producers
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.ha.promises import SendPromise
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_broker.transactions.ready_commits import ReadyCommits
from rocketmq_broker.transactions.service import Transactions
from rocketmq_common.clock import ManualClock
from rocketmq_common.files import RealFiles
from rocketmq_common.records import StoredMessage, decode_messages
from rocketmq_remoting.commands import Command
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.clients import CheckTransactionStateRequestHeader
from rocketmq_remoting.headers.transactions import EndTransactionRequestHeader
from rocketmq_store.settings import StoreSettings
from rocketmq_store.store import MessageStore

COMMIT, ROLLBACK = 8, 12
GROUP, TOPIC = "pg", "T"
CHECK_MAX = 2
Place = tuple[int, int]


class Line:
    """A connection to a producer that is always ready and remembers what it was asked."""

    remote = "127.0.0.1:1"
    is_closed = False

    def __init__(self) -> None:
        self.questions: list[Place] = []

    async def wait_writable(self, code: int, timeout_ms: float) -> None:
        return None

    def notify(self, code: int, header: CheckTransactionStateRequestHeader, body: bytes) -> None:
        self.questions.append((header.tran_state_table_offset, header.commit_log_offset))

    def respond(self, command: Command, response: object) -> None:
        return None


class Model:
    """What one transaction was told, by those who were answered."""

    def __init__(self, number: int, place: Place) -> None:
        self.number = number
        self.places = [place]
        self.outcome: int | None = None


class TransactionsMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.root = Path(tempfile.mkdtemp(prefix="transactions-"))
        self.clock = ManualClock()
        self.executor = ThreadPoolExecutor(1)
        self.settings = BrokerSettings(
            broker_name="b", transaction_time_out=0, transaction_check_max=CHECK_MAX, transaction_op_msg_max_size=32
        )
        self.models: dict[int, Model] = {}
        self.line = Line()
        self.next_number = 0
        self.run(self.open(is_unclean=False))

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine)

    async def open(self, *, is_unclean: bool) -> None:
        files, config = RealFiles(), self.root / "config"
        files.make_directory(config)
        self.store = MessageStore(
            StoreSettings(
                root=str(self.root), commit_log_segment_size=1 << 16, consume_queue_segment_size=2000,
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
        producers = Producers(self.clock)
        producers.register(GROUP, self.line, "client", "JAVA", 1)  # type: ignore[arg-type]
        self.transactions = Transactions(
            self.settings, self.store, topics, producers, self.offsets, BrokerStatistics(), self.clock,
            SendPromise(self.store), delay_level_max=18,
        )  # fmt: skip
        # So few that half of the commits read the log.
        self.transactions.halves.ready = ReadyCommits(count_max=2)
        self.transactions.load(is_unclean=report.mode == "unclean")

    @staticmethod
    def fail(error: BaseException) -> None:
        raise AssertionError("the store failed") from error

    # Rules.

    @rule()
    def half(self) -> None:
        number = self.next_number
        self.next_number += 1
        properties = f"TRAN_MSG\x01true\x02PGROUP\x01{GROUP}\x02UNIQ_KEY\x01KEY{number}\x02"
        message = (TOPIC, 0, b"%d" % number, b"", 0, 0, self.clock.now_ms(), bytes(8), 0)
        result = self.transactions.append_half(message, properties, GROUP, f"KEY{number}")
        self.models[number] = Model(number, (result.queue_offset, result.physical_offset))

    @precondition(lambda self: self.models)
    @rule(data=st.data(), outcome=st.sampled_from([COMMIT, ROLLBACK]), is_killed=st.booleans())
    def end(self, data: st.DataObject, outcome: int, is_killed: bool) -> None:
        """End some transaction by any of its places; perhaps the process dies before the loop notes it."""
        model = data.draw(st.sampled_from(list(self.models.values())))
        place = data.draw(st.sampled_from(model.places))

        async def ask() -> bool:
            header = EndTransactionRequestHeader(
                producer_group=GROUP, tran_state_table_offset=place[0], commit_log_offset=place[1],
                commit_or_rollback=outcome, msg_id="", from_transaction_check=True,
            )  # fmt: skip
            try:
                self.transactions._ending.end(self.line, Command(), header)  # type: ignore[arg-type]
            except RemotingError:
                return False
            return True

        if is_killed:
            # No turn of the loop between the end and the kill.
            is_done = self.run(self.kill_after(ask()))
        else:
            is_done = self.run(ask())
            self.run(asyncio.sleep(0))
        if is_done:
            assert model.outcome is None, f"{model.number} ended twice"
            if outcome == COMMIT or not is_killed:
                model.outcome = outcome
            else:
                # Nothing of a rollback may be in the log yet: the broker will ask again.
                assert model.number not in self.visible()
        elif model.outcome is None:
            self.note_given_up(model)

    @precondition(lambda self: self.models)
    @rule(is_killed=st.booleans())
    def check(self, is_killed: bool) -> None:
        """One round of questions; their places are known to the producers from then on."""
        self.clock.advance(10)
        self.line.questions.clear()
        if is_killed:
            self.run(self.kill_after(self.transactions.checks.round()))
        else:
            self.run(self.transactions.checks.round())
            self.run(asyncio.sleep(0))
        by_place = {place: model for model in self.models.values() for place in model.places}
        for place in self.line.questions:
            record = self.store.message_at(place[1])
            assert record is not None
            number = int(next(decode_messages(record)).body)
            model = self.models[number]
            assert model.outcome is None, f"{number} is asked about after its end"
            assert place not in by_place
            model.places.append(place)

    @rule()
    def progress(self) -> None:
        """Progress is noted, flushed, noted again and written."""

        async def go() -> None:
            self.transactions.note_progress()
            self.store.flush()
            async with asyncio.timeout(20):
                while self.store.positions.flushed < self.store.positions.written:
                    self.clock.advance(1000)
                    self.store.flush()
                    await asyncio.sleep(0.001)
            self.transactions.note_progress()
            await self.offsets.save_if_dirty()

        self.run(go())

    @rule()
    def restart(self) -> None:
        async def go() -> None:
            self.transactions.stop()
            self.store.close()
            self.transactions.finish()
            await self.offsets.save_if_dirty()
            await self.open(is_unclean=False)
            assert self.transactions.operations.waiting_count == 0

        self.run(go())

    @rule()
    def kill(self) -> None:
        async def nothing() -> bool:
            return True

        self.run(self.kill_after(nothing()))

    # What must always hold.

    @invariant()
    def consumers_see_exactly_what_was_committed(self) -> None:
        committed = sorted(number for number, model in self.models.items() if model.outcome == COMMIT)
        assert sorted(self.visible()) == committed

    @invariant()
    def every_open_transaction_is_known_and_no_other(self) -> None:
        halves = self.transactions.halves
        known = {self.number_at(half.physical_offset) for half in halves.undecided.values()}
        assert len(known) == len(halves.undecided)
        aside = {int(message.body) for message in self.messages("TRANS_CHECK_MAX_TIME_TOPIC")}
        open_numbers = {number for number, model in self.models.items() if model.outcome is None}
        assert known == open_numbers - aside
        assert halves.counts == ({TOPIC: len(known)} if known else {})

    # Means.

    async def kill_after(self, action: Any) -> Any:
        """Do something, then die in the same turn of the loop."""
        result = await action
        operations = self.transactions.operations
        if operations._handle is not None:
            operations._handle.cancel()
        self.store.abandon()
        await self.open(is_unclean=True)
        await asyncio.sleep(0)
        return result

    def note_given_up(self, model: Model) -> None:
        aside = {int(message.body) for message in self.messages("TRANS_CHECK_MAX_TIME_TOPIC")}
        known = {self.number_at(half.physical_offset) for half in self.transactions.halves.undecided.values()}
        # Refused though open: it was given up, or an old place was forgotten with the process that knew it.
        assert model.number in aside or model.number in known

    def number_at(self, physical_offset: int) -> int:
        record = self.store.message_at(physical_offset)
        assert record is not None
        return int(next(decode_messages(record)).body)

    def visible(self) -> list[int]:
        return [int(message.body) for message in self.messages(TOPIC)]

    def messages(self, topic: str) -> list[StoredMessage]:
        queue = self.store.queue(topic, 0)
        offset, found = queue.min_offset, []
        while offset < queue.end:
            got = self.store.get_messages(topic, 0, offset, 32)
            for buffer in got.buffers:
                found += list(decode_messages(buffer))
            offset = got.next_offset
        return found

    def teardown(self) -> None:
        async def go() -> None:
            self.transactions.stop()
            self.store.close()

        self.run(go())
        self.executor.shutdown()
        self.loop.close()
        shutil.rmtree(self.root)


# 10 000 steps in CI take half a minute.
EXAMPLES, STEPS = (200, 50) if os.environ.get("CI") else (25, 30)
TransactionsMachine.TestCase.settings = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)
TestTransactions = TransactionsMachine.TestCase
