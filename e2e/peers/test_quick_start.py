"""Apache's own quick start programs, unchanged, as separate processes."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from e2e import toolchain
from e2e.clusters import Cluster
from e2e.conftest import tools
from e2e.processes import Process, wait_until

pytestmark = [pytest.mark.peers, pytest.mark.timeout(180)]
MESSAGE_COUNT = 1000
PRODUCER_TIMEOUT_SECONDS = 90


def example(cluster: Cluster, home: Path, name: str) -> list[str]:
    """Command line of a class of rocketmq-example; it reads the name server from the property that users set."""
    return [
        toolchain.tool("java"),
        "-Xmx256m",
        "-XX:+UseSerialGC",
        f"-Duser.home={home}",
        f"-Drocketmq.namesrv.addr={cluster.namesrv_address}",
        "-cp",
        toolchain.apache().classpath,
        f"org.apache.rocketmq.example.quickstart.{name}",
    ]


def test_the_quick_start_consumer_gets_everything_that_the_quick_start_producer_sent(
    cluster: Cluster, tmp_path: Path
) -> None:
    with tools():
        command = example(cluster, tmp_path, "Producer")
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=PRODUCER_TIMEOUT_SECONDS, cwd=tmp_path, check=False
    )
    sent = set(re.findall(r"sendStatus=SEND_OK, msgId=([0-9A-F]+)", done.stdout))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(sent) == MESSAGE_COUNT, done.stdout[-2000:]

    consumer = Process("quickstart-consumer", example(cluster, tmp_path, "Consumer"), tmp_path)
    consumer.start()
    try:

        def received() -> set[str] | None:
            consumer.check()
            # Client versions print the unique id as UNIQ_KEY among the properties.
            got = set(re.findall(r"UNIQ_KEY=([0-9A-F]+)", consumer.output.read_text(errors="replace")))
            return got if sent <= got else None

        wait_until(received, f"the consumer prints {MESSAGE_COUNT} messages", 60, poll_seconds=0.2)
    finally:
        consumer.stop()
