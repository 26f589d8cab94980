"""One control plane for all tests of this folder, a namespace for each."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.kubernetes.control_plane import ControlPlane
from e2e.kubernetes.kubelet import SimulatedKubelet
from e2e.kubernetes.operators import OperatorProcess
from e2e.toolchain import ToolMissing
from rocketmq_operator.crd import API_VERSION, KIND
from rocketmq_operator.kube.api import Object
from rocketmq_operator.kube.client import KubernetesApi, connect
from rocketmq_operator.kube.resources import CLUSTERS, Resource

REQUIRE = "ROCKETMQ_REQUIRE_KUBERNETES"
CRDS = sorted((Path(__file__).parents[2] / "crds").glob("*.yaml"))
DEFINITIONS = Resource("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions")
NAMESPACES = Resource("", "v1", "Namespace", "namespaces")


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    try:
        with ControlPlane(tmp_path_factory.mktemp("control-plane"), with_controllers=True) as running:
            yield running
    except ToolMissing as missing:
        if os.environ.get(REQUIRE) == "1":
            pytest.fail(f"{missing} ({REQUIRE}=1 allows no skip)")
        pytest.skip(str(missing))


@pytest.fixture
async def api(control_plane: ControlPlane) -> AsyncIterator[KubernetesApi]:
    client = await connect(str(control_plane.kubeconfig))
    try:
        await install_definitions(client)
        yield client
    finally:
        await client.close()


async def install_definitions(client: KubernetesApi) -> None:
    for path in CRDS:
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        await client._request(
            "patch", DEFINITIONS, "PATCH", DEFINITIONS.path(None, definition["metadata"]["name"]),
            {"fieldManager": "test", "force": "true"}, definition, "application/apply-patch+yaml",
        )  # fmt: skip
    await eventually(lambda: established(client))


async def established(client: KubernetesApi) -> bool:
    items = await client.list(DEFINITIONS, None)
    ready = [
        any(
            c["type"] == "Established" and c["status"] == "True"
            for c in (item.get("status", {}).get("conditions") or ())
        )
        for item in items
    ]
    return len(ready) >= len(CRDS) and all(ready)


@pytest.fixture
async def namespace(api: KubernetesApi) -> str:
    name = f"mq-{uuid.uuid4().hex[:8]}"
    await api.create(NAMESPACES, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    return name


@pytest.fixture
async def kubelet(api: KubernetesApi) -> AsyncIterator[SimulatedKubelet]:
    async with SimulatedKubelet(api) as running:
        yield running


@pytest.fixture
def operator(
    control_plane: ControlPlane, api: KubernetesApi, namespace: str, tmp_path: Path
) -> Iterator[OperatorProcess]:
    """One operator process for the test's namespace."""
    arguments = ("--watch-namespaces", namespace, "--lease-name", namespace)
    with OperatorProcess(control_plane.kubeconfig, tmp_path / "operator.log", arguments=arguments) as running:
        yield running


async def apply_cluster(api: KubernetesApi, namespace: str, name: str = "orders", **spec: Any) -> Object:
    document = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    return await api.apply(document, manager="kubectl")


async def status_of(api: KubernetesApi, namespace: str, name: str = "orders") -> dict[str, Any]:
    document = await api.get(CLUSTERS, namespace, name)
    return {} if document is None else document.get("status", {})


async def eventually(
    check: Callable[[], Awaitable[Any]], timeout_seconds: float = 30.0, what: Callable[[], Awaitable[Any]] | None = None
) -> Any:
    """Wait until ``check`` gives something true, and return that."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while not (result := await check()):
                await asyncio.sleep(0.1)
            return result
    except TimeoutError:
        detail = await what() if what else ""
        raise AssertionError(f"not within {timeout_seconds} s: {detail}") from None
