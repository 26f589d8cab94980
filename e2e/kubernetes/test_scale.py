"""Fifty clusters: how fast a change is reconciled, what the operator weighs, and that it is silent when nothing happens."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from e2e.kubernetes.conftest import apply_cluster, eventually
from e2e.kubernetes.control_plane import ControlPlane
from e2e.kubernetes.kubelet import SimulatedKubelet
from e2e.kubernetes.operators import OperatorProcess
from e2e.kubernetes.test_api_server import versions
from rocketmq_operator.kube.client import KubernetesApi
from rocketmq_operator.kube.resources import CLUSTERS, STATEFUL_SETS

pytestmark = [
    pytest.mark.local,
    pytest.mark.slow,
    pytest.mark.xdist_group("kubernetes"),
    pytest.mark.timeout(400),
]

CLUSTER_COUNT = 50
CHANGE_COUNT = 20
RSS_BYTES_MAX = 250 << 20


async def test_fifty_clusters(
    api: KubernetesApi, namespace: str, kubelet: SimulatedKubelet, control_plane: ControlPlane, tmp_path: Path
) -> None:
    names = [f"c{number}" for number in range(CLUSTER_COUNT)]
    spec = {"brokers": {"storage": {"size": "1Gi"}}, "nameServers": {"replicas": 1}}
    arguments = ("--watch-namespaces", namespace, "--lease-name", namespace)
    with OperatorProcess(control_plane.kubeconfig, tmp_path / "operator.log", arguments=arguments) as operator:
        started = time.monotonic()
        for name in names:
            await apply_cluster(api, namespace, name, **spec)

        async def all_running() -> bool:
            items = await api.list(CLUSTERS, namespace)
            return len(items) == CLUSTER_COUNT and all(i.get("status", {}).get("phase") == "Running" for i in items)

        await eventually(all_running, 240)
        print(f"{CLUSTER_COUNT} clusters ready after {time.monotonic() - started:.1f} s")
        times = []
        for name in names[:CHANGE_COUNT]:
            started = time.monotonic()
            brokers = {"storage": {"size": "1Gi"}, "config": {"maxMessageSize": "1000000"}}
            await apply_cluster(api, namespace, name, brokers=brokers, nameServers={"replicas": 1})

            async def followed(name: str = name) -> bool:
                stateful_set = await api.get(STATEFUL_SETS, namespace, f"{name}-b0")
                return stateful_set is not None and stateful_set["metadata"]["generation"] > 1

            await eventually(followed, 30)
            times.append(time.monotonic() - started)
        times.sort()
        print(f"change to StatefulSet: median {times[len(times) // 2]:.2f} s, worst {times[-1]:.2f} s")
        await eventually(all_running, 120)
        await asyncio.sleep(10)  # the last restarts
        before = await versions(api, namespace)
        await asyncio.sleep(15)
        assert await versions(api, namespace) == before
        print(f"RSS {operator.rss_bytes >> 20} MiB")
        assert operator.rss_bytes <= RSS_BYTES_MAX
        assert times[-1] <= 10
