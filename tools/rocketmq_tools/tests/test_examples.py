"""Every Python example runs as it stands and prints what it promises."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rocketmq_tools.testing import LocalServer

DIRECTORY = Path(__file__).parents[3] / "examples" / "python"
PRINTS = {
    "produce_consume.py": "got order 2",
    "listener.py": "billed after 1 failed tries: invoice 1",
    "orderly.py": "b -> created, paid, shipped",
    "delayed.py": "tea after ",
    "transaction.py": "visible: ['7']",
    "request_reply.py": "tea costs 42",
    "without_async.py": "lag: 0",
}


@pytest.fixture(scope="module")
def server() -> Iterator[LocalServer]:
    """A broker whose retries come soon."""
    with LocalServer({"messageDelayLevel": "1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s 1s"}) as running:
        yield running


def test_every_example_is_tried() -> None:
    assert {path.name for path in DIRECTORY.glob("*.py")} == {*PRINTS, "test_orders.py"}


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_runs(name: str, server: LocalServer) -> None:
    done = subprocess.run(
        [sys.executable, str(DIRECTORY / name)],
        env=os.environ | {"NAMESRV_ADDR": server.name_server},
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert PRINTS[name] in done.stdout


def test_the_example_of_a_test_passes(server: LocalServer, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "rocketmq_tools.pytest_plugin", "-p", "no:cacheprovider",
            "--rocketmq", server.name_server, "--rootdir", str(tmp_path), "-c", os.devnull, str(DIRECTORY / "test_orders.py"),
        ],
        capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
