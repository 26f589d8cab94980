"""Fixtures: a fake cluster per test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import pytest

from rocketmq_client import Producer
from rocketmq_testkit.fake_cluster import FakeCluster

WAIT_SECONDS = 30.0


@pytest.fixture
async def cluster() -> AsyncIterator[FakeCluster]:
    """One broker, one name server."""
    async with FakeCluster() as running:
        yield running


@pytest.fixture
async def two_brokers() -> AsyncIterator[FakeCluster]:
    """Two brokers, two name servers."""
    async with FakeCluster(brokers=2, name_servers=2) as running:
        yield running


async def until(condition: Callable[[], object], what: str = "condition") -> None:
    """Wait until ``condition`` holds; fail the test after `WAIT_SECONDS`."""
    deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
    while not condition():
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail(f"{what} did not come true within {WAIT_SECONDS} s")
        await asyncio.sleep(0.005)


async def send_all(cluster: FakeCluster, topic: str, bodies: Sequence[bytes], **arguments: Any) -> None:
    """Send ``bodies`` one after the other, each with ``arguments`` of `Producer.send`."""
    async with Producer(cluster.name_server) as producer:
        for body in bodies:
            await producer.send(topic, body, **arguments)
