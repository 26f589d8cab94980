"""One cluster for all tests of this folder; the operator is installed once, by Helm; what fails leaves its evidence.

Nothing runs unless it is asked for (``make e2e-kind``): a cluster of three nodes is too much for every run of every test.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from e2e import toolchain
from e2e.conftest import tools
from e2e.drivers import Driver, java_driver
from e2e.kind import clients, images
from e2e.kind.clients import Load
from e2e.kind.cluster import SHARED, KindCluster, Kubernetes, evidence_directory, provider
from e2e.kind.objects import make_namespace, make_topic, wait_ready
from e2e.toolchain import ToolMissing

REQUIRE = "ROCKETMQ_REQUIRE_KIND"  # 1: run, and fail when no cluster can be had
OPERATOR_NAMESPACE = "rocketmq-system"
CHART = images.REPOSITORY / "charts" / "rocketmq-operator"
CLUSTER = pytest.StashKey[Kubernetes]()


@pytest.fixture(scope="session")
def kubernetes(request: pytest.FixtureRequest) -> Iterator[Kubernetes]:
    if os.environ.get(REQUIRE) != "1":
        pytest.skip(f"takes a cluster of three nodes: make e2e-kind, or {REQUIRE}=1")
    shutil.rmtree(evidence_directory(), ignore_errors=True)
    try:
        with provider() as running:
            request.config.stash[CLUSTER] = running
            yield running
    except ToolMissing as missing:
        pytest.fail(f"{missing} ({REQUIRE}=1 allows no skip)")


@pytest.fixture(scope="session")
def kind(kubernetes: Kubernetes) -> KindCluster:
    """For tests that break nodes or stand outside."""
    if not isinstance(kubernetes, KindCluster):
        pytest.skip("needs a cluster of kind's: its nodes are killed, its addresses are this machine's")
    return kubernetes


@pytest.fixture(scope="session")
def operator(kubernetes: Kubernetes) -> str:
    """The name of the Helm release of the operator, in OPERATOR_NAMESPACE."""
    make_namespace(kubernetes, OPERATOR_NAMESPACE)
    kubernetes.helm(
        "upgrade", "--install", "rocketmq", str(CHART), "-n", OPERATOR_NAMESPACE, "--wait", "--timeout", "180s"
    )
    return "rocketmq"


@pytest.fixture(scope="session")
def java_image(kind: KindCluster) -> str:
    name = images.build_java_client(kind.engine)
    kind.load(name)
    return name


@pytest.fixture(scope="module")
def namespace(kubernetes: Kubernetes) -> Iterator[str]:
    """One for the module; everything in it goes with it."""
    name = f"mq-{uuid.uuid4().hex[:8]}"
    make_namespace(kubernetes, name)
    yield name
    kubernetes.kubectl("delete", "namespace", name, "--wait=true", "--timeout=180s")


@pytest.fixture(scope="module")
def inside(
    kind: KindCluster, namespace: str, java_image: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    """Apache's Java client in a Pod."""
    clients.start_pod(kind, namespace)
    with clients.inside(kind, namespace, tmp_path_factory.mktemp("inside")) as driver:
        yield driver


@pytest.fixture(scope="session")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    """Apache's Java client on this machine: it needs neither a node nor the API server."""
    with tools(), java_driver(toolchain.apache(), tmp_path_factory.mktemp("outside")) as driver:
        yield driver


@pytest.fixture(scope="session")
def shared_storage(kind: KindCluster) -> dict[str, str]:
    """``spec.brokers.storage`` with volumes that follow their Pods to other nodes."""
    if not kind.has_storage_class(SHARED):
        pytest.skip(f"no storage class {SHARED}: a Pod would wait for its node")
    return {"size": "2Gi", "storageClassName": SHARED}


@pytest.fixture(scope="module")
def address(cluster: KindCluster, namespace: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """Name servers of the module's cluster, by the control plane's node: it is the one that no test takes away."""
    with clients.exposed(cluster, namespace, request.module.NAME) as given:
        yield given


@pytest.fixture
def load(cluster: KindCluster, namespace: str, address: str, outside: Driver, request: pytest.FixtureRequest) -> Load:
    """On a topic of the test's own, once the module's cluster is whole."""
    name = request.module.NAME
    wait_ready(cluster, namespace, name)
    topic = request.node.name.removeprefix("test_").replace("_", "-")[:40].strip("-")
    make_topic(cluster, namespace, topic, name)
    return Load(outside, address, topic)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed and CLUSTER in item.config.stash and Path(__file__).parent in item.path.parents:
        directory = evidence_directory() / item.name
        item.config.stash[CLUSTER].keep_evidence(directory)
        report.sections.append(("evidence", str(directory)))
    return report
