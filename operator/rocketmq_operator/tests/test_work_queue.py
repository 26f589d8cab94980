"""The work queue."""

from __future__ import annotations

import asyncio
import random

from rocketmq_operator.process.work_queue import BACKOFF_SECONDS_MAX, KEYS_MAX, Key, WorkQueue

A, B = Key("Kind", "ns", "a"), Key("Kind", "ns", "b")


async def take(queue: WorkQueue) -> Key | None:
    """What is due now."""
    try:
        async with asyncio.timeout(0.05):
            return await queue.take()
    except TimeoutError:
        return None


async def test_a_key_added_often_is_worked_on_once() -> None:
    queue = WorkQueue()
    for _ in range(5):
        queue.add(A)
    assert await take(queue) == A
    queue.done(A)
    assert await take(queue) is None


async def test_a_key_added_while_worked_on_is_worked_on_once_more_but_not_twice_at_once() -> None:
    queue = WorkQueue()
    queue.add(A)
    assert await take(queue) == A
    queue.add(A)
    queue.add(B)
    assert await take(queue) == B
    assert await take(queue) is None
    queue.done(A)
    assert await take(queue) == A


async def test_an_earlier_time_wins() -> None:
    queue = WorkQueue()
    queue.add(A, 100)
    assert await take(queue) is None
    queue.add(A)
    assert await take(queue) == A
    queue.done(A, again_after_seconds=0.02)
    await asyncio.sleep(0)
    assert await asyncio.wait_for(queue.take(), 5) == A


async def test_failures_come_back_with_growing_pauses_and_success_forgets_them() -> None:
    queue = WorkQueue(random.Random(1))
    pauses = []
    for _ in range(10):
        queue.add(A)
        assert await take(queue) == A
        pauses.append(queue.failed(A))
    assert pauses[:4] == sorted(pauses[:4])
    assert max(pauses) <= BACKOFF_SECONDS_MAX * 1.25
    queue.add(A)
    assert await take(queue) == A
    queue.done(A)
    queue.add(A)
    assert await take(queue) == A
    assert queue.failed(A) < 2


async def test_the_queue_is_bounded() -> None:
    queue = WorkQueue()
    for number in range(KEYS_MAX + 10):
        queue.add(Key("Kind", "ns", str(number)))
    assert (len(queue), queue.dropped) == (KEYS_MAX, 10)


async def test_the_age_of_the_oldest_counts_only_what_nobody_works_on() -> None:
    queue = WorkQueue()
    assert queue.oldest_age == 0
    queue.add(A, -5)
    assert queue.oldest_age >= 5
    assert await take(queue) == A
    assert queue.oldest_age == 0
