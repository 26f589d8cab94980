"""Fixtures of the nouns' tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rocketmq_testkit.cluster_thread import ClusterThread
from rocketmq_tools.cli.tests.nouns import Command


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ClusterThread]:
    """A fake cluster with two brokers, named by $NAMESRV_ADDR."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with ClusterThread(brokers=2) as cluster:
        monkeypatch.setenv("NAMESRV_ADDR", cluster.name_server)
        yield cluster


@pytest.fixture
def rocketmq(capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command."""
    return Command(capsysbinary, monkeypatch)
