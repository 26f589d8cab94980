"""Fixtures of the replication tests."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from rocketmq_broker.ha.tests.nodes import Nodes


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Brokers run on uvloop, whose transports differ from asyncio's in small things that matter here."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[Nodes]:
    """Makes nodes; ends them after the test."""
    made = Nodes(tmp_path)
    yield made
    await made.end()
