"""The queues that groups pop from, and everything that happens to their state: the one place that keeps flights, journal, revival
and stored offsets in step."""

from __future__ import annotations

import logging
from typing import Final

from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.groups import GroupTable
from rocketmq_broker.pop.counters import PopCounters
from rocketmq_broker.pop.flights import Flight, PopQueue
from rocketmq_broker.pop.foreign import ForeignRevival
from rocketmq_broker.pop.journal import JOURNAL_QUEUE_ID, Journal
from rocketmq_broker.pop.replay import Key, replay
from rocketmq_broker.pop.revival import Revival
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_common.tasks import TaskRegistry
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.errors import RemotingError
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

PROGRESS_GROUP: Final = "CID_RMQ_SYS_REVIVE_GROUP"
QUEUES_MAX: Final = 200_000
# An idle queue is forgotten: its group's stored offset says all.
IDLE_MS_MAX: Final = 60_000
# A queue whose oldest journal record is this far back, or this old, is written anew, so that a start reads little.
JOURNAL_SPAN_MAX: Final = 10_000
SNAPSHOT_AGE_MS_MAX: Final = 3_600_000
SNAPSHOTS_PER_ROUND_MAX: Final = 64


class PopQueues:
    """See the module. Runs on the loop only."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        groups: GroupTable,
        offsets: ConsumerOffsets,
        statistics: BrokerStatistics,
        counters: PopCounters,
        clock: Clock,
    ) -> None:
        self._store = store
        self._topics = topics
        self._groups = groups
        self._offsets = offsets
        self._clock = clock
        self.counters = counters
        self.journal = Journal(store, clock, f"{names.REVIVE_TOPIC_PREFIX}{settings.broker_cluster_name}")
        self.revival = Revival(settings, store, topics, statistics, counters, clock, self._note_revived)
        self.foreign = ForeignRevival(
            store, offsets, clock, self.journal.topic, PROGRESS_GROUP, settings.revive_queue_num, self._give_again
        )
        self.by_key: dict[Key, PopQueue] = {}
        # Progress that the flush has not reached yet: (first needed record by revive queue, log offset to be flushed).
        self._unflushed: tuple[dict[int, int], int] | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def load(self, *, is_unclean: bool) -> None:
        """Find out what is in flight; the store is open, nothing is served yet."""
        self.journal.abandon()
        self.revival.clear()
        self._unflushed = None
        self.foreign.load()
        start = self._offsets.query(PROGRESS_GROUP, self.journal.topic, JOURNAL_QUEUE_ID)
        self.by_key = {
            key: queue
            for key, queue in replay(self._store, self.journal.topic, start).items()
            if self._topics.get(queue.topic) is not None
        }
        count = 0
        for (group, topic, queue_id), queue in self.by_key.items():
            stored = self._offsets.query(group, topic, queue_id)
            # After a kill a lower stored offset is an old one. Otherwise it is what somebody wants.
            if stored > queue.committed or (0 <= stored < queue.committed and not is_unclean):
                queue.move_to(stored)
            self._offsets.commit(group, topic, queue_id, queue.committed)
            queue.used_ms = queue.snapshot_ms = self._clock.now_ms()
            for flight in queue.flights():
                self.revival.add(flight)
            count += len(queue.flying)
        if count:
            logger.info("%d popped messages are in flight", count)

    def start(self, tasks: TaskRegistry) -> None:
        """Give again what is not acknowledged in time, from now on."""
        self.revival.start(tasks)

    def stop(self) -> None:
        """The store is about to be closed: what is known goes into it."""
        self.revival.stop()
        self.journal.stop()
        self.foreign.round()

    def finish(self) -> None:
        """The store is closed, so everything is flushed, and offsets and progress may say so."""
        for queue in self.by_key.values():
            queue.revived.clear()
            queue.advance()
            self._commit(queue)
        progress = self._progress()
        if progress is not None:
            self._publish(progress)

    # -- popping -----------------------------------------------------------------------------------------------------

    def find(self, group: str, topic: str, queue_id: int) -> PopQueue | None:
        """The queue's state, if there is something to know beyond the stored offset."""
        return self.by_key.get((group, topic, queue_id))

    def get(self, group: str, topic: str, queue_id: int, init_mode: int) -> PopQueue:
        """The queue's state, in step with the group's stored offset; a new group begins where ``init_mode`` says.

        Raises RemotingError when there are `QUEUES_MAX` queues.
        """
        key = (group, topic, queue_id)
        queue = self.by_key.get(key)
        offsets = self._offsets
        reset = offsets.take_reset(group, topic, queue_id) if offsets.has_resets else None
        stored = reset if reset is not None else offsets.query(group, topic, queue_id)
        if queue is None:
            if len(self.by_key) >= QUEUES_MAX:
                raise RemotingError(
                    ResponseCode.SYSTEM_BUSY, f"[OVERLOAD]system busy: {QUEUES_MAX} queues are popped from"
                )
            if stored < 0:
                stored = self.initial_offset(topic, queue_id, init_mode)
            queue = self.by_key[key] = PopQueue(group, topic, queue_id, stored, self._clock.now_ms())
            offsets.commit(group, topic, queue_id, stored)
        elif reset is not None or (stored >= 0 and stored != queue.committed):
            self.move(queue, stored, restarts=reset is not None)
        return queue

    def initial_offset(self, topic: str, queue_id: int, init_mode: int) -> int:
        """Where a new group begins: the first message, or for ``init_mode`` 1 of an old queue the last."""
        bounds = self._store.queue_bounds(topic, queue_id)
        if bounds is None:
            return 0
        if init_mode == 0 or names.is_retry_topic(topic) or bounds.max_offset == 0:
            return bounds.min_offset
        if bounds.min_offset == 0 and not self._store.get_messages(topic, queue_id, 0, 1).is_cold:
            # A group that subscribed before its topic's first message must not miss it.
            return 0
        return max(bounds.max_offset - 1, bounds.min_offset)

    def depart(
        self, queue: PopQueue, offsets: list[int], next_offset: int, pop_time_ms: int, invisible_ms: int
    ) -> None:
        """Messages are handed out."""
        flight = Flight(queue, pop_time_ms, invisible_ms, offsets)
        queue.depart(flight, next_offset)
        queue.used_ms = pop_time_ms
        self.journal.note_popped(flight)
        self.revival.add(flight)
        self.counters.popped_nums += len(offsets)
        self._offsets.note_pull(queue.group, queue.topic, queue.queue_id, queue.next_offset)

    def skip(self, queue: PopQueue, next_offset: int) -> None:
        """Nothing up to here is wanted by the filter."""
        queue.skip_to(next_offset)
        self._commit(queue)

    # -- handles -----------------------------------------------------------------------------------------------------

    def acknowledge(self, queue: PopQueue | None, offset: int, pop_time_ms: int) -> bool:
        """The consumer is done with a message; False when the handle is not valid any more."""
        if queue is None or queue.land(offset, pop_time_ms) is None:
            self.counters.handle_expired_nums += 1
            return False
        self.counters.acked_nums += 1
        self.journal.note_settled(queue, offset)
        if queue.advance():
            self._commit(queue)
        return True

    def prolong(self, queue: PopQueue | None, offset: int, pop_time_ms: int, invisible_ms: int) -> int | None:
        """The message comes again ``invisible_ms`` from now; the new pop time in ms, ``None`` when the handle is not valid."""
        if queue is None or queue.land(offset, pop_time_ms) is None:
            self.counters.handle_expired_nums += 1
            return None
        # The pop time tells handles apart: two changes within one millisecond must not make the same.
        new_time_ms = max(self._clock.now_ms(), pop_time_ms + 1)
        flight = Flight(queue, new_time_ms, invisible_ms, [offset])
        queue.depart(flight, queue.next_offset)
        self.journal.note_popped(flight)
        self.revival.add(flight)
        self.counters.prolonged_nums += 1
        return new_time_ms

    # -- upkeep ------------------------------------------------------------------------------------------------------

    def round(self) -> None:
        """Each second: let stored offsets pass what was revived and is safe, forget idle queues, move the progress on."""
        positions = self._store.positions
        safe = min(positions.flushed, positions.confirmed)
        if self._unflushed is not None and self._unflushed[1] <= safe:
            self._publish(self._unflushed[0])
            self._unflushed = None
        self.foreign.round()
        now_ms = self._clock.now_ms()
        for key, queue in list(self.by_key.items()):
            if queue.revived:
                queue.forget_revived(safe)
                if queue.advance():
                    self._commit(queue)
                if queue.revived:
                    self._store.flush()
            if queue.is_idle and now_ms - queue.used_ms > IDLE_MS_MAX:
                del self.by_key[key]
        if self._unflushed is None:
            self._renew_snapshots(now_ms)
            progress = self._progress()
            if progress is not None and progress != self._known_progress():
                self._unflushed = (progress, positions.written)

    def forget_topic(self, topic: str) -> None:
        """The topic was deleted."""
        self._forget([key for key in self.by_key if key[1] == topic])

    def forget_group(self, group: str) -> None:
        """The group was deleted."""
        self._forget([key for key in self.by_key if key[0] == group])

    @property
    def in_flight_count(self) -> int:
        """Messages that are handed out and not settled."""
        return sum(len(queue.flying) for queue in self.by_key.values())

    # -- inside ------------------------------------------------------------------------------------------------------

    def _note_revived(self, queue: PopQueue, offset: int) -> None:
        self.journal.note_settled(queue, offset)
        if queue.advance():
            self._commit(queue)

    def _commit(self, queue: PopQueue) -> None:
        self._offsets.commit(queue.group, queue.topic, queue.queue_id, queue.committed)

    def move(self, queue: PopQueue, offset: int, *, restarts: bool) -> None:
        """Take the position that a reset, or a consumer of the group that pulls, set from outside; see `PopQueue.move_to`."""
        queue.move_to(offset, restarts=restarts)
        self._offsets.commit(queue.group, queue.topic, queue.queue_id, queue.committed)
        self.journal.note_state(queue)

    def _give_again(self, group: str, topic: str, queue_id: int, offset: int, pop_time_ms: int) -> bool:
        """For messages that Apache's broker had handed out; without topic or group there is nobody to give them to."""
        if self._topics.get(topic) is None or self._groups.get(group) is None:
            return True
        return self.revival.give_again(group, topic, queue_id, offset, pop_time_ms) is not None

    def _progress(self) -> dict[int, int] | None:
        """The first record of each revive queue that is still needed; ``None`` while the journal cannot be written."""
        first = self.journal.first_needed(self.by_key.values())
        if first is None:
            return None
        progress = self.foreign.progress()
        progress[JOURNAL_QUEUE_ID] = min(progress.get(JOURNAL_QUEUE_ID, first), first)
        return progress

    def _known_progress(self) -> dict[int, int]:
        topic = self.journal.topic
        return {
            queue_id: max(self._offsets.query(PROGRESS_GROUP, topic, queue_id), 0)
            for queue_id in self.foreign.queue_ids
        }

    def _publish(self, progress: dict[int, int]) -> None:
        for queue_id, first in progress.items():
            if first or self._offsets.query(PROGRESS_GROUP, self.journal.topic, queue_id) > 0:
                self._offsets.commit(PROGRESS_GROUP, self.journal.topic, queue_id, first)

    def _renew_snapshots(self, now_ms: int) -> None:
        before = self.journal.end - JOURNAL_SPAN_MAX
        count = 0
        for queue in self.by_key.values():
            if queue.journal_first >= 0 and (
                queue.journal_first < before or now_ms - queue.snapshot_ms > SNAPSHOT_AGE_MS_MAX
            ):
                if queue.is_idle:
                    continue
                self.journal.note_state(queue)
                count += 1
                if count >= SNAPSHOTS_PER_ROUND_MAX:
                    return

    def _forget(self, keys: list[Key]) -> None:
        for key in keys:
            queue = self.by_key.pop(key)
            for flight in queue.flights():
                flight.count = 0
            queue.flying.clear()
            queue.revived.clear()
            queue.next_offset = queue.committed = 0
            self.journal.note_state(queue)
