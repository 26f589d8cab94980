"""Small clusters of fake processes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rocketmq_operator.model import Brokers, ClusterSpec, NameServers, RocketMQCluster, Storage

FAKE = Path(__file__).with_name("fake_process.py")
WAIT_S = 20.0


def fake_program(command: Sequence[str]) -> list[str]:
    assert command[0] == "rocketmq"
    return [sys.executable, "-I", "-S", str(FAKE), *command[1:]]


def cluster(
    *,
    name: str = "demo",
    servers: int = 1,
    groups: int = 1,
    config: dict[str, str] | None = None,
    both: bool = False,
    **brokers: Any,
) -> RocketMQCluster:
    """``config`` goes to the brokers, with ``both`` to the name servers too."""
    return RocketMQCluster(
        name=name,
        spec=ClusterSpec(
            name_servers=NameServers(replicas=servers, config=(config or {}) if both else {}),
            brokers=Brokers(groups=groups, storage=Storage(size="1Gi"), config=config or {}, **brokers),
        ),
    )


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.01)
