"""Taking messages for one pop: which queues are read, in which order, from where, and what the answer says."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from random import Random
from typing import Final, NamedTuple

from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.filters.subscriptions import Accept, MessageFilter
from rocketmq_broker.pop.flights import PopQueue
from rocketmq_broker.pop.ordering import OrderedQueues
from rocketmq_broker.pop.queues import PopQueues
from rocketmq_broker.settings import BrokerSettings
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.topics import TopicTable
from rocketmq_common.clock import Clock
from rocketmq_common.properties import PROPERTY_POP_CK, append_property, remove_property
from rocketmq_common.records import decode_messages, encode_message
from rocketmq_common.topics import ATTRIBUTE_MESSAGE_TYPE, MESSAGE_TYPE_PRIORITY, TopicConfig
from rocketmq_remoting.commands import Response
from rocketmq_remoting.headers.pop import PopMessageRequestHeader
from rocketmq_remoting.pop_handles import (
    ORDER_REVIVE_QUEUE,
    RETRY_NONE,
    RETRY_V1,
    RETRY_V2,
    Handle,
    pop_retry_topic,
)
from rocketmq_store.residency import Absent
from rocketmq_store.statuses import GetResult, GetStatus
from rocketmq_store.store import MessageStore

# As in Apache, for Java's decoder refuses frames above 16 MiB; one record may exceed this bound.
BODY_SIZE_MAX: Final = 8 << 20
# Reads of one queue in one pop: the first may only learn where the queue begins now.
READS_MAX: Final = 2
REVIVE_QUEUE_ID: Final = 0
# Total size and queue offset of a record.
_SIZE: Final = struct.Struct(">i")
_QUEUE_OFFSET: Final = struct.Struct(">q")
_QUEUE_OFFSET_POSITION: Final = 20
_MOVED: Final = frozenset({GetStatus.OFFSET_TOO_SMALL, GetStatus.MESSAGE_WAS_REMOVING, GetStatus.OFFSET_FOUND_NULL})


class Source(NamedTuple):
    """One queue that a pop may read: its topic, how handles name that topic, its id."""

    topic: str
    retry: str
    queue_id: int


class Answer:
    """What one pop has taken so far."""

    __slots__ = ("buffers", "count", "counts", "offsets", "rest_count", "size", "starts")

    def __init__(self) -> None:
        self.buffers: list[bytes | bytearray | memoryview] = []
        self.count = self.size = self.rest_count = 0
        self.starts: list[str] = []
        self.offsets: list[str] = []
        self.counts: list[str] = []


class Taking:
    """See the module. Runs on the loop only."""

    def __init__(
        self,
        settings: BrokerSettings,
        store: MessageStore,
        topics: TopicTable,
        offsets: ConsumerOffsets,
        queues: PopQueues,
        ordered: OrderedQueues,
        statistics: BrokerStatistics,
        clock: Clock,
        random: Random,
    ) -> None:
        self._settings = settings
        self._store = store
        self._topics = topics
        self._offsets = offsets
        self._queues = queues
        self._ordered = ordered
        self._statistics = statistics
        self._clock = clock
        self._random = random
        # Set by the last `take` that found nothing: a scan ended at its bound, or an ordered queue is blocked until then (ms).
        self.is_unfinished = False
        self.blocked_until_ms = 0
        # The last `take` passed queues over, for this must be fetched from the disk first.
        self.absent: Absent | None = None

    def sources(self, group: str, topic: str, queue_id: int, *, is_ordered: bool) -> list[Source]:
        """The queues to read, in this order: any queue (-1) begins at a random one, retried messages now and then come first."""
        is_by_priority = False
        if queue_id >= 0:
            found = [Source(topic, RETRY_NONE, queue_id)]
        else:
            config = self._topics.configs.get(topic)
            count = 0 if config is None else config.read_queue_nums
            if is_by_priority := config is not None and not is_ordered and _is_by_priority(config):
                # The higher its number, the more urgent is what stands in a queue (5.4); retried messages come last.
                found = [Source(topic, RETRY_NONE, number) for number in reversed(range(count))]
            else:
                start = self._random.randrange(count) if count > 1 else 0
                found = [Source(topic, RETRY_NONE, (start + index) % count) for index in range(count)]
        if is_ordered:
            return found
        retries = [Source(retry_topic, retry, 0) for retry, retry_topic in self.retry_topics(group, topic)]
        if retries and not is_by_priority and self._random.randrange(100) < self._settings.pop_from_retry_probability:
            return retries + found
        return found + retries

    def retry_topics(self, group: str, topic: str) -> Iterator[tuple[str, str]]:
        """(retry flag, topic) of the group's pop retry topics that exist."""
        settings = self._settings
        flags: tuple[str, ...] = (RETRY_V1,)
        if settings.enable_retry_topic_v2:
            flags = (RETRY_V2, RETRY_V1) if settings.retrieve_message_from_pop_retry_topic_v1 else (RETRY_V2,)
        for flag in flags:
            retry_topic = pop_retry_topic(group, topic, flag)
            if retry_topic in self._topics.configs:
                yield flag, retry_topic

    def take(self, header: PopMessageRequestHeader, wanted: MessageFilter) -> Response | None:
        """Messages for this pop, in flight from now on; ``None`` when there are none."""
        self.is_unfinished = False
        self.blocked_until_ms = 0
        self.absent = None
        answer = Answer()
        now_ms = self._clock.now_ms()
        is_ordered = header.order
        for source in self.sources(header.consumer_group, header.topic, header.queue_id, is_ordered=is_ordered):
            if is_ordered:
                self._take_ordered(answer, header, source, wanted, now_ms)
            else:
                self._take_plain(answer, header, source, wanted, now_ms)
        if not answer.count:
            return None
        counters = self._statistics.group(header.consumer_group, header.topic)
        counters.get_nums += answer.count
        counters.get_size += answer.size
        counters.get_requests += 1
        ext = (
            f'{{"popTime":"{now_ms}","invisibleTime":"{header.invisible_time}",'
            f'"reviveQid":"{ORDER_REVIVE_QUEUE if is_ordered else REVIVE_QUEUE_ID}","restNum":"{answer.rest_count}",'
            f'"startOffsetInfo":"{";".join(answer.starts)}","msgOffsetInfo":"{";".join(answer.offsets)}"'
        )
        ext += f',"orderCountInfo":"{";".join(answer.counts)}"}}' if is_ordered else "}"
        return Response(0, ext.encode(), "FOUND", answer.buffers)

    def position(self, group: str, topic: str, queue_id: int, init_mode: int = 0) -> int:
        """Where the group's next pop of a queue reads; nothing is changed."""
        stored = self._offsets.query(group, topic, queue_id)
        queue = self._queues.find(group, topic, queue_id)
        if queue is not None and stored == queue.committed:
            return queue.next_offset
        return stored if stored >= 0 else self._queues.initial_offset(topic, queue_id, init_mode)

    # -- inside ------------------------------------------------------------------------------------------------------

    def _take_plain(
        self, answer: Answer, header: PopMessageRequestHeader, source: Source, wanted: MessageFilter, now_ms: int
    ) -> None:
        topic, retry, queue_id = source
        count_max = header.max_msg_nums - answer.count
        if count_max <= 0 or answer.size >= BODY_SIZE_MAX:
            answer.rest_count += self._rest(header.consumer_group, source)
            return
        queue = self._queues.get(header.consumer_group, topic, queue_id, header.init_mode)
        count_max = min(count_max, self._settings.pop_inflight_message_threshold - len(queue.flying))
        if count_max <= 0:
            return
        is_plain = retry != RETRY_NONE or (wanted.tags_codes is None and wanted.accept is None)
        result = self._read(answer, queue, count_max, None if is_plain else wanted)
        if result.status is not GetStatus.FOUND:
            if result.next_offset > queue.next_offset:
                self._queues.skip(queue, result.next_offset)
                self.is_unfinished |= result.next_offset < result.max_offset
            return
        first = queue.next_offset
        if result.next_offset - first == result.message_count:
            offsets = list(range(first, result.next_offset))
        else:
            offsets = _offsets_of(result)
        self._queues.depart(queue, offsets, result.next_offset, now_ms, header.invisible_time)
        if retry == RETRY_NONE or self._settings.pop_response_return_actual_retry_topic:
            answer.buffers += result.buffers
        else:
            answer.buffers += self._as_original(header, source, result, offsets[0], now_ms)
        self._note(answer, source, result, offsets)

    def _take_ordered(
        self, answer: Answer, header: PopMessageRequestHeader, source: Source, wanted: MessageFilter, now_ms: int
    ) -> None:
        group, topic, queue_id = header.consumer_group, source.topic, source.queue_id
        if answer.count >= header.max_msg_nums or answer.size >= BODY_SIZE_MAX:
            answer.rest_count += self._rest(group, source)
            return
        offsets = self._offsets
        if offsets.has_resets:
            reset = offsets.take_reset(group, topic, queue_id)
            if reset is not None:
                offsets.commit(group, topic, queue_id, reset)
                self._ordered.clear(group, topic, queue_id)
        until_ms = self._ordered.blocked_until_ms(group, topic, queue_id, header.attempt_id)
        if until_ms:
            self.blocked_until_ms = min(self.blocked_until_ms or until_ms, until_ms)
            return
        stored = offsets.query(group, topic, queue_id)
        if stored < 0:
            stored = self._queues.initial_offset(topic, queue_id, header.init_mode)
            offsets.commit(group, topic, queue_id, stored)
        result = self._get(answer, source, stored, header.max_msg_nums - answer.count, wanted)
        if result.status in _MOVED or result.status is GetStatus.OFFSET_OVERFLOW_BADLY:
            stored = result.next_offset
            result = self._get(answer, source, stored, header.max_msg_nums - answer.count, wanted)
        if result.status is not GetStatus.FOUND:
            if result.next_offset > stored:
                self.is_unfinished |= result.next_offset < result.max_offset
            if result.status is not GetStatus.NO_MATCHED_LOGIC_QUEUE:
                offsets.commit(group, topic, queue_id, result.next_offset)
            return
        found = _offsets_of(result)
        counts = self._ordered.depart(
            group, topic, queue_id, found, now_ms, header.invisible_time, header.attempt_id
        )  # fmt: skip
        self._queues.counters.popped_nums += len(found)
        answer.buffers += result.buffers
        answer.counts.append(f"{source.retry} {queue_id} {min(counts.get(offset, 0) for offset in found)}")
        answer.counts += [f"{source.retry} qo{queue_id}%{offset} {count}" for offset, count in counts.items() if count]
        self._note(answer, source, result, found)

    def _note(self, answer: Answer, source: Source, result: GetResult, offsets: list[int]) -> None:
        answer.count += result.message_count
        answer.size += result.size_bytes
        answer.rest_count += result.max_offset - result.next_offset
        answer.starts.append(f"{source.retry} {source.queue_id} {offsets[0]}")
        answer.offsets.append(f"{source.retry} {source.queue_id} {','.join(map(str, offsets))}")

    def _read(self, answer: Answer, queue: PopQueue, count_max: int, wanted: MessageFilter | None) -> GetResult:
        source = Source(queue.topic, RETRY_NONE, queue.queue_id)
        for _ in range(READS_MAX):
            result = self._get(answer, source, queue.next_offset, count_max, wanted)
            if result.status in _MOVED and result.next_offset > queue.next_offset:
                self._queues.skip(queue, result.next_offset)
            elif result.status is GetStatus.OFFSET_OVERFLOW_BADLY:
                # The queue is shorter than it was: it was deleted and made anew.
                self._queues.move(queue, result.next_offset, restarts=True)
            else:
                break
        return result

    def _get(
        self, answer: Answer, source: Source, offset: int, count_max: int, wanted: MessageFilter | None
    ) -> GetResult:
        tags_codes = None if wanted is None else wanted.tags_codes
        accept: Accept | None = None if wanted is None else wanted.accept
        residency = self._store.residency
        residency.is_strict = True
        try:
            return self._store.get_messages(
                source.topic, source.queue_id, offset, count_max, BODY_SIZE_MAX - answer.size, tags_codes, accept
            )
        except Absent as absent:
            self.absent = absent
            return GetResult(GetStatus.NO_MATCHED_MESSAGE, offset)
        finally:
            residency.is_strict = False

    def _rest(self, group: str, source: Source) -> int:
        bounds = self._store.queue_bounds(source.topic, source.queue_id)
        if bounds is None:
            return 0
        return max(bounds.max_offset - self.position(group, source.topic, source.queue_id), 0)

    def _as_original(
        self, header: PopMessageRequestHeader, source: Source, result: GetResult, start_offset: int, now_ms: int
    ) -> list[bytes]:
        """Retried messages under the name of the topic that the consumer subscribed to, each with its handle."""
        records: list[bytes] = []
        for buffer in result.buffers:
            for message in decode_messages(buffer):
                handle = Handle(
                    start_offset, now_ms, header.invisible_time, REVIVE_QUEUE_ID, source.retry,
                    self._settings.broker_name, source.queue_id, message.queue_offset,
                )  # fmt: skip
                message.topic = header.topic
                properties = remove_property(message.properties, PROPERTY_POP_CK)
                message.properties = append_property(properties, PROPERTY_POP_CK, str(handle))
                records.append(encode_message(message))
        return records


def _offsets_of(result: GetResult) -> list[int]:
    """Queue offsets of the messages of a result."""
    offsets: list[int] = []
    for buffer in result.buffers:
        position, end = 0, len(buffer)
        while position < end:
            offsets.append(_QUEUE_OFFSET.unpack_from(buffer, position + _QUEUE_OFFSET_POSITION)[0])
            position += _SIZE.unpack_from(buffer, position)[0]
    return offsets


def _is_by_priority(config: TopicConfig) -> bool:
    return config.attributes.get(ATTRIBUTE_MESSAGE_TYPE) == MESSAGE_TYPE_PRIORITY
