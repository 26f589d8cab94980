"""The broker as a process: ready line, errors in one line, orderly and disorderly ends."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rocketmq_broker.tests.harness import SMALL_STORE

pytestmark = pytest.mark.local

COMMAND = [sys.executable, "-m", "rocketmq_broker"]
START_S = 30


def arguments(root: Path, **settings: object) -> list[str]:
    values = {
        "storePathRootDir": root / "store",
        "listenPort": 0,
        "bindAddress": "127.0.0.1",
        "brokerIP1": "127.0.0.1",
        "brokerName": "broker-a",
        **SMALL_STORE,
        **settings,
    }
    return [*COMMAND, *(part for key, value in values.items() for part in ("--set", f"{key}={value}"))]


@contextmanager
def process(root: Path, **settings: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A started broker and its ready line."""
    with subprocess.Popen(
        arguments(root, **settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as broker:
        try:
            assert broker.stdout is not None
            yield broker, broker.stdout.readline()
        finally:
            if broker.poll() is None:
                broker.kill()


def failure(command: list[str], **environment: str) -> str:
    """Run a command that must fail; its only line."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=START_S, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("rocketmq broker: ")
    assert done.stdout == ""
    return lines[0]


def test_a_broker_says_that_it_is_ready_answers_then_and_ends_clean_on_sigterm(tmp_path: Path) -> None:
    with process(tmp_path) as (broker, ready):
        assert ready.startswith("broker broker-a[0] of DefaultCluster ready: ASYNC_MASTER at 127.0.0.1:")
        host, port = ready.split(" at ")[1].split(",")[0].split(":")
        with socket.create_connection((host, int(port)), timeout=5):
            assert (tmp_path / "store" / "abort").exists()
        started = time.monotonic()
        broker.send_signal(signal.SIGTERM)
        assert broker.wait(START_S) == 0
        assert time.monotonic() - started < 5
    assert not (tmp_path / "store" / "abort").exists()
    assert (tmp_path / "store" / "config" / "topics.json").exists()


def test_a_second_broker_on_the_same_directory_gives_up_with_one_line(tmp_path: Path) -> None:
    with process(tmp_path):
        line = failure(arguments(tmp_path))
        assert str(tmp_path / "store") in line


def test_a_taken_port_is_one_line_and_leaves_the_store_clean(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        line = failure(arguments(tmp_path, listenPort=port, httpPort=0))
        assert f"127.0.0.1:{port} (listenPort)" in line
        assert "free the port" in line
    assert not (tmp_path / "store" / "abort").exists()


def test_a_bad_value_is_one_line_with_key_and_remedy(tmp_path: Path) -> None:
    assert "listenPort='abc'" in failure(arguments(tmp_path, listenPort="abc"))
    assert "brokerRole='KING'" in failure(arguments(tmp_path), ROCKETMQ_BROKER_ROLE="KING")
    assert "cannot be read" in failure([*COMMAND, "-c", str(tmp_path / "missing.conf")])


def test_a_damaged_table_is_one_line_and_the_process_ends(tmp_path: Path) -> None:
    config = tmp_path / "store" / "config"
    config.mkdir(parents=True)
    (config / "topics.json").write_text("not json")
    assert "topics.json cannot be parsed" in failure(arguments(tmp_path))
    assert (config / "topics.json").read_text() == "not json"


def test_the_configuration_is_printed_without_starting(tmp_path: Path) -> None:
    done = subprocess.run([*arguments(tmp_path), "-m"], capture_output=True, text=True, timeout=START_S, check=True)
    assert "brokerName=broker-a\n" in done.stdout
    assert "defaultTopicQueueNums=8\n" in done.stdout
    everything = subprocess.run(
        [*arguments(tmp_path), "-p"], capture_output=True, text=True, timeout=START_S, check=True
    )
    assert len(everything.stdout.splitlines()) > len(done.stdout.splitlines())
    assert not (tmp_path / "store").exists()


def test_a_fatal_error_ends_the_process_within_a_second_without_the_clean_marker(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "abort").write_text("1")
    program = (
        "import sys, time; from rocketmq_broker import __main__ as m\n"
        "started = time.monotonic()\n"
        "try: m._die(OSError(5, 'Input/output error'))\n"
        "finally: print('survived')\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 70
    assert "survived" not in done.stdout
    assert time.monotonic() - started < 10


def test_a_signal_during_recovery_ends_the_process_clean(tmp_path: Path) -> None:
    with process(tmp_path) as (broker, _):
        broker.kill()
        broker.wait(START_S)
    assert (tmp_path / "store" / "abort").exists()
    program = (
        "import os, signal, sys, time\n"
        "from rocketmq_broker import __main__ as m\n"
        "from rocketmq_store.store import MessageStore\n"
        "opened = MessageStore.open\n"
        "def slow(store):\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    time.sleep(0.3)\n"
        "    return opened(store)\n"
        "MessageStore.open = slow\n"
        "sys.exit(m.main(sys.argv[1:]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments(tmp_path)[len(COMMAND) :]],
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "store" / "abort").exists()
