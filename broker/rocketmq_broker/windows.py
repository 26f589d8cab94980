"""Statistics over time: what the last minute, hour and day brought, as tools ask for it (Apache's StatsItem).

The request processors only add to plain counters (`statistics`). Every 10 s `StatisticsWindows.sample` notes where each counter
stands; a window is the difference between now and its oldest note. A counter that did not move for a day keeps a single note,
and the notes of a deleted topic or group vanish with their counter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Final, NamedTuple, TypeVar

from rocketmq_broker.statistics import BrokerStatistics, GroupCounters, TopicCounters
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_store.statuses import StoreStatistics

SAMPLE_INTERVAL_MS: Final = 10_000
MINUTE_SAMPLES: Final = 7  # one each 10 s
HOUR_SAMPLES: Final = 7  # one each 10 minutes
DAY_SAMPLES: Final = 25  # one each hour
SAMPLES_PER_HOUR_NOTE: Final = 60
SAMPLES_PER_DAY_NOTE: Final = 360
RATE_SAMPLES: Final = 61
SLICE: Final = 250  # counters; a millisecond or two of work
ITEMS_MAX: Final = 50_000  # counters with notes, of topics and groups together

K = TypeVar("K")
Values = tuple[int, ...]
Note = tuple[int, Values]


class Window(NamedTuple):
    """Sum, events per second and average per event of one counter in one span of time (Java's BrokerStatsItem)."""

    sum: int = 0
    tps: float = 0.0
    avgpt: float = 0.0


class Windows(NamedTuple):
    """The three spans."""

    minute: Window = Window()
    hour: Window = Window()
    day: Window = Window()


class Rates(NamedTuple):
    """Per second over 10, 60 and 600 s."""

    ten: float
    sixty: float
    six_hundred: float

    def __str__(self) -> str:
        return f"{self.ten} {self.sixty} {self.six_hundred}"


class Totals(NamedTuple):
    """Messages since the start: now, this morning and yesterday morning (local midnight)."""

    now: int
    today_morning: int
    yesterday_morning: int


class _Item:
    """Notes of one counter: (ms, values) at decreasing density."""

    __slots__ = ("day", "hour", "last", "minute")

    def __init__(self, note: Note) -> None:
        self.restart(note)

    def restart(self, note: Note) -> None:
        """Forget all but ``note``."""
        self.last = note[1]
        self.minute = [note]
        self.hour = [note]
        self.day = [note]

    @property
    def is_idle(self) -> bool:
        """Nothing moved for a day: one note, and no more until something moves."""
        return len(self.minute) == 1


class StatisticsWindows:
    """See the module. ``store`` gives the store's own counters."""

    def __init__(self, statistics: BrokerStatistics, store: Callable[[], StoreStatistics], clock: Clock) -> None:
        self._statistics = statistics
        self._store = store
        self._clock = clock
        self._topics: dict[str, _Item] = {}
        self._groups: dict[tuple[str, str], _Item] = {}
        now = clock.now_ms()
        self._previous_ms = now
        self._sample_count = 0
        # All counters begin at zero with the process; the store may not be open yet.
        self._broker = _Item((now, (0, 0, 0, 0)))
        self._rates: list[Note] = [(now, (0, 0, 0, 0, 0))]
        self._day = _local_day(now)
        self._morning = (0, 0)
        self._yesterday = (0, 0)
        self._is_overflowed = False

    @property
    def item_count(self) -> int:
        """Counters that have notes."""
        return len(self._topics) + len(self._groups)

    def sample(self) -> None:
        """Take one note of everything that moved; to be called each `SAMPLE_INTERVAL_MS`."""
        for _ in self._steps():
            pass

    async def sample_in_slices(self) -> None:
        """The same, giving way to whatever else waits for the event loop after every `SLICE` counters."""
        for _ in self._steps():
            await asyncio.sleep(0)

    def _steps(self) -> Iterator[None]:
        now = self._clock.now_ms()
        self._sample_count += 1
        statistics = self._statistics
        for topic in [topic for topic in self._topics if topic not in statistics.topics]:
            del self._topics[topic]
        for key in [key for key in self._groups if key not in statistics.groups]:
            del self._groups[key]
        for number, (topic, counters) in enumerate(list(statistics.topics.items())):
            self._note(self._topics, topic, _topic_values(counters), now)
            if number % SLICE == SLICE - 1:
                yield
        for number, (key, group_counters) in enumerate(list(statistics.groups.items())):
            self._note(self._groups, key, _group_values(group_counters), now)
            if number % SLICE == SLICE - 1:
                yield
        self._extend(self._broker, self._broker_values(), now)
        _append(self._rates, (now, self._rate_values()), RATE_SAMPLES)
        day = _local_day(now)
        if day != self._day:
            self._day = day
            self._yesterday = self._morning
            self._morning = (statistics.put_nums, statistics.get_nums)
        self._previous_ms = now

    def topic(self, topic: str, value: int, times: int = 0) -> Windows:
        """Windows of a topic's counter; ``value`` and ``times`` are positions in (messages, bytes)."""
        counters = self._statistics.topics.get(topic)
        if counters is None:
            return Windows()
        return self._windows(self._topics.get(topic), _topic_values(counters), value, times)

    def group(self, group: str, topic: str, value: int, times: int = 2) -> Windows:
        """Windows of a group's counter; positions in (messages, bytes, pulls, sent back, dead letters)."""
        counters = self._statistics.groups.get((group, topic))
        if counters is None:
            return Windows()
        return self._windows(self._groups.get((group, topic)), _group_values(counters), value, times)

    def broker(self, value: int) -> Windows:
        """Windows of the whole broker; positions in (put, got, put and got without system topics)."""
        return self._windows(self._broker, self._broker_values(), value, value)

    def rates(self) -> dict[str, Rates]:
        """putTps, getFoundTps, getMissTps, getTotalTps and getTransferredTps."""
        now, current = self._clock.now_ms(), self._rate_values()
        spans = [self._span(now, seconds) for seconds in (10, 60, 600)]
        result = {}
        for index, name in enumerate(("putTps", "getFoundTps", "getMissTps", "getTotalTps", "getTransferredTps")):
            result[name] = Rates(*(_rate(current[index] - note[1][index], now - note[0]) for note in spans))
        return result

    def put_totals(self) -> Totals:
        """Messages put."""
        return Totals(self._statistics.put_nums, self._morning[0], self._yesterday[0])

    def get_totals(self) -> Totals:
        """Messages delivered."""
        return Totals(self._statistics.get_nums, self._morning[1], self._yesterday[1])

    # -- inside ------------------------------------------------------------------------------------------------------

    def _note(self, items: dict[K, _Item], key: K, values: Values, now: int) -> None:
        item = items.get(key)
        if item is None:
            if not any(values):
                return
            if self.item_count >= ITEMS_MAX:
                self._is_overflowed = True
                return
            # Everything until now happened since the sample before, when the counter was still at zero; unless there was no
            # room for it then.
            base = values if self._is_overflowed else (0,) * len(values)
            item = items[key] = _Item((self._previous_ms, base))
        elif item.is_idle:
            if values == item.last:
                return
            item.restart((self._previous_ms, item.last))
        self._extend(item, values, now)
        if len(item.day) == DAY_SAMPLES and item.day[0][1] == values:
            item.restart((now, values))

    def _extend(self, item: _Item, values: Values, now: int) -> None:
        note = (now, values)
        item.last = values
        _append(item.minute, note, MINUTE_SAMPLES)
        if self._sample_count % SAMPLES_PER_HOUR_NOTE == 0:
            _append(item.hour, note, HOUR_SAMPLES)
        if self._sample_count % SAMPLES_PER_DAY_NOTE == 0:
            _append(item.day, note, DAY_SAMPLES)

    def _windows(self, item: _Item | None, values: Values, value: int, times: int) -> Windows:
        now = self._clock.now_ms()
        if item is None:
            if not any(values):
                return Windows()
            if self._is_overflowed:
                return Windows()
            window = _window((self._previous_ms, (0,) * len(values)), values, now, value, times)
            return Windows(window, window, window)
        return Windows(*(_window(notes[0], values, now, value, times) for notes in (item.minute, item.hour, item.day)))

    def _span(self, now: int, seconds: int) -> Note:
        """The youngest note at least that old, else the oldest one."""
        for note in reversed(self._rates):
            if now - note[0] >= seconds * 1000:
                return note
        return self._rates[0]

    def _rate_values(self) -> Values:
        store = self._store()
        found, missed = store.get_found_count, store.get_missed_count
        return (store.put_message_count, found, missed, found + missed, store.get_message_count)

    def _broker_values(self) -> Values:
        statistics = self._statistics
        system_put = sum(c.put_nums for topic, c in statistics.topics.items() if names.is_system_topic(topic))
        system_got = sum(c.get_nums for (_, topic), c in statistics.groups.items() if names.is_system_topic(topic))
        put, got = statistics.put_nums, statistics.get_nums
        return (put, got, put - system_put, got - system_got)


def _topic_values(counters: TopicCounters) -> Values:
    return (counters.put_nums, counters.put_size)


def _group_values(counters: GroupCounters) -> Values:
    return (
        counters.get_nums,
        counters.get_size,
        counters.get_requests,
        counters.send_back_nums,
        counters.dlq_nums,
    )


def _append(notes: list[Note], note: Note, count_max: int) -> None:
    notes.append(note)
    if len(notes) > count_max:
        del notes[0]


def _window(base: Note, values: Values, now: int, value: int, times: int) -> Window:
    total = values[value] - base[1][value]
    events = values[times] - base[1][times]
    return Window(total, _rate(total, now - base[0]), total / events if events else 0.0)


def _rate(count: int, elapsed_ms: int) -> float:
    return round(count * 1000 / elapsed_ms, 4) if elapsed_ms > 0 else 0.0


def _local_day(now_ms: int) -> date:
    # Local on purpose: "today" in Apache's tools is the machine's day.
    return datetime.fromtimestamp(now_ms / 1000).astimezone().date()
