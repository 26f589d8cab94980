"""The program as it is started: flags, one-line errors, ready line, orderly stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest

from rocketmq_namesrv.__main__ import main


def start(*arguments: str, home: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "rocketmq_namesrv", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"ROCKETMQ_HOME": home},
    )


def test_ready_line_then_orderly_stop_on_sigterm(tmp_path):
    process = start("--set", "listenPort=0", "--set", "httpPort=0", "-n", "ignored:1", home=str(tmp_path))
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("name server ready: remoting 0.0.0.0:")
    port = int(line.split("0.0.0.0:")[1].split(",")[0])
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (0, "name server stopped\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--set", "listenPort=x"], ["listenPort", "whole number"]),
        (["-c", "/nowhere/namesrv.conf"], ["/nowhere/namesrv.conf", "readable"]),
        (["--set", "oops"], ["--set", "key=value"]),
    ],
)
def test_bad_configuration_is_one_line_and_exit_1(arguments, words, capsys):
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith("rocketmq namesrv: ")
    assert all(word in captured.err for word in words)


def test_port_in_use_is_one_line_and_exit_1(tmp_path):
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        process = start("--set", f"listenPort={taken.getsockname()[1]}", home=str(tmp_path))
        out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err.count("\n")) == (1, "", 1)
    assert "address already in use" in err


def test_broken_kv_file_is_one_line_and_exit_1(tmp_path):
    (tmp_path / "namesrv").mkdir()
    (tmp_path / "namesrv" / "kvConfig.json").write_text("{")
    process = start("--set", "listenPort=0", "--set", "httpPort=-1", home=str(tmp_path))
    _, err = process.communicate(timeout=10)
    assert (process.returncode, err.count("\n")) == (1, 1)
    assert "kvConfig.json" in err


def test_settings_are_printed_on_request(capsys, monkeypatch):
    monkeypatch.setenv("ROCKETMQ_LISTEN_PORT", "1234")
    assert main(["-p"]) == 0
    assert "listenPort=1234\n" in capsys.readouterr().out


def test_wrong_usage_is_exit_2(capsys):
    assert main(["--nope"]) == 2
    assert "usage" in capsys.readouterr().err
