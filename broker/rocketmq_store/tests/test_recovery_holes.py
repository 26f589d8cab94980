"""Queue files that a power loss kept although it took entries before them."""

from __future__ import annotations

import pytest

from rocketmq_store.consume_queues import UNIT
from rocketmq_store.tests.harness import Harness

UNITS = 100  # of a queue file
KEPT = 4


@pytest.mark.parametrize("has_checkpoint", [True, False])
@pytest.mark.parametrize("count", [KEPT, 0])
def test_entries_behind_the_log_are_cut_although_an_empty_younger_file_follows_a_hole(tmp_path, has_checkpoint, count):
    """Crash state of seed 20007: the younger file's name was durable, most entries of the older one and their records were not."""
    harness = Harness(tmp_path / "store")
    harness.open()
    harness.put_ok(0)
    harness.checkpoint()
    harness.abandon()
    directory = harness.root / "consumequeue" / "T" / "1"
    directory.mkdir()
    entries = b"".join(UNIT.pack(16_384 + 1000 * number, 1000, 0) for number in range(count))
    (directory / f"{0:020d}").write_bytes(entries.ljust(UNITS * UNIT.size, b"\0"))
    (directory / f"{UNITS * UNIT.size:020d}").write_bytes(bytes(UNITS * UNIT.size))
    if not has_checkpoint:
        (harness.root / "checkpoint").unlink()
    assert harness.open().mode == "unclean"
    assert harness.numbers() == [0]
    assert harness.numbers(queue_id=1) == []
    assert harness.put_ok(1, 1).queue_offset == 0
    assert harness.numbers(queue_id=1) == [1]
    harness.close()
