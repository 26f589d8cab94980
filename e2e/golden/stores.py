"""Small store directories written by Apache's broker, with what its own client read from them."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from e2e import toolchain
from e2e.clusters import Cluster, Kind
from e2e.drivers import java_driver

TOPIC, GROUP = "GoldenTopic", "golden-store-group"
STORE_SIZE_MAX = 300 * 1024
BODY_SIZE_KEPT_MAX = 100
# Sizes that roll files within a few dozen messages; the defaults would make sparse files of a gigabyte.
STORE_SETTINGS: Mapping[str, str] = {
    "mappedFileSizeCommitLog": str(64 * 1024),
    "mappedFileSizeConsumeQueue": str(20 * 32),
    "maxHashSlotNum": "500",
    "maxIndexNum": "2000",
    "timerWheelEnable": "false",
    "messageDelayLevel": "1s 1h 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s",
    "diskMaxUsedSpaceRatio": "95",
}


def record_store(directory: Path, target: Path, *, is_killed: bool) -> None:
    """Write ``target`` (tar.gz of the store) and beside it ``.json`` with its contents as Apache's client saw them."""
    with Cluster(Kind.APACHE, directory / "cluster", settings=STORE_SETTINGS) as cluster:
        home = directory / "client"
        home.mkdir()
        with java_driver(toolchain.apache(), home) as driver:
            namesrv = cluster.namesrv_address
            driver.mqadmin(
                "updateTopic",
                "-n",
                namesrv,
                "-b",
                cluster.broker.address,
                "-t",
                TOPIC,
                "-r",
                "2",
                "-w",
                "2",
                "-a",
                "+message.type=NORMAL",
            )
            driver.call("producer.start", name="p", namesrv=namesrv, compress_over=4000)
            messages: list[dict[str, Any]] = [
                {
                    "tag": f"Tag{'ABC'[n % 3]}",
                    "keys": f"key-{n} shared",
                    "body": f"body {n} " + "x" * 1500,
                    "properties": {"n": str(n)},
                }
                for n in range(100)
            ]
            messages += [
                {"body_size": 6000, "keys": "compressed"},
                {"body": "中文😀", "keys": "unicode"},
                {"body": "bare"},
            ]
            sent = driver.call("producer.send", name="p", topic=TOPIC, messages=messages)
            sent += driver.call(
                "producer.send",
                name="p",
                topic=TOPIC,
                mode="batch",
                messages=[{"body": f"batch {n}", "keys": f"batch-{n}"} for n in range(5)],
            )
            driver.call("producer.send", name="p", topic=TOPIC, messages=[{"body": "in an hour", "delay_level": 2}])
            driver.call("consumer.start", name="c", group=GROUP, namesrv=namesrv, subscriptions=[{"topic": TOPIC}])
            received = driver.receive("c", 108)
            offsets = {
                str(queue): {
                    which: driver.call("query.offset", name="p", topic=TOPIC, queue_id=queue, which=which)
                    for which in ("min", "max", "earliest_ms")
                }
                for queue in (0, 1)
            }
            found = {
                key: len(driver.call("query.key", name="p", topic=TOPIC, key=key))
                for key in ("key-7", "shared", "batch-3", "absent")
            }
            driver.call("consumer.stop", name="c")
            if is_killed:
                # Consumer offsets and topics reach the disk by their own timers; without this they would be lost with the kill.
                driver.mqadmin(
                    "updateSubGroup", "-n", namesrv, "-b", cluster.broker.address, "-g", "golden-other-group"
                )
                cluster.broker.process.kill()
            else:
                cluster.broker.process.stop()
        store = cluster.broker.store
        pack(store, target)
    for message in received:
        for name in ("received_ms", "thread"):
            del message[name]
        message["properties"].pop("CONSUME_START_TIME", None)
        if message["body_size"] > BODY_SIZE_KEPT_MAX:
            message.pop("body", None)  # size and CRC-32 say enough
    received.sort(key=lambda message: (message["queue_id"], message["queue_offset"]))
    contents = {
        "broker": "Apache RocketMQ 5.5.0",
        "ended_by": "SIGKILL" if is_killed else "SIGTERM",
        "settings": dict(STORE_SETTINGS),
        "topic": TOPIC,
        "group": GROUP,
        "sent": sent,
        "received": received,
        "queue_offsets": offsets,
        "found_by_key": found,
        "files": sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file()),
    }
    target.with_name(target.name.replace(".tar.gz", ".json")).write_text(
        json.dumps(contents, ensure_ascii=False) + "\n"
    )


def pack(store: Path, target: Path) -> None:
    """A tar.gz without names, times or owners of this machine."""
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        for path in sorted(store.rglob("*")):
            if path.name in ("lock",) or path.is_symlink():
                continue
            info = archive.gettarinfo(path, str(path.relative_to(store)))
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            if path.is_file():
                with path.open("rb") as content:
                    archive.addfile(info, content)
            else:
                archive.addfile(info)
    packed = gzip.compress(plain.getvalue(), 9, mtime=0)
    if len(packed) > STORE_SIZE_MAX:
        raise ValueError(f"the store packs to {len(packed)} bytes, limit {STORE_SIZE_MAX}")
    target.write_bytes(packed)


def unpack(archive: Path, target: Path) -> Path:
    """Extract a recorded store into ``target`` and return it."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    with tarfile.open(archive) as packed:
        packed.extractall(target, filter="data")
    return target
