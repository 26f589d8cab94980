"""Fixtures of the tests on real processes: which kind of cluster, which clients, unique names."""

from __future__ import annotations

import itertools
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e import toolchain
from e2e.clusters import TEST_BROKER_SETTINGS, Cluster, Kind
from e2e.drivers import Driver, go_driver, java_driver, python_driver

# The shared servers offer what some tests need and none minds: a broker for each would cost more than all its tests.
SHARED_SETTINGS = {
    **TEST_BROKER_SETTINGS,
    "recallMessageEnable": "true",
    "transactionTimeOut": "1000",
    "transactionCheckInterval": "1000",
    "transactionCheckMax": "3",
    # Apache notes ends in batches of this age; a restart must not come in between.
    "transactionOpBatchInterval": "200",
}
REQUIRE_PEERS = "ROCKETMQ_REQUIRE_PEERS"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--peer",
        choices=[kind.value for kind in Kind],
        default=Kind.OURS.value,
        help="whose servers the peer tests run against; apache is the control run",
    )


@contextmanager
def tools() -> Iterator[None]:
    """Skip the test when a tool is missing, saying how to get it; in CI that is a failure."""
    try:
        yield
    except toolchain.ToolMissing as missing:
        if os.environ.get(REQUIRE_PEERS) == "1":
            pytest.fail(f"{missing} ({REQUIRE_PEERS}=1 allows no skip)")
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def peer_kind(request: pytest.FixtureRequest) -> Kind:
    """Whose servers are judged."""
    kind = Kind(request.config.getoption("--peer"))
    if kind is Kind.APACHE:
        with tools():
            toolchain.apache()
    return kind


@pytest.fixture(scope="session")
def cluster(peer_kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One name server and one broker for all tests that do not break them."""
    with Cluster(peer_kind, tmp_path_factory.mktemp("cluster") / "shared", settings=SHARED_SETTINGS) as running:
        yield running


@pytest.fixture(scope="session")
def apache_cluster(
    peer_kind: Kind, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Cluster]:
    """Apache's servers, whatever ``--peer`` says: for our client."""
    if peer_kind is Kind.APACHE:
        yield request.getfixturevalue("cluster")
        return
    with tools():
        toolchain.apache()
    with Cluster(Kind.APACHE, tmp_path_factory.mktemp("apache") / "shared", settings=SHARED_SETTINGS) as running:
        yield running


@pytest.fixture(scope="session")
def apache_4_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Apache's servers of 4.9."""
    with tools():
        toolchain.apache_4()
    directory = tmp_path_factory.mktemp("apache4") / "shared"
    with Cluster(Kind.APACHE, directory, settings=TEST_BROKER_SETTINGS, apache=toolchain.apache_4) as running:
        yield running


@pytest.fixture(scope="session")
def java5(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Apache's 5.5 client and mqadmin."""
    with tools():
        peer = toolchain.apache()
    with java_driver(peer, tmp_path_factory.mktemp("java5")) as driver:
        yield driver


@pytest.fixture(scope="session")
def java4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Apache's 4.9 client."""
    with tools():
        peer = toolchain.apache_client_4()
    with java_driver(peer, tmp_path_factory.mktemp("java4")) as driver:
        yield driver


@pytest.fixture(scope="session")
def go(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Apache's Go client."""
    with tools():
        toolchain.go_peer()
    with go_driver(tmp_path_factory.mktemp("go")) as driver:
        yield driver


@pytest.fixture(scope="session")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Apache's C++ client, in Python."""
    with tools():
        toolchain.python_peer()
    with python_driver(tmp_path_factory.mktemp("python")) as driver:
        yield driver


@pytest.fixture(params=["java5", "java4"])
def java(request: pytest.FixtureRequest) -> Driver:
    """Both Java clients, one after the other."""
    driver: Driver = request.getfixturevalue(request.param)
    return driver


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Names that no other test has."""
    numbers = itertools.count(1)
    run = uuid.uuid4().hex[:8]
    return lambda prefix: f"{prefix}-{run}-{next(numbers)}"


@pytest.fixture
def clients() -> Iterator[Callable[[Driver, str, str], None]]:
    """``clients(driver, "consumer", name)`` stops the named client after the test unless that was done; nothing waits for it."""
    started: list[tuple[Driver, str, str]] = []
    yield lambda driver, kind, name: started.append((driver, kind, name))
    for driver, kind, name in reversed(started):
        if driver.call(f"{kind}.running", name=name):
            driver.call(f"{kind}.stop", name=name, detached=True)


@pytest.fixture
def repository() -> Path:
    """The root of the repository."""
    return toolchain.E2E.parent
