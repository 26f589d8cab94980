"""Masters that Apache's Java client sends to are killed, or changed on purpose: when do its sends succeed again, and is all there?

The client is unmodified, with its own timeout (3 s), tries (3) and route polls (each 30 s). A killed process is started again at
once, as the kubelet and ``rocketmq up`` do. Some groups are tried at the same time, for most of a trial is waiting for a lease.
"""

from __future__ import annotations

import dataclasses
import os
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from e2e import frames, toolchain
from e2e.chaos.kills import judge
from e2e.chaos.outcomes import Outcome, Scale
from e2e.clusters import Cluster, Kind
from e2e.drivers import Driver, java_driver
from e2e.local.history import read_queue
from e2e.local.replica_group import ReplicaGroup
from e2e.processes import wait_until
from rocketmq_testkit.history import History

KILLS: Final = (3, 100)
SWITCHOVERS: Final = (3, 60)
GROUPS: Final = 3
QUEUE_COUNT: Final = 4
SETTLED_COUNT: Final = 50
WAIT_S_MAX: Final = 120.0
# The promises, and what a machine that does other things too may add before the run counts as failed.
KILLED_S_MAX: Final = 12.0
SWITCHOVER_S_MAX: Final = 3.0
GRACE_S: Final = float(os.environ.get("ROCKETMQ_FAILOVER_GRACE_SECONDS", "8"))
PAUSE_S_MAX: Final = 3.0


class Stream:
    """What one application in the Java process sent; all of them share its one pipe."""

    def __init__(self, driver: Driver, pipe: threading.Lock, name: str, namesrv: str, topic: str) -> None:
        self._driver, self._pipe, self.name, self.topic = driver, pipe, name, topic
        self.records: list[dict[str, Any]] = []
        self._call("stream.start", group=f"g-{name}", namesrv=namesrv, topic=topic)

    def _call(self, command: str, **arguments: Any) -> Any:
        with self._pipe:
            return self._driver.call(command, name=self.name, **arguments)

    def take(self) -> list[dict[str, Any]]:
        """All records until now, by the time of their answer."""
        self.records += self._call("stream.take")
        return self.records

    def stop(self) -> History:
        """End the application; what it was told."""
        self.records += self._call("stream.stop")
        history = History()
        for record in self.records:
            history.attempted.add(record["number"])
            if record["status"] == "SEND_OK":
                place = record["queue_id"], record["queue_offset"]
                history.acknowledge(record["number"], *place, at=record["answered_ns"] / 1e9)
        return history

    def wait_successes(self, since: float, count: int, what: str) -> None:
        """Wait for ``count`` successes, without a failure among them, of sends that began after ``since`` (monotonic seconds)."""
        wait_until(lambda: self._run_of_successes(since) >= count, f"{self.name}: {what}", WAIT_S_MAX, 0.2)

    def _run_of_successes(self, since: float) -> int:
        count = 0
        for record in reversed(self.take()):
            if record["sent_ns"] / 1e9 < since or record["status"] != "SEND_OK":
                break
            count += 1
        return count

    def back_after(self, since: float) -> tuple[float, int]:
        """(seconds from ``since`` to the first success after which nothing failed any more, failed sends after ``since``)."""
        later = sorted((r for r in self.take() if r["answered_ns"] / 1e9 > since), key=lambda r: r["answered_ns"])
        last_failure = max((n for n, record in enumerate(later) if record["status"] != "SEND_OK"), default=-1)
        first = next(r for r in later[last_failure + 1 :] if r["sent_ns"] / 1e9 > since)
        return first["answered_ns"] / 1e9 - since, sum(record["status"] != "SEND_OK" for record in later)

    def gap_after(self, since: float) -> float:
        """The longest time between two successes after ``since``, seconds."""
        times = sorted(r["answered_ns"] / 1e9 for r in self.take() if r["status"] == "SEND_OK")
        later = [max(time, since) for time in times if time > since]
        return max(b - a for a, b in zip([since, *later], later, strict=False))


Trial = Callable[[ReplicaGroup, Stream, random.Random, Outcome, dict[str, list[float]]], None]


def killed(directory: Path, scale: Scale) -> Outcome:
    """kill -9 of masters that a Java client sends to."""
    outcome, figures = _run(directory, scale, KILLS, _kill)
    _tell(outcome, "writes back after a kill", figures["back"], KILLED_S_MAX)
    outcome.notes.append(f"{int(sum(figures['failed']))} sends failed in all, after the client's own tries")
    return outcome


def switched(directory: Path, scale: Scale) -> Outcome:
    """Planned switchovers under a Java client that sends."""
    outcome, figures = _run(directory, scale, SWITCHOVERS, _switch)
    _tell(outcome, "longest time without an answered send in a switchover", figures["gap"], SWITCHOVER_S_MAX)
    _tell(outcome, "from the command to the new epoch", figures["handed"], SWITCHOVER_S_MAX)
    outcome.notes.append(f"{int(sum(figures['failed']))} sends failed in all, after the client's own tries")
    for gap, failed in zip(figures["gap"], figures["failed"], strict=True):
        # On a machine that is held up for longer than the client's patience, sends fail whatever the brokers do.
        if failed and gap < SWITCHOVER_S_MAX:
            outcome.errors.append(f"{int(failed)} sends failed although sends were answered again after {gap:.1f} s")
    return outcome


def _tell(outcome: Outcome, what: str, seconds: list[float], seconds_max: float) -> None:
    if not seconds:
        return
    ordered = sorted(seconds)
    p50, p99 = (ordered[min(len(ordered) - 1, int(len(ordered) * share))] for share in (0.5, 0.99))
    outcome.notes.append(f"{what}: p50 {p50:.2f} s, p99 {p99:.2f} s, max {ordered[-1]:.2f} s of {len(ordered)}")
    if p99 > seconds_max + GRACE_S:
        outcome.errors.append(f"{what}: p99 is {p99:.1f} s, promised are {seconds_max:.0f} s")


def _run(
    directory: Path, scale: Scale, counts: tuple[int, int], trial: Trial
) -> tuple[Outcome, dict[str, list[float]]]:
    outcome, figures = Outcome(), defaultdict[str, list[float]](list)
    try:
        peer = dataclasses.replace(toolchain.apache(), commands=("StreamCommands",))
    except toolchain.ToolMissing as missing:
        outcome.skipped = str(missing)
        return outcome, figures
    count = scale.of(*counts)
    shares = [count // GROUPS + (index < count % GROUPS) for index in range(GROUPS)]
    with Cluster(Kind.OURS, directory / "cluster", broker_names=()) as cluster, java_driver(peer, directory) as driver:
        pipe = threading.Lock()
        threads = [
            threading.Thread(
                target=_guarded,
                args=(
                    partial(_try_group, directory, cluster, driver, pipe, scale, trial, figures),
                    index,
                    share,
                    outcome,
                ),
                name=f"trials-{index}",
            )
            for index, share in enumerate(shares)
            if share
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return outcome, figures


def _guarded(work: Callable[[int, int, Outcome], None], index: int, share: int, outcome: Outcome) -> None:
    try:
        work(index, share, outcome)
    except Exception as error:  # noqa: BLE001 - the other groups go on, and the outcome says what broke
        outcome.errors.append(f"group {index}: {type(error).__name__}: {error}")


def _try_group(
    directory: Path, cluster: Cluster, driver: Driver, pipe: threading.Lock, scale: Scale, trial: Trial,
    figures: dict[str, list[float]], index: int, share: int, outcome: Outcome,
) -> None:  # fmt: skip
    chance, name = random.Random(scale.seed + index), f"group-{index}"
    # Its topic is no other group's: what is sent can go nowhere else.
    topic = f"Topic-{name}"
    with ReplicaGroup(
        directory / name, 2, name=name, namesrvAddr=cluster.namesrv_address, autoCreateTopicEnable="false"
    ) as group:
        _create(group.addresses[_master(group)[0]], topic)
        stream = Stream(driver, pipe, name, cluster.namesrv_address, topic)
        try:
            for _ in range(share):
                stream.wait_successes(0.0, SETTLED_COUNT, "sends succeed before the trial")
                time.sleep(chance.uniform(0, PAUSE_S_MAX))
                trial(group, stream, chance, outcome, figures)
                outcome.runs += 1
        finally:
            history = stream.stop()
        group.wait_equal(WAIT_S_MAX)
        with frames.Link(group.addresses[_master(group)[0]], timeout_seconds=20.0) as link:
            found = {queue: read_queue(link, topic, queue) for queue in range(QUEUE_COUNT)}
        judge(outcome, history, found, name, ordered=False)
        first, second = group.logs()
        if first != second:
            outcome.errors.append(f"{name}: the logs differ")
        outcome.notes.append(f"{name}: {len(history.acknowledged)} sends acknowledged of {len(history.attempted)}")


def _create(address: str, topic: str) -> None:
    fields = {
        "topic": topic, "defaultTopic": "TBW102", "readQueueNums": str(QUEUE_COUNT), "writeQueueNums": str(QUEUE_COUNT),
        "perm": "6", "topicFilterType": "SINGLE_TAG", "topicSysFlag": "0", "order": "false",
    }  # fmt: skip
    answer = frames.call(address, 17, fields, timeout_seconds=20.0)
    assert answer.code == 0, f"{topic}: {answer.code}, {answer.remark}"


def _master(group: ReplicaGroup) -> tuple[int, int]:
    """(the replica that the lease names, its epoch), once everybody is in sync."""

    def settled() -> tuple[int, int] | None:
        record = group.lease()
        if not record.get("holder") or len(record["inSync"]) < len(group.replicas):
            return None
        return int(record["holder"].split("/")[0].rpartition("-")[2]), record["epoch"]

    return wait_until(settled, f"{group.name} is whole", WAIT_S_MAX, 0.1)


def _kill(
    group: ReplicaGroup, stream: Stream, chance: random.Random, outcome: Outcome, figures: dict[str, list[float]]
) -> None:
    master, _ = _master(group)
    group.replicas[master].kill()
    killed_at = time.monotonic()
    group.replicas[master].start()
    stream.wait_successes(killed_at, SETTLED_COUNT, "sends succeed after a kill")
    _master(group)
    seconds, failed = stream.back_after(killed_at)
    figures["back"].append(seconds)
    figures["failed"].append(failed)


def _switch(
    group: ReplicaGroup, stream: Stream, chance: random.Random, outcome: Outcome, figures: dict[str, list[float]]
) -> None:
    master, epoch = _master(group)
    asked_at = time.monotonic()
    group.ask_for(1 - master)
    wait_until(
        lambda: (record := group.lease())["epoch"] > epoch and bool(record["holder"]),
        f"{group.name}: another epoch", WAIT_S_MAX,
    )  # fmt: skip
    figures["handed"].append(time.monotonic() - asked_at)
    _master(group)
    stream.wait_successes(time.monotonic(), SETTLED_COUNT, "sends succeed after a switchover")
    figures["gap"].append(stream.gap_after(asked_at))
    figures["failed"].append(stream.back_after(asked_at)[1])
