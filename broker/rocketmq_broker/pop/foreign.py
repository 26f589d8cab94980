"""Checkpoints and acknowledgements that Apache's broker left in the revive topic, or in its timer: a store that was taken over.

Apache moves a group's offset on as soon as it has stored a checkpoint, so what was in flight there is known from the checkpoint
alone, which its timer brings into the revive topic a second before the messages are due, and the acknowledgements when they are.
What is not acknowledged a little later is given again. JSON fields: PopCheckPoint, AckMsg, BatchAckMsg.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_common.clock import Clock
from rocketmq_common.hashing import java_hash
from rocketmq_common.properties import PROPERTY_TAGS, find_property
from rocketmq_common.records import RecordError, StoredMessage, decode_messages
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

CHECKPOINT_TAG: Final = "ck"
ACK_TAG: Final = "ack"
BATCH_ACK_TAG: Final = "bAck"
_CODES: Final = frozenset(map(java_hash, (CHECKPOINT_TAG, ACK_TAG, BATCH_ACK_TAG)))
# Acknowledgements are due a second after their checkpoint; a broker that was down brings both late.
GRACE_MS: Final = 5000
READ_BATCH: Final = 32
READS_PER_ROUND_MAX: Final = 64
CHECKPOINTS_MAX: Final = 100_000

# Gives one message again: (group, topic, queue id, offset, pop time ms) → False when that is not possible for now.
GiveAgain = Callable[[str, str, int, int, int], bool]


class Checkpoint(msgspec.Struct):
    """PopCheckPoint: ``diffs`` are the messages' distances from ``start``; ``bits`` those that are acknowledged."""

    start: int = msgspec.field(name="so")
    pop_time_ms: int = msgspec.field(name="pt")
    invisible_ms: int = msgspec.field(name="it")
    queue_id: int = msgspec.field(name="q")
    topic: str = msgspec.field(name="t")
    group: str = msgspec.field(name="c")
    bits: int = msgspec.field(name="bm", default=0)
    count: int = msgspec.field(name="n", default=0)
    diffs: list[int] | None = msgspec.field(name="d", default=None)
    # Ours: when it may be judged, and where it stands.
    judged_ms: int = msgspec.field(name="<judged>", default=0)
    record: int = msgspec.field(name="<record>", default=0)

    def offsets(self) -> list[int]:
        """Queue offsets of the messages, in the order of the bits."""
        return [self.start + diff for diff in self.diffs or range(self.count)]


class Acknowledgement(msgspec.Struct):
    """AckMsg and BatchAckMsg: ``offset`` or ``offsets`` of messages of one checkpoint."""

    start: int = msgspec.field(name="so")
    pop_time_ms: int = msgspec.field(name="pt")
    queue_id: int = msgspec.field(name="q")
    topic: str = msgspec.field(name="t")
    group: str = msgspec.field(name="c")
    offset: int = msgspec.field(name="ao", default=-1)
    offsets: list[int] | None = msgspec.field(name="aol", default=None)


class ForeignRevival:
    """See the module. Runs on the loop only."""

    def __init__(
        self,
        store: MessageStore,
        offsets: ConsumerOffsets,
        clock: Clock,
        topic: str,
        group: str,
        queue_nums: int,
        give_again: GiveAgain,
    ) -> None:
        self._store = store
        self._offsets = offsets
        self._clock = clock
        self._topic = topic
        self._group = group
        self.queue_ids = range(max(queue_nums, 1))
        self._give_again = give_again
        self._positions: dict[int, int] = {}
        # Revive queue id → key of the checkpoint → checkpoint, in the order in which they stand.
        self._waiting: dict[int, dict[tuple[Any, ...], Checkpoint]] = {}

    def load(self) -> None:
        """Begin where Apache's broker, or this one, had come to."""
        self._waiting = {queue_id: {} for queue_id in self.queue_ids}
        self._positions = {
            queue_id: max(self._offsets.query(self._group, self._topic, queue_id), 0) for queue_id in self.queue_ids
        }

    @property
    def waiting_count(self) -> int:
        """Checkpoints that are not settled."""
        return sum(map(len, self._waiting.values()))

    def round(self) -> None:
        """Read what is new, give again what is over."""
        for queue_id, waiting in self._waiting.items():
            self._read(queue_id, waiting)
            now_ms = self._clock.now_ms()
            for key, checkpoint in list(waiting.items()):
                if checkpoint.judged_ms <= now_ms and self._settle(checkpoint):
                    del waiting[key]

    def progress(self) -> dict[int, int]:
        """Revive queue id → the first record that is still needed."""
        return {
            queue_id: min((checkpoint.record for checkpoint in waiting.values()), default=self._positions[queue_id])
            for queue_id, waiting in self._waiting.items()
        }

    def _read(self, queue_id: int, waiting: dict[tuple[Any, ...], Checkpoint]) -> None:
        bounds = self._store.queue_bounds(self._topic, queue_id)
        if bounds is None:
            return
        position = max(self._positions[queue_id], bounds.min_offset)
        for _ in range(READS_PER_ROUND_MAX):
            if position >= bounds.max_offset or len(waiting) >= CHECKPOINTS_MAX:
                break
            got = self._store.get_messages(self._topic, queue_id, position, READ_BATCH, tags_codes=_CODES)
            for buffer in got.buffers:
                try:
                    for message in decode_messages(buffer):
                        self._take(message, waiting)
                except RecordError as error:
                    logger.error("revive queue %d from record %d on cannot be read: %s", queue_id, position, error)
            position = max(got.next_offset, position + 1)
        self._positions[queue_id] = position

    def _take(self, message: StoredMessage, waiting: dict[tuple[Any, ...], Checkpoint]) -> None:
        try:
            if find_property(message.properties, PROPERTY_TAGS) == CHECKPOINT_TAG:
                checkpoint = msgspec.json.decode(message.body, type=Checkpoint, strict=False)
                due_ms = checkpoint.pop_time_ms + checkpoint.invisible_ms
                checkpoint.judged_ms = max(due_ms, self._clock.now_ms()) + GRACE_MS
                checkpoint.record = message.queue_offset
                waiting.setdefault(_key(checkpoint), checkpoint)
                return
            ack = msgspec.json.decode(message.body, type=Acknowledgement, strict=False)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            logger.error("record %d of the revive topic is skipped: %s", message.queue_offset, error)
            return
        known = waiting.get(_key(ack))
        if known is not None:
            offsets = known.offsets()
            for offset in ack.offsets if ack.offsets is not None else [ack.offset]:
                if offset in offsets:
                    known.bits |= 1 << offsets.index(offset)

    def _settle(self, checkpoint: Checkpoint) -> bool:
        for index, offset in enumerate(checkpoint.offsets()):
            if checkpoint.bits >> index & 1:
                continue
            if not self._give_again(
                checkpoint.group, checkpoint.topic, checkpoint.queue_id, offset, checkpoint.pop_time_ms
            ):
                return False
            checkpoint.bits |= 1 << index
        return True


def _key(of: Checkpoint | Acknowledgement) -> tuple[Any, ...]:
    return (of.group, of.topic, of.queue_id, of.start, of.pop_time_ms)
