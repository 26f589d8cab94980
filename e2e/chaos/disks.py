"""Power cuts by block image, and a disk that fills up under a broker."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from typing import Final

from e2e import frames
from e2e.chaos import images
from e2e.chaos.kills import RESTART_S_MAX, SMALL, TOPIC, found_in, is_answering, judge
from e2e.chaos.outcomes import Outcome, Scale
from e2e.clusters import Broker, Cluster, Kind
from e2e.local.history import body_of
from e2e.local.writer import QUEUE_COUNT, SEND_MESSAGE_V2, Writer
from e2e.processes import wait_until
from rocketmq_testkit.history import History

CUTS: Final = (2, 50)
CUT_IMAGE_SIZE: Final = 192 << 20
# What an asynchronous flush may cost: flushIntervalCommitLog is half a second.
TAIL_S_MAX: Final = 1.0
FULL_IMAGE_SIZE: Final = 64 << 20
BALLAST_STEP: Final = 1 << 20
RECOVER_S_MAX: Final = 30.0
LINES_MAX: Final = 5
BODY_SIZE: Final = 4000


def power_cut_async(directory: Path, scale: Scale) -> Outcome:
    """ASYNC_FLUSH: at most a second of the tail is gone, and no hole."""
    return _power_cuts(directory, scale, "ASYNC_FLUSH")


def power_cut_sync(directory: Path, scale: Scale) -> Outcome:
    """SYNC_FLUSH: nothing acknowledged is gone."""
    return _power_cuts(directory, scale, "SYNC_FLUSH")


def _power_cuts(directory: Path, scale: Scale, flush: str) -> Outcome:
    reason = images.why_not()
    if reason:
        return Outcome(skipped=reason)
    outcome, chance = Outcome(), random.Random(scale.seed)
    tails: list[float] = []
    for number in range(scale.of(*CUTS)):
        place = directory / str(number)
        place.mkdir()
        tail = _power_cut(place, chance, flush, outcome, f"{flush}, cut {number}, seed {scale.seed}")
        tails.append(tail)
        if outcome.problems:
            break
    outcome.notes.append(f"oldest acknowledgement lost was {max(tails, default=0.0):.2f} s old")
    return outcome


def _power_cut(place: Path, chance: random.Random, flush: str, outcome: Outcome, label: str) -> float:
    """One cut; the age in seconds of the oldest acknowledged message that is gone."""
    image, copy = place / "disk.img", place / "copy.img"
    images.make(image, CUT_IMAGE_SIZE)
    history = History()
    settings = SMALL | {"flushDiskType": flush}
    with images.mounted(image, place / "disk") as disk:
        cluster = Cluster(Kind.OURS, place / "cluster", settings=settings, broker_names=())
        with cluster:
            broker = cluster.add_broker("broker-a", store=disk / "store")
            cluster.wait_registered()
            writer = Writer(broker.address, TOPIC, history)
            writer.start()
            wait_until(lambda: history.acknowledged, "the first send", 60, 0.001)
            time.sleep(chance.uniform(0.5, 2.5))  # the moment of the cut is what is random here
            images.cut_power(broker.process, image, copy)
            cut_at = time.monotonic()
            # What was answered before the cut is still on its way to the writer; then nothing comes any more.
            broker.process.kill()
            writer.join()
    outcome.runs += 1
    with images.mounted(copy, place / "after") as disk:
        cluster = Cluster(Kind.OURS, place / "cluster-after", settings=settings, broker_names=())
        with cluster:
            broker = cluster.add_broker("broker-a", store=disk / "store")
            wait_until(partial(is_answering, broker.address), f"{label}: the broker recovers", RESTART_S_MAX)
            found = found_in(broker.address)
    image.unlink()
    copy.unlink()
    if flush == "SYNC_FLUSH":
        judge(outcome, history, found, label)
        return 0.0
    gone, holes = history.lost_tail(found)
    outcome.errors += [f"{label}: {line}" for line in holes[:5]]
    tail = max((cut_at - history.answered_at[number] for number in gone), default=0.0)
    if tail > TAIL_S_MAX:
        outcome.lost.append(
            f"{label}: {len(gone)} messages of the last {tail:.2f} s are gone, {TAIL_S_MAX} s are allowed"
        )
    phantoms = history.judge(found).phantoms
    outcome.phantoms += [f"{label}: {line}" for line in phantoms[:5]]
    return tail


# A full disk.


def full_disk(directory: Path, scale: Scale) -> Outcome:
    """The disk fills up: sends are refused with a reason, one clear line is logged, reads go on, and sends when there is room."""
    reason = images.why_not()
    if reason:
        return Outcome(skipped=reason)
    outcome, history = Outcome(), History()
    image = directory / "disk.img"
    images.make(image, FULL_IMAGE_SIZE)
    # Nothing may be deleted to make room, and the ratio must not act before the disk is really full.
    settings = SMALL | {"cleanFileForciblyEnable": "false"}
    cluster = Cluster(Kind.OURS, directory / "cluster", settings=settings, broker_names=())
    with images.mounted(image, directory / "disk") as disk, cluster:
        broker = cluster.add_broker("broker-a", store=disk / "store")
        cluster.wait_registered()
        for number in range(scale.of(1, 10)):
            _fill_and_free(broker, disk / "ballast", history, outcome, f"round {number}")
        outcome.errors += [] if broker.process.stop() == 0 else [f"the end was not clean: {broker.process.tail()}"]
        broker.process.start()
        wait_until(partial(is_answering, broker.address), "the restart", RESTART_S_MAX)
        judge(outcome, history, found_in(broker.address), "after the restart")
    return outcome


def _send(link: frames.Link, history: History) -> str:
    """Send the next message; why it was refused, empty when it was not."""
    number = len(history.attempted)
    history.attempted.add(number)
    fields = {
        "a": "chaos", "b": TOPIC, "c": "TBW102", "d": str(QUEUE_COUNT), "e": str(number % QUEUE_COUNT), "f": "0",
        "g": str(int(time.time() * 1000)), "h": "0", "i": f"KEYS\x01n{number}\x02", "j": "0", "k": "false", "m": "false",
    }  # fmt: skip
    answer = link.call(SEND_MESSAGE_V2, fields, body_of(number, BODY_SIZE))
    if answer.code:
        return f"{answer.code}: {answer.remark}"
    history.acknowledge(number, int(answer.ext["queueId"]), int(answer.ext["queueOffset"]), time.monotonic())
    return ""


def _fill_and_free(broker: Broker, ballast: Path, history: History, outcome: Outcome, label: str) -> None:
    outcome.runs += 1
    with frames.Link(broker.address, timeout_seconds=30.0) as link:
        if reason := _send(link, history):
            outcome.errors.append(f"{label}: refused while there was room: {reason}")
            return
        logged = broker.process.output.stat().st_size
        _fill(ballast)
        reason = ""
        for _ in range(4 * (1 << 20) // BODY_SIZE):
            reason = _send(link, history)
            if reason:
                break
        if not reason:
            outcome.errors.append(f"{label}: sends succeed on a full disk")
        judge(outcome, history, found_in(broker.address), f"{label}, full")
        for _ in range(200):
            _send(link, history)  # refused sends must not each leave a line
        lines = [
            line for line in broker.process.output.read_text(errors="replace")[logged:].splitlines()
            if "space" in line.lower() or "full" in line.lower()
        ]  # fmt: skip
        if not 1 <= len(lines) <= LINES_MAX:
            outcome.errors.append(
                f"{label}: {len(lines)} lines about the full disk in the log, 1 to {LINES_MAX} are clear"
            )
        outcome.notes.append(f"{label}: sends are answered {reason!r}")
        ballast.unlink()
        started = time.monotonic()
        while _send(link, history):
            if time.monotonic() - started > RECOVER_S_MAX:
                outcome.errors.append(f"{label}: still refused {RECOVER_S_MAX:g} s after there was room again")
                return
            time.sleep(0.1)


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (BALLAST_STEP, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue
