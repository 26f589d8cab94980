"""What others learn of the timer service: 60 checkpoint and 61 counts for slaves, metrics, runtime info."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from rocketmq_broker.timer.counters import LATENESS_BOUNDS_MS
from rocketmq_broker.timer.service import TimerService
from rocketmq_common.exposition import Family
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route

# Apache's bounds of rocketmq_timer_message_snapshot, in seconds.
SNAPSHOT_BOUNDS_S: Final = (5, 60, 300, 900, 3600, 14_400, 28_800, 86_400)
# Series, and slots of the wheel, between two breaths of the event loop.
SLICE: Final = 250
SLOT_SLICE: Final = 2000

MakeFamily = Callable[..., Family]


class TimerReports:
    """The requests. Apache's slaves ask them every few seconds."""

    def __init__(self, timers: TimerService) -> None:
        self._timers = timers

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        return [
            Route(RequestCode.GET_TIMER_CHECK_POINT, None, self.checkpoint),
            Route(RequestCode.GET_TIMER_METRICS, None, self.counts),
        ]

    def checkpoint(self, _: Connection, __: Command, ___: None) -> Response:
        """60: 56 bytes."""
        return Response(body=self._timers.checkpoint().encode())

    def counts(self, _: Connection, __: Command, ___: None) -> Response:
        """61: the JSON of ``timermetrics``."""
        return Response(body=self._timers.counts.encode())


def timer_runtime_info(timers: TimerService) -> dict[str, str]:
    """The keys of GET_BROKER_RUNTIME_INFO."""
    enqueue, dequeue = timers.counters.rates()
    return {
        "timerReadBehind": str(timers.behind_ms // 1000),
        "timerOffsetBehind": str(timers.unread_count),
        "timerCongestNum": str(timers.counts.total),
        "timerEnqueueTps": str(round(enqueue, 2)),
        "timerDequeueTps": str(round(dequeue, 2)),
    }


def timer_families(
    timers: TimerService, gauge: MakeFamily, counter: MakeFamily, histogram: MakeFamily
) -> Iterator[Family | None]:
    """Everything about timer messages under Apache's names; ``None`` is a good moment to let the event loop do something else.

    The three functions make a family of a name, a help text and labels.
    """
    counters = timers.counters
    waiting = {topic: timing.count for topic, timing in timers.counts.topics.items() if timing.count > 0}
    for family, values in (
        (gauge("rocketmq_timing_messages", "Timer messages that wait", "topic"), waiting),
        (counter("rocketmq_timer_enqueue", "Messages put into the timer wheel", "topic"), counters.enqueued),
        (counter("rocketmq_timer_dequeue", "Timer messages delivered", "topic"), counters.dequeued),
    ):
        for number, (topic, value) in enumerate(list(values.items())):
            if number % SLICE == SLICE - 1:
                yield None
            family.add([topic], value)
        yield family
    for name, text, value in (
        ("rocketmq_timer_enqueue_lag", "Timer messages that are not in the wheel yet", timers.unread_count),
        ("rocketmq_timer_enqueue_latency_milliseconds", "Age of the oldest of them", timers.unread_ms),
        ("rocketmq_timer_dequeue_lag", "Messages in slots that are overdue", timers.overdue_count),
        ("rocketmq_timer_dequeue_latency_milliseconds", "For how long the oldest slot is overdue", timers.behind_ms),
    ):
        family = gauge(name, text)
        family.add([], value)
        yield family
    lateness = histogram("rocketmq_timer_lateness_milliseconds", "Time from a message's due time to its delivery")
    lateness.add_histogram([], LATENESS_BOUNDS_MS, counters.lateness_counts, counters.lateness_ms_sum)
    yield lateness
    for name, text, value in (
        ("rocketmq_timer_recalled", "Timer messages taken back before they were due", counters.recalled_nums),
        (
            "rocketmq_timer_moved",
            "Waiting messages stored anew because their log segment had to go",
            timers.moved_count,
        ),
    ):
        family = counter(name, text)
        family.add([], value)
        yield family
    yield from _snapshot(timers, gauge)


def _snapshot(timers: TimerService, gauge: MakeFamily) -> Iterator[Family | None]:
    family = gauge("rocketmq_timer_message_snapshot", "Timer messages due within so many seconds", "timer_bound_s")
    per_second = 1000 // timers.precision_ms
    bounds = iter(SNAPSHOT_BOUNDS_S)
    bound, total = next(bounds), 0
    for number, waiting in enumerate(timers.slots_ahead(SNAPSHOT_BOUNDS_S[-1] * per_second), start=1):
        total += waiting
        if number == bound * per_second:
            family.add([str(bound)], total)
            bound = next(bounds, 0)
        if number % SLOT_SLICE == 0:
            yield None
    yield family
