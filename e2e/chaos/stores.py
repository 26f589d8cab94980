"""What needs no process: crash states in memory, failing calls, simulated failover; spread over the machine's cores."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from e2e.chaos.outcomes import Outcome, Scale
from rocketmq_broker.failover.tests import simulated_group
from rocketmq_store.tests import nth_failures
from rocketmq_store.tests.crash_states import Findings, explore

CRASH_STATES = (3000, 100_000)  # both flush modes together
# Each task explores this many, from a seed of its own.
STATES_PER_TASK = 500
SEEDS_PER_TASK = 1000
FAILOVER_SEEDS = (200, 20_000)
SEEDS_AT_ONCE = 50


def crash_states_async(directory: Path, scale: Scale) -> Outcome:
    """Power cuts with ASYNC_FLUSH."""
    return _crash_states(directory, scale, sync=False)


def crash_states_sync(directory: Path, scale: Scale) -> Outcome:
    """Power cuts with SYNC_FLUSH."""
    return _crash_states(directory, scale, sync=True)


def failing_steps(directory: Path, scale: Scale) -> Outcome:
    """Every step of the file system fails once, then the power is cut; with a full disk where that is what may happen."""
    tasks: list[tuple[Any, ...]] = []
    for sync in (True, False):
        tasks += [(str(directory), sync, step, errno.EIO) for step in nth_failures.MEMORY_STEPS]
        tasks += [(str(directory), sync, step, errno.ENOSPC) for step in ("map", "allocate", "zero")]
    return _spread(_failing_step, tasks)


def failing_calls(directory: Path, scale: Scale) -> Outcome:
    """Every system call of the real files fails once, then the process ends."""
    tasks: list[tuple[Any, ...]] = []
    for sync in (True, False):
        tasks += [(str(directory), sync, name, errno.EIO) for name in nth_failures.SYSTEM_CALLS]
        tasks += [(str(directory), sync, name, errno.ENOSPC) for name in ("posix_fallocate", "pwrite")]
    return _spread(_failing_call, tasks)


def failover(directory: Path, scale: Scale) -> Outcome:
    """Seeded simulations of a group that elects its masters: never two writers, nothing acknowledged lost, convergence."""
    count = scale.of(*FAILOVER_SEEDS)
    tasks = [(first, min(SEEDS_AT_ONCE, count - first)) for first in range(0, count, SEEDS_AT_ONCE)]
    return _spread(_simulate, tasks)


def _crash_states(directory: Path, scale: Scale, *, sync: bool) -> Outcome:
    count = scale.of(*CRASH_STATES) // 2
    tasks = [
        (str(directory), sync, min(STATES_PER_TASK, count - done), scale.seed + SEEDS_PER_TASK * number)
        for number, done in enumerate(range(0, count, STATES_PER_TASK))
    ]
    return _spread(_explore, tasks)


def _explore(directory: str, sync: bool, state_count: int, seed: int) -> Findings:
    return explore(_place(directory, seed), sync=sync, state_count=state_count, seed=seed)


def _failing_step(directory: str, sync: bool, operation: str, error_number: int) -> Findings:
    place = _place(directory, operation.replace(" ", "-"), sync, error_number)
    return nth_failures.sweep_memory(place, sync=sync, operation=operation, error_number=error_number)


def _failing_call(directory: str, sync: bool, name: str, error_number: int) -> Findings:
    return nth_failures.sweep_system(
        _place(directory, name, sync, error_number), sync=sync, name=name, error_number=error_number
    )


def _simulate(first: int, count: int) -> Findings:
    findings = Findings()
    for seed in range(first, first + count):
        findings.states += 1
        try:
            simulated_group.run(seed)
        except AssertionError as error:
            findings.errors.append(str(error))
    return findings


def _place(directory: str, *words: object) -> Path:
    place = Path(directory) / "-".join(map(str, words))
    place.mkdir()
    return place


def _spread(function: Callable[..., Findings], tasks: Sequence[Iterable[Any]]) -> Outcome:
    total = Findings()
    with ProcessPoolExecutor(os.cpu_count(), initializer=logging.disable, initargs=(logging.CRITICAL,)) as pool:
        for future in [pool.submit(function, *task) for task in tasks]:
            total.add(future.result())
    return Outcome(total.states, total.lost, total.phantoms, total.errors)
