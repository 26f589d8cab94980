"""Statistics over time, with a clock moved by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_broker import windows
from rocketmq_broker.statistics import BrokerStatistics
from rocketmq_broker.windows import SAMPLE_INTERVAL_MS, StatisticsWindows, Window, Windows
from rocketmq_common.clock import ManualClock
from rocketmq_store.statuses import StoreStatistics


class Run:
    """Counters, a clock, and the windows over them."""

    def __init__(self, now_ms: int = 1_700_000_000_000) -> None:
        self.clock = ManualClock(now_ms)
        self.statistics = BrokerStatistics()
        self.store = SimpleNamespace(put_message_count=0, get_found_count=0, get_missed_count=0, get_message_count=0)
        self.windows = StatisticsWindows(
            self.statistics, lambda: cast(StoreStatistics, cast(Any, self.store)), self.clock
        )

    def put(self, topic: str, count: int = 1, size: int = 10) -> None:
        counters = self.statistics.topic(topic)
        counters.put_nums += count
        counters.put_size += count * size
        self.store.put_message_count += count

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds * 1000 // SAMPLE_INTERVAL_MS):
            self.clock.advance(SAMPLE_INTERVAL_MS)
            self.windows.sample()


def test_first_messages_count_before_the_first_sample():
    run = Run()
    run.put("T", 20)
    run.clock.advance(5000)
    assert run.windows.topic("T", 0).minute == Window(20, 4.0, 1.0)
    assert run.windows.topic("T", 1).minute == Window(200, 40.0, 10.0)


def test_steady_traffic_has_its_rate_in_every_window():
    run = Run()
    for _ in range(25 * 360):
        run.put("T", 10)
        run.pass_time(10)
    found = run.windows.topic("T", 0)
    assert [round(window.tps, 3) for window in found] == [1.0, 1.0, 1.0]
    assert found.minute.sum == 60
    assert found.hour.sum == 3600
    assert found.day.sum == 24 * 3600


def test_a_burst_leaves_the_minute_then_the_hour_then_the_day():
    run = Run()
    run.put("T", 7)
    run.pass_time(20)
    assert [window.sum for window in run.windows.topic("T", 0)] == [7, 7, 7]
    run.pass_time(120)
    assert [window.sum for window in run.windows.topic("T", 0)] == [0, 7, 7]
    run.pass_time(2 * 3600)
    assert [window.sum for window in run.windows.topic("T", 0)] == [0, 0, 7]
    run.pass_time(26 * 3600)
    assert [window.sum for window in run.windows.topic("T", 0)] == [0, 0, 0]


def test_traffic_after_an_idle_day_counts_only_itself():
    run = Run()
    run.put("T", 7)
    run.pass_time(27 * 3600)
    run.put("T", 3)
    run.pass_time(10)
    assert [window.sum for window in run.windows.topic("T", 0)] == [3, 3, 3]
    assert run.windows.topic("T", 0).minute.tps == pytest.approx(0.3)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=40))
def test_minute_is_the_sum_of_the_last_samples(counts):
    run = Run()
    run.put("T")
    run.pass_time(10)
    for count in counts:
        if count:
            run.put("T", count)
        run.pass_time(10)
    assert run.windows.topic("T", 0).minute.sum == sum([1, *counts][-6:])
    assert run.windows.topic("T", 0).day.sum == 1 + sum(counts)


def test_group_windows_average_over_pulls():
    run = Run()
    counters = run.statistics.group("g", "T")
    counters.get_nums += 30
    counters.get_size += 300
    counters.get_requests += 10
    counters.send_back_nums += 2
    run.pass_time(10)
    assert run.windows.group("g", "T", 0).minute.avgpt == 3.0
    assert run.windows.group("g", "T", 1).minute.avgpt == 30.0
    assert run.windows.group("g", "T", 3, 3).minute.sum == 2
    assert run.windows.group("x", "T", 0) == Windows()


def test_items_of_deleted_topics_and_groups_vanish():
    run = Run()
    run.put("T")
    run.statistics.group("g", "T").get_nums += 1
    run.pass_time(10)
    assert run.windows.item_count == 2
    run.statistics.forget_topic("T")
    assert run.windows.topic("T", 0) == Windows()
    run.pass_time(10)
    assert run.windows.item_count == 0


def test_items_are_bounded_and_late_ones_invent_nothing(monkeypatch):
    monkeypatch.setattr(windows, "ITEMS_MAX", 2)
    run = Run()
    for topic in ("a", "b", "c"):
        run.put(topic, 100)
    run.pass_time(10)
    assert run.windows.item_count == 2
    assert run.windows.topic("c", 0) == Windows()
    run.statistics.forget_topic("a")
    run.pass_time(10)
    run.put("c", 1)
    run.pass_time(10)
    assert run.windows.topic("c", 0).minute.sum == 1


def test_rates_are_over_ten_sixty_and_six_hundred_seconds():
    run = Run()
    run.store.get_found_count, run.store.get_missed_count, run.store.get_message_count = 4, 6, 40
    run.put("T", 600)
    run.pass_time(10)
    assert str(run.windows.rates()["putTps"]) == "60.0 60.0 60.0"
    run.pass_time(50)
    assert run.windows.rates()["putTps"] == (0.0, 10.0, 10.0)
    run.pass_time(540)
    rates = run.windows.rates()
    assert rates["putTps"] == (0.0, 0.0, 1.0)
    assert rates["getTotalTps"].six_hundred == pytest.approx(10 / 600, abs=1e-4)
    assert rates["getTransferredTps"].six_hundred == pytest.approx(40 / 600, abs=1e-4)
    run.pass_time(10)
    assert run.windows.rates()["putTps"] == (0.0, 0.0, 0.0)


def test_totals_remember_the_last_two_mornings():
    evening = datetime(2024, 5, 1, 23, 59, 55).astimezone()
    run = Run(int(evening.timestamp() * 1000))
    run.put("T", 5)
    run.pass_time(10)
    run.put("T", 3)
    assert run.windows.put_totals() == (8, 5, 0)
    tomorrow = evening + timedelta(days=1)
    run.pass_time(int((tomorrow - evening).total_seconds()) + 10)
    assert run.windows.put_totals() == (8, 8, 5)


def test_broker_windows_tell_system_topics_apart():
    run = Run()
    run.put("T", 5)
    run.put("rmq_sys_x", 2)
    run.pass_time(10)
    assert run.windows.broker(0).minute.sum == 7
    assert run.windows.broker(2).minute.sum == 5
