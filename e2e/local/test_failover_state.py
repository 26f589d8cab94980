"""What a group knows besides its messages goes on under the replica that takes over: timers that wait, pops without an answer."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from e2e import frames
from e2e.local.history import BODY, body_of, read_queue
from e2e.local.replica_group import GROUP as BROKER_NAME
from e2e.local.replica_group import ReplicaGroup
from e2e.processes import wait_until

pytestmark = [pytest.mark.local, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("failover")]
SEND_MESSAGE_V2, POP_MESSAGE, ACK_MESSAGE = 310, 200_050, 200_051
TOPIC, GROUP = "StateTopic", "state_group"


def pair(directory: Path) -> ReplicaGroup:
    """Its failover takes half as long as with the default timings, with room for a loaded machine."""
    return ReplicaGroup(directory, 2, leaseDuration="4000", leaseRenewDeadline="2500", leaseRetryPeriod="500")


def send(link: frames.Link, number: int, properties: str = "") -> None:
    """Store a numbered message in queue 0; it is acknowledged by both replicas."""
    header = {
        "a": "state_producer", "b": TOPIC, "c": "TBW102", "d": "1", "e": "0", "f": "0", "g": str(int(time.time() * 1000)), "h": "0",
        "i": f"UNIQ_KEY\x01STATE{number:08}\x02{properties}", "j": "0", "k": "false", "m": "false",
    }  # fmt: skip
    answer = link.call(SEND_MESSAGE_V2, header, body_of(number, 64))
    assert answer.code == 0, answer


def pop(link: frames.Link, count: int, invisible_ms: int) -> dict[int, str]:
    """Number → receipt handle (apache/rocketmq ExtraInfoUtil) of what is there now."""
    header = {
        "consumerGroup": GROUP, "topic": TOPIC, "queueId": "-1", "maxMsgNums": str(count), "invisibleTime": str(invisible_ms),
        "pollTime": "0", "bornTime": str(int(time.time() * 1000)), "initMode": "0", "expType": "TAG", "exp": "*", "order": "false",
    }  # fmt: skip
    answer = link.call(POP_MESSAGE, header)
    if answer.code != 0:
        return {}
    starts = {tuple(entry.split(" ")[:2]): entry.split(" ")[2] for entry in answer.ext["startOffsetInfo"].split(";")}
    handles = []
    for entry in answer.ext["msgOffsetInfo"].split(";"):
        kind, queue, offsets = entry.split(" ")
        common = (
            f"{starts[kind, queue]} {answer.ext['popTime']} {answer.ext['invisibleTime']} {answer.ext['reviveQid']}"
        )
        handles += [f"{common} {kind} {BROKER_NAME} {queue} {offset}" for offset in offsets.split(",")]
    return dict(zip((int(number) for number in BODY.findall(answer.body)), handles, strict=True))


def acknowledge(link: frames.Link, handle: str) -> None:
    """End the delivery of a message that was popped for the first time."""
    queue, offset = handle.split(" ")[6:]
    header = {"consumerGroup": GROUP, "topic": TOPIC, "queueId": queue, "extraInfo": handle, "offset": offset}
    assert link.call(ACK_MESSAGE, header).code == 0


def test_timers_of_a_killed_master_are_delivered_once_by_its_successor(tmp_path: Path) -> None:
    count = 120
    with pair(tmp_path) as group:
        master = group.wait_master(in_sync=2)
        epoch = group.lease()["epoch"]
        begin_ms = int(time.time() * 1000) + 1500
        with frames.Link(group.addresses[master], timeout_seconds=20.0) as link:
            for number in range(count):
                # From before the kill to long after the other has taken over.
                send(link, number, f"TIMER_DELIVER_MS\x01{begin_ms + number * 100}\x02")
            wait_until(lambda: len(delivered(link)) >= 20, "timers fire", 60)
        group.replicas[master].kill()
        following = group.wait_master(above=epoch)
        assert following != master
        with frames.Link(group.addresses[following], timeout_seconds=20.0) as link:
            wait_until(lambda: len(set(delivered(link))) >= count, "every timer fires", 90)
            # What would come twice comes now.
            send(link, count, f"TIMER_DELIVER_MS\x01{int(time.time() * 1000) + 1500}\x02")
            wait_until(lambda: count in delivered(link), "the last timer fires", 60)
            assert sorted(delivered(link)) == list(range(count + 1))


def delivered(link: frames.Link) -> list[int]:
    """Numbers of the delivered messages; nothing while there is no such queue."""
    return (
        read_queue(link, TOPIC, 0)
        if int(link.call(30, {"topic": TOPIC, "queueId": "0"}).ext.get("offset", "0"))
        else []
    )


def test_pops_of_a_killed_master_without_an_answer_come_again_from_its_successor(tmp_path: Path) -> None:
    with pair(tmp_path) as group:
        master = group.wait_master(in_sync=2)
        epoch = group.lease()["epoch"]
        with frames.Link(group.addresses[master], timeout_seconds=20.0) as link:
            for number in range(30):
                send(link, number)
            popped: dict[int, str] = {}
            while len(popped) < 20:
                popped |= pop(link, 20 - len(popped), 15_000)
            answered = {number for number in popped if number % 2 == 0}
            for number in answered:
                acknowledge(link, popped[number])
        group.wait_equal()
        group.replicas[master].kill()
        following = group.wait_master(above=epoch)
        assert following != master
        expected = set(range(30)) - answered
        again: set[int] = set()
        with frames.Link(group.addresses[following], timeout_seconds=20.0) as link:

            def all_came() -> bool:
                # For so long that none comes a third time.
                again.update(pop(link, 32, 120_000))
                return expected <= again

            wait_until(all_came, "everything without an answer comes again", 90, 0.2)
            assert again == expected
