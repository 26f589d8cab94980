"""A directory of Apache's broker under a RocketMQCluster: the claim of the first replica holds it, as ``docs/migration.md`` says.

The document is the one of Kubernetes, run as processes; so names, paths, roles and the first election are the operator's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e import frames
from e2e.golden.stores import GROUP, STORE_SETTINGS, TOPIC, unpack
from e2e.processes import wait_until

pytestmark = [pytest.mark.local, pytest.mark.slow, pytest.mark.timeout(240)]
GET_MAX_OFFSET, QUERY_CONSUMER_OFFSET, GET_BROKER_HA_STATUS = 30, 14, 907
ROCKETMQ = str(Path(sys.executable).with_name("rocketmq"))
NAME = "adopted"
SIZES = ("mappedFileSizeCommitLog", "mappedFileSizeConsumeQueue", "maxHashSlotNum", "maxIndexNum")
DOCUMENT: dict[str, Any] = {
    "apiVersion": "rocketmqkube.dev/v1alpha1",
    "kind": "RocketMQCluster",
    "metadata": {"name": NAME},
    "spec": {
        "brokers": {
            "replicasPerGroup": 2,
            "storage": {"size": "1Gi"},
            "config": {key: STORE_SETTINGS[key] for key in (*SIZES, "messageDelayLevel")},
        }
    },
}


def rocketmq(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([ROCKETMQ, *arguments], capture_output=True, text=True, timeout=150, check=False)


def commit_log(store: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted((store / "commitlog").iterdir())).rstrip(b"\0")


def test_the_first_replica_leads_with_apaches_data_and_fills_the_second(repository: Path, tmp_path: Path) -> None:
    golden = repository / "broker/rocketmq_store/tests/golden"
    contents = json.loads((golden / "apache-5.5-clean.json").read_text())
    data = tmp_path / "data"
    stores = [data / "claims" / f"data-{NAME}-b0-{index}" / "store" for index in range(2)]
    unpack(golden / "apache-5.5-clean.tar.gz", stores[0])
    slots = ("--hash-slots", STORE_SETTINGS["maxHashSlotNum"])
    looked = rocketmq("store", "verify", str(stores[0]), "--from-apache", *slots)
    assert looked.returncode == 0, looked.stdout + looked.stderr
    for key in SIZES[:2]:
        assert f"{key}={STORE_SETTINGS[key]}" in looked.stderr
    document = tmp_path / "cluster.yaml"
    document.write_text(json.dumps(DOCUMENT))

    where = ("--data", str(data))
    up = rocketmq("up", "-f", str(document), "--detach", "-o", "json", "--port-base", "0", "--timeout", "120", *where)
    try:
        assert up.returncode == 0, up.stdout + up.stderr
        brokers = {p["name"]: p["address"] for p in json.loads(up.stdout)["processes"] if p["role"] == "broker"}
        first, second = (brokers[f"{NAME}-b0-{index}"] for index in range(2))

        def is_filled() -> bool:
            told = [frames.call(address, GET_BROKER_HA_STATUS).json() for address in (first, second)]
            ends = (told[0]["masterCommitLogMaxOffset"], told[1]["haClientRuntimeInfo"]["maxOffset"])
            return told[0]["master"] and not told[1]["master"] and ends[0] == ends[1] > 0

        wait_until(is_filled, "the second replica has the log of the first", 60, 0.1)
        for queue, offsets in contents["queue_offsets"].items():
            fields = {"topic": TOPIC, "queueId": queue, "committed": "true"}
            assert int(frames.call(first, GET_MAX_OFFSET, fields).ext["offset"]) >= offsets["max"]
            fields = {"topic": TOPIC, "queueId": queue, "consumerGroup": GROUP}
            assert int(frames.call(first, QUERY_CONSUMER_OFFSET, fields).ext["offset"]) > 0
    finally:
        down = rocketmq("down", *where)
    assert down.returncode == 0, down.stdout + down.stderr
    logs = [commit_log(store) for store in stores]
    assert logs[0] == logs[1]
    assert len(logs[0]) > 128 * 1024
