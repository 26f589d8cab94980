"""Running a plan in one process or several, with progress."""

from __future__ import annotations

import asyncio
import multiprocessing
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

from rocketmq_tools.cli.session import run
from rocketmq_tools.load.plans import ConsumePlan, LatencyPlan, LoadResult, Meter, ProducePlan

Plan = ProducePlan | ConsumePlan | LatencyPlan
PROGRESS_INTERVAL_S = 1.0


def run_plan(plan: Plan, processes: int, note: Callable[[str], None]) -> LoadResult:
    """Run ``plan`` in ``processes`` processes and add up their results; ``note`` gets one line of progress a second."""
    if processes == 1:
        return run(_with_progress(plan, note if sys.stderr.isatty() else None))
    result = LoadResult()
    # Fresh processes: a forked event loop and its sockets would be shared.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        for part in pool.map(_run_alone, [plan] * processes):
            result.merge(part)
    return result


def _run_alone(plan: Plan) -> LoadResult:
    return run(_with_progress(plan, None))


async def _with_progress(plan: Plan, note: Callable[[str], None] | None) -> LoadResult:
    reporting: asyncio.Task[None] | None = None

    async def report(meter: Meter) -> None:
        before = 0
        while True:
            await asyncio.sleep(PROGRESS_INTERVAL_S)
            result = meter.result
            if note is not None:
                latencies = result.latencies
                note(
                    f"{(result.messages - before) / PROGRESS_INTERVAL_S:10.0f} msg/s  p50 {latencies.percentile(0.5):.2f} ms"
                    f"  p99 {latencies.percentile(0.99):.2f} ms  failed {result.failed}"
                )
            before = result.messages

    def started(meter: Meter) -> None:
        nonlocal reporting
        if note is not None:
            reporting = asyncio.get_running_loop().create_task(report(meter))

    try:
        return await plan.run(started)
    finally:
        if reporting is not None:
            reporting.cancel()
            await asyncio.gather(reporting, return_exceptions=True)
