"""Shares of a group, against what Apache's own classes gave (golden/allocation.json, recorded by e2e/golden/allocation.py)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rocketmq_client import (
    AllocationStrategy,
    Average,
    AverageByCircle,
    ByConfig,
    ByMachineRoom,
    ConsistentHash,
    MachineRoomNearby,
    MessageQueue,
)
from rocketmq_client.latency import LATENCY_MAX_MS, NOT_AVAILABLE_MS
from rocketmq_client.selectors import by_hash

GOLDEN: dict[str, Any] = json.loads((Path(__file__).parent / "golden" / "allocation.json").read_text())


def room_of_queue(queue: MessageQueue) -> str:
    return queue.broker_name.split("@")[0]


def room_of_member(member: str) -> str:
    return member.split("-")[0]


def nearby(strategy: AllocationStrategy) -> MachineRoomNearby:
    return MachineRoomNearby(strategy, room_of_queue=room_of_queue, room_of_member=room_of_member)


STRATEGIES: tuple[AllocationStrategy, ...] = (
    Average(),
    AverageByCircle(),
    ByMachineRoom(["room1", "room2"]),
    nearby(Average()),
    nearby(AverageByCircle()),
    ConsistentHash(),
    ConsistentHash(3),
)


@pytest.mark.parametrize("index", range(len(STRATEGIES)))
def test_every_member_gets_what_apaches_class_gives_it(index: int) -> None:
    strategy = STRATEGIES[index]
    vectors = [vector for vector in GOLDEN["allocations"] if vector["strategy"] == index]
    assert len(vectors) == 25
    for vector in vectors:
        assert strategy.name == vector["name"]
        queues = [MessageQueue("orders", name, queue_id) for name, queue_id in vector["queues"]]
        members = sorted(vector["shares"])
        for member, share in vector["shares"].items():
            got = strategy.allocate(member, queues, members)
            assert [[q.broker_name, q.queue_id] for q in got] == share, (member, len(queues), len(members))


@given(
    st.sampled_from([Average(), AverageByCircle(), nearby(Average()), ConsistentHash(), ConsistentHash(1)]),
    st.integers(1, 40),
    st.integers(1, 12),
)
def test_every_queue_has_exactly_one_owner(strategy: AllocationStrategy, queue_count: int, member_count: int) -> None:
    queues = [MessageQueue("t", f"room{i % 3}@b", i) for i in range(queue_count)]
    members = [f"room{i % 2}-{i}" for i in range(member_count)]
    shares = [q for member in members for q in strategy.allocate(member, queues, members)]
    assert sorted(shares) == sorted(queues)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_stranger_gets_nothing(strategy: AllocationStrategy) -> None:
    assert strategy.allocate("room1-stranger", [MessageQueue("t", "room1@b", 0)], ["room1-a"]) == []


def test_a_configured_share_is_given_topic_by_topic() -> None:
    mine = [MessageQueue("a", "b", 1), MessageQueue("other", "b", 0)]
    strategy = ByConfig(mine)
    assert strategy.allocate("x", [MessageQueue("a", "b", i) for i in range(4)], ["x", "y"]) == mine[:1]
    assert strategy.name == "CONFIG"


def test_a_ring_without_points_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        ConsistentHash(0)


def test_the_hash_selector_chooses_what_javas_chooses() -> None:
    for vector in GOLDEN["hashes"]:
        queues = [MessageQueue("orders", "b", i) for i in range(vector["count"])]
        assert by_hash(queues, vector["key"]).queue_id == vector["index"], vector


def test_the_latency_tables_are_javas() -> None:
    assert list(LATENCY_MAX_MS) == GOLDEN["latencyMax"]
    assert list(NOT_AVAILABLE_MS) == GOLDEN["notAvailableDuration"]
