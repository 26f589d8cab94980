"""What a wrong start looks like: one line that says what, where and what to do; an exit code; nothing damaged."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e import frames
from e2e.clusters import Cluster, Kind, environment, write_configuration
from e2e.local.history import read_queue
from e2e.processes import Process, free_port, wait_until

pytestmark = [pytest.mark.local, pytest.mark.timeout(60)]
END_SECONDS_MAX = 15.0


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.create_server(("0.0.0.0", free_port((-2, 1)))) as server:
        yield server.getsockname()[1]


def ends(role: str, directory: Path, lines: dict[str, str], *arguments: str) -> tuple[int, list[str]]:
    """Run a server that shall refuse to start; its exit code and what it printed."""
    directory.mkdir(exist_ok=True)
    configuration = directory / "refused.conf"
    write_configuration(configuration, lines)
    process = Process(
        "refused",
        [sys.executable, "-m", f"rocketmq_{role}", "-c", str(configuration), *arguments],
        directory,
        environment(directory),
    )
    process.start()
    try:
        code = process.wait(END_SECONDS_MAX)
    finally:
        process.kill()
    return code, [line for line in process.output.read_text().splitlines() if line.strip()]


def broker_lines(directory: Path, port: int) -> dict[str, str]:
    return {
        "brokerName": "refused", "brokerIP1": "127.0.0.1", "listenPort": str(port), "httpPort": "0", "namesrvAddr": "127.0.0.1:1",
        "storePathRootDir": str(directory / "store"),
    }  # fmt: skip


def assert_one_line(code: int, lines: list[str], *words: str) -> None:
    assert code not in (0, None), lines
    assert not any("Traceback" in line for line in lines), "\n".join(lines)
    reasons = [line for line in lines if all(word in line for word in words)]
    assert len(reasons) == 1, f"one line with {words}, not:\n" + "\n".join(lines)


def test_a_broker_whose_port_is_taken_says_which(tmp_path: Path, taken_port: int) -> None:
    assert_one_line(*ends("broker", tmp_path, broker_lines(tmp_path, taken_port)), str(taken_port))


def test_a_name_server_whose_port_is_taken_says_which(tmp_path: Path, taken_port: int) -> None:
    assert_one_line(*ends("namesrv", tmp_path, {"listenPort": str(taken_port), "httpPort": "0"}), str(taken_port))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("listenPort", "many"),
        ("brokerId", "-7"),
        ("flushDiskType", "SOMETIMES"),
        ("brokerRole", "KING"),
        ("mappedFileSizeCommitLog", "12"),
    ],
)
def test_a_wrong_value_in_the_broker_configuration_is_named(tmp_path: Path, key: str, value: str) -> None:
    lines = broker_lines(tmp_path, free_port((-2, 1))) | {key: value}
    assert_one_line(*ends("broker", tmp_path, lines), key, value)


def test_a_configuration_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = Process(
        "refused",
        [sys.executable, "-m", "rocketmq_broker", "-c", str(tmp_path / "absent.conf")],
        tmp_path,
        environment(tmp_path),
    )
    process.start()
    code = process.wait(END_SECONDS_MAX)
    assert_one_line(code, process.output.read_text().splitlines(), "absent.conf")


def test_a_store_that_another_broker_uses_is_refused_and_not_touched(tmp_path: Path) -> None:
    with Cluster(Kind.OURS, tmp_path / "cluster") as cluster:
        store = cluster.broker.store
        send(cluster.broker.address, "<1>")
        wait_until(lambda: list(store.glob("index/*")), "the index file, which comes behind the send", 10)
        before = sorted((path.relative_to(store), path.stat().st_size) for path in store.rglob("*") if path.is_file())
        lines = broker_lines(tmp_path, free_port((-2, 1))) | {"storePathRootDir": str(store)}

        assert_one_line(*ends("broker", tmp_path / "other", lines), str(store))

        assert (
            sorted((path.relative_to(store), path.stat().st_size) for path in store.rglob("*") if path.is_file())
            == before
        )
        send(cluster.broker.address, "<2>")
        with frames.Link(cluster.broker.address) as link:
            assert read_queue(link, "LockTopic", 0) == [1, 2]


def send(address: str, body: str) -> None:
    fields = {
        "a": "pg", "b": "LockTopic", "c": "TBW102", "d": "4", "e": "0", "f": "0", "g": "1700000000000", "h": "0",
        "i": "WAIT\x01true\x02", "j": "0", "k": "false", "m": "false",
    }  # fmt: skip
    assert frames.call(address, 310, fields, body.encode()).code == 0


def test_an_unwritable_store_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    lines = broker_lines(tmp_path, free_port((-2, 1))) | {"storePathRootDir": str(tmp_path / "file" / "store")}
    assert_one_line(*ends("broker", tmp_path, lines), str(tmp_path / "file"))
