"""Cutting a closed log: what is before the cut stays readable, what is behind it is nowhere any more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from rocketmq_common.files import RealFiles
from rocketmq_store.appending import NewMessage
from rocketmq_store.errors import StoreLocked
from rocketmq_store.settings import StoreSettings
from rocketmq_store.statuses import GetStatus, PutStatus
from rocketmq_store.store import MessageStore
from rocketmq_store.truncation import truncate_log

SEGMENT_SIZE = 1 << 14


def settings_of(root: Path) -> StoreSettings:
    return StoreSettings(
        root=str(root), commit_log_segment_size=SEGMENT_SIZE, consume_queue_segment_size=2000, index_slot_count=64,
        index_entry_count=256, message_size_max=4096,
    )  # fmt: skip


def opened(root: Path) -> MessageStore:
    def fatal(error: BaseException) -> None:
        raise AssertionError from error

    store = MessageStore(settings_of(root), post=asyncio.get_running_loop().call_soon_threadsafe, fatal=fatal)
    store.open()
    return store


def fill(store: MessageStore, count: int, start: int = 0) -> list[int]:
    """Store messages over three queues; return the log offset behind each."""
    ends = []
    for number in range(start, start + count):
        result = store.append(NewMessage("t", number % 3, b"%d" % number * 40, f"KEYS\x01k{number}\x02".encode()))
        assert result.status is PutStatus.PUT_OK
        ends.append(result.end_offset)
    return ends


def bodies(store: MessageStore) -> int:
    total = 0
    for queue_id in store.queue_ids("t"):
        bounds = store.queue_bounds("t", queue_id)
        assert bounds is not None
        offset = bounds.min_offset
        while offset < bounds.max_offset:
            got = store.get_messages("t", queue_id, offset, 32)
            assert got.status is GetStatus.FOUND
            total += got.message_count
            offset = got.next_offset
    return total


@pytest.mark.parametrize("kept", [1, 57, 200, 399, 400])
async def test_a_cut_log_holds_exactly_what_was_before_the_cut_and_goes_on(tmp_path: Path, kept: int) -> None:
    store = opened(tmp_path)
    ends = fill(store, 400)
    store.close()

    truncate_log(RealFiles(), settings_of(tmp_path), ends[kept - 1])

    store = opened(tmp_path)
    try:
        assert store.positions.written == ends[kept - 1]
        assert bodies(store) == kept
        assert len(store.query("t", f"k{kept - 1}", 8).records) == 1
        assert store.query("t", f"k{kept}", 8).records == []
        fill(store, 10, kept)
        assert bodies(store) == kept + 10
    finally:
        store.close()


async def test_cutting_everything_leaves_an_empty_store(tmp_path: Path) -> None:
    store = opened(tmp_path)
    fill(store, 100)
    store.close()
    truncate_log(RealFiles(), settings_of(tmp_path), 0)
    store = opened(tmp_path)
    try:
        assert store.positions.written == 0
        assert bodies(store) == 0
    finally:
        store.close()


async def test_an_interrupted_cut_is_completed_by_another(tmp_path: Path) -> None:
    class Interrupted(RealFiles):
        """Dies at the n-th change."""

        left = 0

        def __getattribute__(self, name: str) -> Any:
            if name in ("remove", "truncate_tail", "replace"):
                if Interrupted.left <= 0:
                    raise InterruptedError(name)
                Interrupted.left -= 1
            return super().__getattribute__(name)

    store = opened(tmp_path)
    ends = fill(store, 400)
    store.close()
    for steps in range(12):
        Interrupted.left = steps
        try:
            truncate_log(Interrupted(), settings_of(tmp_path), ends[99])
        except InterruptedError:
            continue
        break
    else:
        pytest.fail("the cut never ended")
    store = opened(tmp_path)
    try:
        assert bodies(store) == 100
    finally:
        store.close()


async def test_an_open_store_cannot_be_cut(tmp_path: Path) -> None:
    store = opened(tmp_path)
    try:
        with pytest.raises(StoreLocked):
            truncate_log(RealFiles(), settings_of(tmp_path), 0)
    finally:
        store.close()
