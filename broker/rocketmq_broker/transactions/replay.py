"""Which transactions are undecided after a start: the half topic less what the op topic says is done.

Progress is kept as consumer offsets of CID_RMQ_SYS_TRANS, as with Apache, so both brokers go on with each other's directories.
What a kill can leave behind is put right here: a commit or a setting aside without its op (the index knows the message that was
stored instead), and a half message stored again without the op of its older copy.
"""

from __future__ import annotations

import logging
from typing import Final

from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.delay_levels import delay_level
from rocketmq_broker.transactions.half_messages import (
    HALF_QUEUE_ID,
    PROPERTY_CHECK_TIMES,
    PROPERTY_FIRST_OFFSET,
    Half,
    HalfMessages,
    half_of,
    number_property,
    real_place,
)
from rocketmq_broker.transactions.operations import Operations, parse_operations
from rocketmq_broker.transactions.reading import read_visible
from rocketmq_common import names
from rocketmq_common.properties import PROPERTY_UNIQUE_KEY, find_property
from rocketmq_common.records import RecordError, StoredMessage, decode_messages
from rocketmq_common.sysflags import TRANSACTION_COMMIT, TRANSACTION_MASK
from rocketmq_store.store import MessageStore

logger = logging.getLogger(__name__)

PROGRESS_GROUP: Final = "CID_RMQ_SYS_TRANS"
READ_BATCH: Final = 256
COMMIT_COPIES_MAX: Final = 64


def replay(
    store: MessageStore, offsets: ConsumerOffsets, halves: HalfMessages, operations: Operations, *, is_unclean: bool
) -> None:
    """Fill the table; ops that a kill swallowed are written anew. The store is open and nothing is served yet."""
    half_start, half_end = progress(store, offsets, names.TRANS_HALF_TOPIC)
    op_start, op_end = progress(store, offsets, names.TRANS_OP_HALF_TOPIC)
    done = _done(store, operations, op_start, op_end)
    queue = store.queue(names.TRANS_HALF_TOPIC, HALF_QUEUE_ID)
    # First copy's offset, or unique key where that is not known → row.
    known: dict[int | str, Half] = {}
    for offset in range(half_start, half_end):
        if offset in done:
            continue
        message = read_visible(store, queue.unit(offset)[0])
        half = None if message is None else half_of(message)
        if message is None or half is None:
            logger.warning("half message %d cannot be read or names no topic to go to: skipped", offset)
            continue
        first = number_property(message.properties, PROPERTY_FIRST_OFFSET)
        unique_key = find_property(message.properties, PROPERTY_UNIQUE_KEY) or ""
        half.first_offset = first
        if first >= 0 or number_property(message.properties, PROPERTY_CHECK_TIMES) > 0:
            older = known.get(first) if first >= 0 else known.get(unique_key)
            if older is not None and older.queue_offset in halves.undecided:
                halves.remove(older)
                operations.add(older.queue_offset)
        if is_unclean and (
            is_committed(store, message, physical_offset=message.physical_offset)
            or _is_given_up(store, message, first if first >= 0 else offset)
        ):
            operations.add(offset)
            continue
        known[first if first >= 0 else offset] = known[unique_key] = half
        halves.add(half)
    if halves.undecided:
        logger.info("%d transactions are undecided", len(halves.undecided))


def progress(store: MessageStore, offsets: ConsumerOffsets, topic: str) -> tuple[int, int]:
    """(where reading goes on, end) of the half or op queue."""
    queue = store.queue(topic, HALF_QUEUE_ID)
    return min(max(offsets.query(PROGRESS_GROUP, topic, HALF_QUEUE_ID), queue.min_offset), queue.end), queue.end


def is_committed(store: MessageStore, message: StoredMessage, *, physical_offset: int | None = None) -> bool:
    """Whether the log holds the committed message of this half message, of its copy at ``physical_offset`` if given.

    Asks the index; without one (`messageIndexEnable=false`) the answer is no.
    """
    place = real_place(message)
    unique_key = find_property(message.properties, PROPERTY_UNIQUE_KEY)
    if place is None or unique_key is None:
        return False
    try:
        is_delayed = delay_level(message.properties) > 0
    except ValueError:
        is_delayed = False
    for topic in (place[0], names.SCHEDULE_TOPIC) if is_delayed else (place[0],):
        for record in store.query(topic, unique_key, COMMIT_COPIES_MAX).records:
            for found in decode_messages(record):
                if found.sys_flag & TRANSACTION_MASK == TRANSACTION_COMMIT and (
                    physical_offset is None or found.prepared_offset == physical_offset
                ):
                    return True
    return False


def _is_given_up(store: MessageStore, message: StoredMessage, first_offset: int) -> bool:
    """Whether the transaction was set aside after this copy was stored; one that was resumed since has a newer copy."""
    unique_key = find_property(message.properties, PROPERTY_UNIQUE_KEY)
    if unique_key is None:
        return False
    return any(
        found.physical_offset > message.physical_offset
        and number_property(found.properties, PROPERTY_FIRST_OFFSET) == first_offset
        for record in store.query(names.TRANS_CHECK_MAX_TIME_TOPIC, unique_key, COMMIT_COPIES_MAX).records
        for found in decode_messages(record)
    )


def _done(store: MessageStore, operations: Operations, start: int, end: int) -> set[int]:
    done: set[int] = set()
    offset = start
    while offset < end:
        got = store.get_messages(names.TRANS_OP_HALF_TOPIC, HALF_QUEUE_ID, offset, READ_BATCH)
        for buffer in got.buffers:
            try:
                for message in decode_messages(buffer):
                    offsets = parse_operations(message.body)
                    done.update(offsets)
                    operations.note(message.queue_offset, offsets)
            except RecordError as error:
                logger.error("op messages from %d on cannot be read: %s", offset, error)
        offset = max(got.next_offset, offset + 1)
    return done
