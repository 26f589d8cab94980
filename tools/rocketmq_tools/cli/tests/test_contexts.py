"""Which cluster a command talks to, and commands that show again and again."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from rocketmq_testkit.cluster_thread import ClusterThread
from rocketmq_tools.cli.tests.nouns import Command
from rocketmq_tools.errors import ExitCode


@pytest.fixture(autouse=True)
def file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An own file of contexts."""
    path = tmp_path / "config" / "contexts.json"
    monkeypatch.setenv("ROCKETMQ_CONTEXTS", str(path))
    monkeypatch.setenv("ROCKETMQ_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("ROCKETMQ_CONTEXT", raising=False)
    return path


def test_a_context_in_use_replaces_the_address(
    running: ClusterThread, rocketmq: Command, monkeypatch: pytest.MonkeyPatch, file: Path
) -> None:
    monkeypatch.delenv("NAMESRV_ADDR")
    assert rocketmq("topic", "ls").code == ExitCode.USAGE
    assert rocketmq("context", "add", "here", running.name_server, "--use").code == ExitCode.OK
    assert rocketmq("context", "add", "other", "10.0.0.1:9876,10.0.0.2:9876").code == ExitCode.OK
    assert rocketmq("topic", "ls", "-o", "json").data == []
    listed = rocketmq("context", "ls", "-o", "json").data
    assert [(c["name"], c["namesrv"], c["current"]) for c in listed] == [
        ("here", running.name_server, True),
        ("other", "10.0.0.1:9876;10.0.0.2:9876", False),
    ]
    assert file.stat().st_mode & 0o077 == 0


def test_the_address_comes_from_flag_context_flag_environment_context_in_that_order(
    rocketmq: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        rocketmq("context", "add", name, f"{name}:9876")
    rocketmq("context", "use", "one")
    monkeypatch.delenv("NAMESRV_ADDR", raising=False)

    def asked(*before: str) -> tuple[str, str]:
        data = rocketmq(*before, "context", "show", "-o", "json").data
        return data["namesrv"], data["because_of"]

    assert asked() == ("one:9876", "context one")
    monkeypatch.setenv("NAMESRV_ADDR", "env:9876")
    assert asked() == ("env:9876", "$NAMESRV_ADDR")
    assert asked("--context", "two") == ("two:9876", "context two")
    monkeypatch.setenv("ROCKETMQ_CONTEXT", "two")
    assert asked() == ("two:9876", "context two")
    assert asked("-n", "flag:9876", "--context", "one") == ("flag:9876", "-n")


def test_unknown_contexts_and_damaged_files_are_said(rocketmq: Command, file: Path) -> None:
    assert rocketmq("context", "use", "nobody").code == ExitCode.NOT_FOUND
    assert rocketmq("--context", "nobody", "topic", "ls").code == ExitCode.NOT_FOUND
    assert rocketmq("context", "add", "bad", "no-port").code == ExitCode.USAGE
    rocketmq("context", "add", "one", "one:9876", "--use")
    assert rocketmq("context", "rm", "one").code == ExitCode.OK
    assert rocketmq("context", "ls", "-o", "json").data == []
    file.write_text("{")
    damaged = rocketmq("context", "ls")
    assert damaged.code == ExitCode.FAILED
    assert str(file) in damaged.err


def test_watching_shows_again_until_an_interrupt(
    running: ClusterThread, rocketmq: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    printed = rocketmq("cluster", "info", "-o", "jsonl", "--watch", "5")
    assert printed.code == ExitCode.OK
    assert slept == [5, 5, 5]
    assert len(printed.lines) == 2 * 3


def test_names_alone_serve_scripts(running: ClusterThread, rocketmq: Command) -> None:
    rocketmq("topic", "create", "orders")
    rocketmq("topic", "create", "payments")
    assert rocketmq("topic", "ls", "-o", "name").lines == ["orders", "payments"]
