"""Fixtures of the replication tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rocketmq_broker.ha.tests.nodes import Nodes


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Makes nodes; ends them after the test."""
    made = Nodes(tmp_path)
    yield made
    await made.end()
