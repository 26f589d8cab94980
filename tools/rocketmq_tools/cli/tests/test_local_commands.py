"""``up``, ``down``, ``ps`` and ``logs`` on a cluster of fake processes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rocketmq_tools.cli import main
from rocketmq_tools.cli.options import Globals
from rocketmq_tools.embedded import launch
from rocketmq_tools.embedded.directories import is_locked
from rocketmq_tools.embedded.tests.clusters_for_tests import fake_program, wait_until
from rocketmq_tools.errors import ExitCode

pytestmark = pytest.mark.local

DOCUMENT = """\
apiVersion: rocketmqkube.dev/v1alpha1
kind: RocketMQCluster
metadata:
  name: demo
spec:
  brokers:
    groups: {groups}
    storage:
      size: {size}
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    directory = tmp_path / "home"
    monkeypatch.setenv("ROCKETMQ_HOME", str(directory))
    monkeypatch.delenv("NAMESRV_ADDR", raising=False)
    monkeypatch.setattr(launch, "program_of", fake_program)
    yield directory
    for each in directory.glob("*"):
        assert main(["down", "--data", str(each), "--purge"]) == 0


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "cluster.yaml"
    path.write_text(DOCUMENT.format(groups=2, size="1Gi"))
    return path


def up(document: Path, *more: str) -> int:
    return main(["up", "-f", str(document), "--detach", "--port-base", "0", *more])


def ps(capsys: pytest.CaptureFixture[str], *more: str) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["ps", "-o", "json", *more]) == 0
    view: dict[str, Any] = msgspec.json.decode(capsys.readouterr().out)
    return view


def test_up_ps_and_down_tell_the_same_story(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert up(document, "-o", "json") == 0
    started = msgspec.json.decode(capsys.readouterr().out)
    assert ps(capsys) == started
    assert [p["name"] for p in started["processes"]] == ["demo-namesrv-0", "demo-namesrv-1", "demo-b0-0", "demo-b1-0"]
    for process in started["processes"]:
        os.kill(process["pid"], 0)
        assert process["ready"] is True
        host, _, port = process["address"].rpartition(":")
        socket.create_connection((host, int(port)), timeout=5).close()
    assert Globals().namesrv_addresses() == started["nameServers"]
    assert main(["down"]) == 0
    stopped = ps(capsys)
    assert stopped["phase"] == "Stopped"
    assert [p["pid"] for p in stopped["processes"]] == [None] * 4


def test_up_of_what_runs_is_no_failure_and_a_changed_document_is(
    document: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert up(document) == 0
    before = ps(capsys)
    assert up(document) == 0
    assert ps(capsys) == before
    document.write_text(DOCUMENT.format(groups=3, size="1Gi"))
    assert up(document) == ExitCode.FAILED
    assert "with another document" in capsys.readouterr().err
    assert ps(capsys) == before


def test_a_wrong_document_gets_the_api_servers_words_and_touches_nothing(
    document: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document.write_text(DOCUMENT.format(groups=0, size="1Gi"))
    assert up(document) == ExitCode.FAILED
    assert "spec.brokers.groups in body should be greater than or equal to 1" in capsys.readouterr().err
    document.write_text(DOCUMENT.format(groups=1, size="1Gi") + "      speed: fast\n")
    assert up(document) == ExitCode.FAILED
    assert 'strict decoding error: unknown field "spec.brokers.storage.speed"' in capsys.readouterr().err
    assert not home.exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "::1", ""])
def test_a_host_that_no_client_can_be_given_is_refused(document: Path, host: str) -> None:
    assert up(document, "--host", host) == ExitCode.USAGE


def test_a_missing_document_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert up(tmp_path / "none.yaml") == ExitCode.FAILED
    assert capsys.readouterr().err == f"Error: cannot read {tmp_path / 'none.yaml'}: No such file or directory\n"


def test_a_file_with_several_clusters_needs_a_choice(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = DOCUMENT.format(groups=1, size="1Gi")
    document.write_text(f"{text}---\n{text.replace('demo', 'other')}")
    assert up(document) == ExitCode.USAGE
    assert "holds 2 clusters: demo, other" in capsys.readouterr().err
    assert up(document, "--cluster", "other") == 0
    assert ps(capsys)["cluster"] == "other"


def test_a_port_in_use_is_one_line_and_starts_nothing(
    document: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["up", "-f", str(document), "--detach", "--port-base", str(port)]) == ExitCode.FAILED
    error = capsys.readouterr().err
    assert f"port {port} (remoting of demo-namesrv-0) is in use by pid {os.getpid()}" in error
    assert "--port-base" in error
    assert error.count("\n") == 1
    assert not is_locked(home / "default-demo" / "lock")


def test_logs_are_shown_with_the_name_of_their_process(document: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert up(document) == 0
    capsys.readouterr()
    assert main(["logs"]) == 0
    text = capsys.readouterr().out
    assert "demo-b1-0      | broker hello" in text
    assert main(["logs", "demo-namesrv-0"]) == 0
    assert capsys.readouterr().out.startswith("namesrv hello")
    assert main(["logs", "nobody"]) == ExitCode.NOT_FOUND


def test_with_nothing_running_ps_says_so_and_down_is_content(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ps"]) == ExitCode.NOT_FOUND
    assert "no cluster is on this machine" in capsys.readouterr().err
    assert main(["down"]) == 0
    assert main(["down", "--cluster", "x"]) == ExitCode.NOT_FOUND


def test_data_can_live_in_a_directory_of_ones_own(
    document: Path, tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert up(document, "--data", str(data)) == 0
    try:
        view = ps(capsys, "--data", str(data))
        assert all(p["dataDirectory"].startswith(str(data)) for p in view["processes"])
        assert not home.exists()
    finally:
        assert main(["down", "--data", str(data), "--purge"]) == 0
    assert not data.exists()


FOREGROUND = """\
import sys
from rocketmq_tools.cli import main
from rocketmq_tools.embedded import launch
from rocketmq_tools.embedded.tests.clusters_for_tests import fake_program
launch.program_of = fake_program
sys.exit(main(sys.argv[1:]))
"""


def test_in_the_foreground_it_runs_until_interrupted(document: Path, home: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    with open(output, "wb") as file:
        running = subprocess.Popen(
            [sys.executable, "-c", FOREGROUND, "up", "-f", str(document), "--port-base", "0", "-o", "json"],
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    try:
        wait_until(lambda: output.read_text().endswith("}\n"), "the cluster is ready")
        view = msgspec.json.decode(output.read_bytes())
        running.terminate()
        assert running.wait(20) == 0
    finally:
        running.kill()
        running.wait()
    for process in view["processes"]:
        with pytest.raises(ProcessLookupError):
            os.kill(process["pid"], 0)
    assert not is_locked(home / "default-demo" / "lock")
