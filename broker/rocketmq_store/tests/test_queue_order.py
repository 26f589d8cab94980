"""Recovery of records whose queue offset, which no checksum covers, was changed by the disk."""

from __future__ import annotations

import shutil
import struct

import pytest

from rocketmq_store.consume_queues import UNIT
from rocketmq_store.tests.harness import Harness

QUEUE_OFFSET_AT = 20  # bytes into a record
COUNT = 8


def damaged(tmp_path, index: int, queue_offset: int) -> Harness:
    """A killed store of ``COUNT`` messages without queues, one of which says another queue offset."""
    harness = Harness(tmp_path / "store")
    harness.open()
    for number in range(COUNT):
        harness.put_ok(number)
    harness.checkpoint()
    harness.abandon()
    entries = (harness.root / "consumequeue" / "T" / "0" / f"{0:020d}").read_bytes()
    physical_offset, _, _ = UNIT.unpack_from(entries, index * UNIT.size)
    with (harness.root / "commitlog" / f"{0:020d}").open("r+b") as log:
        log.seek(physical_offset + QUEUE_OFFSET_AT)
        log.write(struct.pack(">q", queue_offset))
    shutil.rmtree(harness.root / "consumequeue")
    return harness


@pytest.mark.parametrize(
    ("index", "queue_offset"),
    [(4, offset) for offset in (0, 2, 5, 7, 100, 1 << 31, -3)]
    + [(COUNT - 1, offset) for offset in (2, 5, 100, 1 << 31, -3)],
)
def test_a_message_with_a_wrong_queue_offset_is_left_out_and_costs_no_other(tmp_path, index, queue_offset):
    harness = damaged(tmp_path, index, queue_offset)
    report = harness.open()
    assert any("is damaged" in note for note in report.notes)
    assert [m.queue_offset for m in harness.messages("T", 0)] == [n for n in range(COUNT) if n != index]
    assert harness.put_ok(COUNT).queue_offset == COUNT
    harness.close()


@pytest.mark.parametrize("count", [1, 2])
def test_a_topic_that_began_anew_after_it_was_deleted_is_taken_as_it_says(tmp_path, count):
    harness = Harness(tmp_path / "store")
    harness.open()
    for number in range(3):
        harness.put_ok(number)
    harness.store.delete_topic("T")
    for number in range(10, 10 + count):
        assert harness.put_ok(number).queue_offset == number - 10
    harness.abandon()
    shutil.rmtree(harness.root / "consumequeue")
    harness.open()
    assert harness.numbers() == [10, 11][:count]
    harness.close()
