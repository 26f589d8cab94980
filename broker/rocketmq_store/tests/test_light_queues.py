"""Light queues: a message stands in each that it names, with dense offsets, whatever happens to the store."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from rocketmq_common.batches import BatchEntry, encode_batch
from rocketmq_common.light_queues import light_places
from rocketmq_common.properties import find_property
from rocketmq_store.appending import NewMessage
from rocketmq_store.inspection import StoreView
from rocketmq_store.statuses import PutStatus
from rocketmq_store.tests.harness import Harness, properties

ON: dict[str, Any] = {"light_queues_enable": True, "multi_dispatch_enable": True}


def naming(number: int, *lights: str) -> bytes:
    return properties(number) + f"INNER_MULTI_DISPATCH\x01{','.join(lights)}\x02".encode()


def bodies(harness: Harness, name: str) -> list[int]:
    """Numbers of a light queue's messages, after checking that each names its own place there."""
    found = harness.messages(name)
    for offset, message in enumerate(found, harness.store.queue(name, 0).min_offset):
        assert light_places(message.topic, message.properties)[name] == offset
    return [int(message.body.partition(b":")[0]) for message in found]


@pytest.mark.parametrize("sync", [False, True])
def test_a_message_stands_in_its_queue_and_in_each_light_queue(tmp_path: Path, sync: bool) -> None:
    harness = Harness(tmp_path / "store", sync=sync, **ON)
    harness.open()
    for number in range(30):
        lights = ["%LMQ%all", *(["%LMQ%even"] if number % 2 == 0 else [])]
        harness.put_ok(number, number % 3, properties=naming(number, *lights))
    harness.flush()
    assert bodies(harness, "%LMQ%all") == list(range(30))
    assert bodies(harness, "%LMQ%even") == list(range(0, 30, 2))
    assert harness.numbers("T", 1) == list(range(1, 30, 3))
    harness.close()


def test_a_reader_of_a_light_queue_is_woken(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store", **ON)
    harness.open()
    woken: list[tuple[str, int]] = []
    harness.store.queue("%LMQ%a", 0).watcher = lambda queue, offset, *rest: woken.append((queue.topic, offset))
    harness.put_ok(0)
    harness.put_ok(1, properties=naming(1, "%LMQ%a", "%LMQ%b"))
    assert woken == [("%LMQ%a", 0)]
    harness.close()


@pytest.mark.parametrize("end", ["close", "abandon"])
@pytest.mark.parametrize("loss", ["nothing", "queues", "half of the queues"])
def test_light_queues_survive_and_are_rebuilt_from_the_log(tmp_path: Path, end: str, loss: str) -> None:
    harness = Harness(tmp_path / "store", **ON)
    harness.open()
    for number in range(200):
        harness.put_ok(number, properties=naming(number, f"%LMQ%{number % 7}", "%LMQ%all"))
    getattr(harness, end)()
    if loss == "queues":
        shutil.rmtree(harness.root / "consumequeue")
    elif loss == "half of the queues":
        shutil.rmtree(harness.root / "consumequeue/%LMQ%all")
    harness.open()
    assert bodies(harness, "%LMQ%all") == list(range(200))
    assert bodies(harness, "%LMQ%3") == list(range(3, 200, 7))
    harness.put_ok(200, properties=naming(200, "%LMQ%all"))
    assert bodies(harness, "%LMQ%all") == list(range(201))
    harness.close()
    assert list(StoreView(harness.root, index_slot_count=97).verify()) == []


def test_a_follower_has_the_same_light_queues(tmp_path: Path) -> None:
    master, slave = Harness(tmp_path / "master", **ON), Harness(tmp_path / "slave", **ON)
    master.open()
    slave.open()
    for number in range(100):
        master.put_ok(number, properties=naming(number, "%LMQ%a", f"%LMQ%{number % 3}"))
    log = master.store.commit_log_slice(0, 1 << 30)
    assert log is not None
    for start in range(0, len(log), 1000):
        slave.store.follower.append(start, log[start : start + 1000])
    assert bodies(slave, "%LMQ%a") == list(range(100))
    assert bodies(slave, "%LMQ%1") == list(range(1, 100, 3))
    # The slave goes on where its master was.
    slave.put_ok(100, properties=naming(100, "%LMQ%a"))
    assert bodies(slave, "%LMQ%a") == list(range(101))
    master.close()
    slave.close()


def test_what_a_client_claims_about_offsets_is_replaced(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store", **ON)
    harness.open()
    harness.put_ok(0, properties=naming(0, "%LMQ%a", "other") + b"INNER_MULTI_QUEUE_OFFSET\x01900,900\x02")
    assert bodies(harness, "%LMQ%a") == [0]
    assert find_property(harness.messages("T")[0].properties, "INNER_MULTI_QUEUE_OFFSET") == "0,"
    assert harness.store.queue_bounds("other", 0) is None
    harness.close()


@pytest.mark.parametrize(
    "topic", ["%RETRY%g", "SCHEDULE_TOPIC_XXXX", "rmq_sys_wheel_timer", "RMQ_SYS_TRANS_HALF_TOPIC"]
)
def test_what_waits_in_a_topic_of_the_brokers_own_is_not_seen_before_it_is_delivered(
    tmp_path: Path, topic: str
) -> None:
    harness = Harness(tmp_path / "store", **ON)
    harness.open()
    harness.put_ok(0, topic=topic, properties=naming(0, "%LMQ%a"))
    assert harness.store.queue_bounds("%LMQ%a", 0) is None
    harness.close()


def test_without_the_keys_nothing_is_dispatched(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store", light_queues_enable=True)
    harness.open()
    harness.put_ok(0, properties=naming(0, "%LMQ%a"))
    assert harness.store.queue_bounds("%LMQ%a", 0) is None
    harness.close()


def test_the_number_of_light_queues_is_bounded(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store", light_queue_count_max=3, **ON)
    harness.open()
    harness.put_ok(0, properties=naming(0, "%LMQ%a", "%LMQ%b", "%LMQ%c"))
    refused = harness.put(1, properties=naming(1, "%LMQ%a", "%LMQ%d"))
    assert refused.status is PutStatus.LMQ_CONSUME_QUEUE_NUM_EXCEEDED
    assert bodies(harness, "%LMQ%a") == [0]
    harness.store.delete_topic("%LMQ%b")
    harness.put_ok(2, properties=naming(2, "%LMQ%a", "%LMQ%d"))
    assert bodies(harness, "%LMQ%a") == [0, 2]
    harness.close()


@pytest.mark.parametrize("name", ["%LMQ%a/b", "%LMQ%" + "x" * 300])
def test_a_name_that_is_no_directory_is_refused(tmp_path: Path, name: str) -> None:
    harness = Harness(tmp_path / "store", **ON)
    harness.open()
    assert harness.put(0, properties=naming(0, name)).status is PutStatus.MESSAGE_ILLEGAL
    assert harness.messages() == []
    harness.close()


def test_a_batch_that_names_light_queues_is_refused_and_others_are_not(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store", **ON)
    harness.open()
    harness.put_ok(0)
    named = encode_batch([BatchEntry(0, b"1:", naming(1, "%LMQ%a"))])
    assert harness.store.append_batch(NewMessage("T", 0, named)).status is PutStatus.MESSAGE_ILLEGAL
    mentioned = encode_batch([BatchEntry(0, b"1: INNER_MULTI_DISPATCH", properties(1))])
    assert harness.store.append_batch(NewMessage("T", 0, mentioned)).status is PutStatus.PUT_OK
    assert harness.numbers() == [0, 1]
    harness.close()


def test_light_queues_lose_what_the_log_lost(tmp_path: Path) -> None:
    harness = Harness(tmp_path / "store", delete_when="", **ON)
    harness.open()
    for number in range(1500):
        harness.put_ok(number, properties=naming(number, "%LMQ%a"))
    harness.checkpoint()
    for path in sorted((harness.root / "commitlog").iterdir())[:2]:
        os.utime(path, (0, 0))
    assert harness.store.clean(harness.clock.now_ms(), is_manual=True).removed_segments == 2
    left = bodies(harness, "%LMQ%a")
    assert left == harness.numbers()
    assert 0 < len(left) < 1500
    harness.close()
