"""The six ways in which the members of a group share queues, by Apache's Java clients, over brokers in two machine rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.drivers import Driver
from e2e.processes import wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(200)]
Unique = Callable[[str], str]
Clients = Callable[[Driver, str, str], None]
# The room is what stands before the @, in names of brokers and, by the driver's resolver, of consumers up to the hyphen.
NORTH, SOUTH = "north@broker", "south@broker"
QUEUES_EACH = 4
WAIT_SECONDS = 90.0


def of(broker: str, *numbers: int) -> list[str]:
    return [f"{broker}:{number}" for number in numbers]


ALL = of(NORTH, *range(QUEUES_EACH)) + of(SOUTH, *range(QUEUES_EACH))
# The two members' shares, without a word on which member has which; None where only a partition is promised.
SHARES: dict[str, list[list[str]] | None] = {
    "AVG": [of(NORTH, 0, 1, 2, 3), of(SOUTH, 0, 1, 2, 3)],
    "AVG_BY_CIRCLE": [of(NORTH, 0, 2) + of(SOUTH, 0, 2), of(NORTH, 1, 3) + of(SOUTH, 1, 3)],
    "CONSISTENT_HASH": None,
    "CONFIG": [of(NORTH, 1), of(SOUTH, 2, 3)],
    "MACHINE_ROOM": [of(NORTH, 0, 1), of(NORTH, 2, 3)],
    "MACHINE_ROOM_NEARBY": [of(NORTH, 0, 1, 2, 3), of(SOUTH, 0, 1, 2, 3)],
}


@pytest.fixture(scope="module")
def rooms(peer_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker in each of two rooms."""
    directory = tmp_path_factory.mktemp("rooms") / "cluster"
    with Cluster(peer_kind, directory, broker_names=(NORTH, SOUTH), settings=TEST_BROKER_SETTINGS) as running:
        yield running


def test_two_members_share_the_queues_as_each_strategy_says(
    java: Driver, rooms: Cluster, unique: Unique, clients: Clients
) -> None:
    topic, producer = unique("Topic"), unique("producer")
    clients(java, "producer", producer)
    java.call("producer.start", name=producer, namesrv=rooms.namesrv_address)
    # TBW102 is at both brokers; the topic gets its queues at each with the first send there.
    java.call("query.create_topic", name=producer, topic=topic, queues=QUEUES_EACH)
    members: dict[str, list[str]] = {}
    for strategy in SHARES:
        group = unique("group")
        for room, queues in (("north", of(NORTH, 1)), ("south", of(SOUTH, 2, 3))):
            name = unique(f"{room}-{strategy}")
            members.setdefault(strategy, []).append(name)
            clients(java, "consumer", name)
            configured = [dict(zip(("broker_name", "queue_id"), q.split(":"), strict=True)) for q in queues]
            options: dict[str, Any] = {
                "strategy": strategy,
                "room": "north",
                "queues": [{**q, "topic": topic, "queue_id": int(q["queue_id"])} for q in configured],
            }
            subscriptions = [{"topic": topic}]
            namesrv = rooms.namesrv_address
            java.call("consumer.start", name=name, group=group, namesrv=namesrv, subscriptions=subscriptions, **options)

    for strategy, wanted in SHARES.items():

        def shared(strategy: str = strategy, wanted: list[list[str]] | None = wanted) -> bool:
            shares = [sorted(java.call("consumer.assigned", name=name, topic=topic)) for name in members[strategy]]
            if wanted is None:
                return sorted(queue for share in shares for queue in share) == ALL
            return sorted(shares) == wanted

        wait_until(shared, f"{strategy}: {wanted or ALL}", WAIT_SECONDS, poll_seconds=0.2)
    # Each in its room: with the others it is a matter of client ids who has which.
    for name, broker in zip(members["MACHINE_ROOM_NEARBY"], (NORTH, SOUTH), strict=True):
        assert sorted(java.call("consumer.assigned", name=name, topic=topic)) == of(broker, 0, 1, 2, 3)
    # What was shared out is consumed, once.
    java.call("producer.send", name=producer, topic=topic, messages=[{"body": f"{n}"} for n in range(16)])
    for strategy in ("AVG", "AVG_BY_CIRCLE", "CONSISTENT_HASH", "MACHINE_ROOM_NEARBY"):

        def consumed(strategy: str = strategy) -> list[str] | None:
            found = [m["body"] for name in members[strategy] for m in java.call("consumer.received", name=name)]
            return found if len(found) >= 16 else None

        assert sorted(wait_until(consumed, strategy, WAIT_SECONDS, poll_seconds=0.2), key=int) == [
            f"{n}" for n in range(16)
        ]
