"""The invariants of failover over many seeds; ``ROCKETMQ_SIMULATION_SEEDS`` sets how many."""

from __future__ import annotations

import os

import pytest

from rocketmq_broker.failover.tests.simulated_group import run

SEED_COUNT = int(os.environ.get("ROCKETMQ_SIMULATION_SEEDS", "200"))
SLICES = 10


@pytest.mark.timeout(60 + SEED_COUNT)
@pytest.mark.parametrize("part", range(SLICES))
def test_no_seed_finds_two_writers_a_lost_message_or_a_group_that_does_not_recover(part: int) -> None:
    acknowledged = 0
    for seed in range(part, SEED_COUNT, SLICES):
        acknowledged += len(run(seed).acknowledged)
    # The claim would be empty if nothing were ever acknowledged.
    assert acknowledged > 20 * (SEED_COUNT // SLICES)


def test_a_seed_tells_the_same_story_twice() -> None:
    assert run(7).world.trace == run(7).world.trace
