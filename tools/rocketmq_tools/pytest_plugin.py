"""pytest fixtures for applications that use RocketMQ; pytest finds them where this package is installed.

```python
async def test_an_order_is_billed(rocketmq):
    async with Producer(rocketmq.name_server) as producer:
        await producer.send("orders", b"{}")
```

``rocketmq_server`` (one for the whole run) and ``rocketmq`` (the same, with names of topic and group that no other test has) are
a real name server and broker; ``rocketmq_fake`` is an in-memory cluster that can be told to fail, new for each test. The option
``--rocketmq HOST:PORT`` runs the tests against a cluster that exists.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from rocketmq_testkit.cluster_thread import ClusterThread

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class TestServer:
    """Where the servers are, and names for one test."""

    __test__ = False  # it is no test, whatever its name says

    name_server: str
    topic: str
    group: str


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--rocketmq``."""
    group = parser.getgroup("rocketmq")
    group.addoption("--rocketmq", metavar="HOST:PORT", help="name servers to test against instead of an own broker")


@pytest.fixture(scope="session")
def rocketmq_server(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a name server with a broker; both end with the test run."""
    given = request.config.getoption("--rocketmq")
    if given:
        yield str(given)
        return
    # Here, for this module is imported by every run of pytest.
    from rocketmq_tools.testing import LocalServer

    with LocalServer() as server:
        yield server.name_server


@pytest.fixture
def rocketmq(rocketmq_server: str) -> TestServer:
    """`rocketmq_server` with names of this test's own."""
    name = f"{uuid.uuid4().hex[:8]}-{next(_numbers)}"
    return TestServer(rocketmq_server, f"topic-{name}", f"group-{name}")


@pytest.fixture
def rocketmq_fake() -> Iterator[ClusterThread]:
    """An in-memory cluster of this test's own; `ClusterThread.call` reaches into it, for example to let it fail."""
    from rocketmq_testkit.cluster_thread import ClusterThread

    with ClusterThread() as cluster:
        yield cluster
