"""``rocketmq kube`` against a real API server."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import pytest

from e2e.kubernetes.conftest import apply_cluster, eventually, status_of
from e2e.kubernetes.control_plane import ControlPlane
from e2e.kubernetes.kubelet import SimulatedKubelet
from e2e.kubernetes.operators import OperatorProcess
from rocketmq_operator.kube.client import KubernetesApi
from rocketmq_operator.kube.resources import CLUSTERS, LEASES
from rocketmq_tools.errors import ExitCode

pytestmark = [pytest.mark.local, pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(180)]

MAIN = "import sys; from rocketmq_tools.cli import main; sys.exit(main())"


async def rocketmq(kubeconfig: Path, namespace: str, *arguments: str) -> tuple[int, str, str]:
    """Exit code, output and remarks of ``rocketmq kube``."""
    command = [sys.executable, "-c", MAIN, "kube", *arguments, "--kubeconfig", str(kubeconfig), "-N", namespace]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdout=pipe, stderr=pipe)
    output, remarks = await process.communicate()
    return process.returncode or 0, output.decode(), remarks.decode()


async def test_status_plan_switchover_and_drain(
    control_plane: ControlPlane,
    api: KubernetesApi,
    namespace: str,
    kubelet: SimulatedKubelet,
    operator: OperatorProcess,
) -> None:
    spec = {"brokers": {"storage": {"size": "1Gi"}, "groups": 2, "replicasPerGroup": 2}}
    await apply_cluster(api, namespace, **spec)

    async def observed() -> bool:
        status = await status_of(api, namespace)
        return (
            status.get("observedGeneration") == 1
            and len(status.get("groupStatuses", ())) == 2
            and "Ready" in str(status)
        )

    await eventually(observed, 60)

    code, output, _ = await rocketmq(control_plane.kubeconfig, namespace, "status", "orders", "-o", "json")
    assert code == 0
    assert [group["name"] for group in json.loads(output)[0]["groupStatuses"]] == ["orders-b0", "orders-b1"]
    code, output, _ = await rocketmq(control_plane.kubeconfig, namespace, "status")
    assert (code, "orders-b1" in output) == (0, True)
    code, _, remarks = await rocketmq(control_plane.kubeconfig, namespace, "status", "nobody")
    assert (code, "there is no RocketMQCluster nobody" in remarks) == (ExitCode.NOT_FOUND, True)

    async def converged() -> bool:
        return (await rocketmq(control_plane.kubeconfig, namespace, "plan", "orders", "-o", "json"))[1].strip() == "[]"

    await eventually(converged, 60)

    # No broker runs here, so nobody takes the lease: what is asked of it must be there, and the time must end.
    arguments = ("switchover", "orders-b0", "--to", "orders-b0-1", "--timeout", "1")
    code, _, remarks = await rocketmq(control_plane.kubeconfig, namespace, *arguments)
    assert (code, "orders-b0-1 does not lead" in remarks) == (ExitCode.TIMEOUT, True)
    lease = await api.get(LEASES, namespace, "orders-b0")
    assert lease is not None
    assert lease["metadata"]["annotations"]["rocketmqkube.dev/target"] == "orders-b0-1"
    await api.merge(LEASES, namespace, "orders-b0", {"spec": {"holderIdentity": "orders-b0-1/uid/1"}})
    code, _, remarks = await rocketmq(control_plane.kubeconfig, namespace, *arguments)
    assert (code, "orders-b0-1 leads already" in remarks) == (0, True)
    code, _, remarks = await rocketmq(control_plane.kubeconfig, namespace, "switchover", "none", "--to", "x")
    assert (code, "none has no Lease" in remarks) == (ExitCode.NOT_FOUND, True)

    code, _, remarks = await rocketmq(control_plane.kubeconfig, namespace, "drain", "orders", "--timeout", "15")
    assert (code, "orders-b1 is not empty yet" in remarks, "orders-b1: Requested" in remarks) == (
        ExitCode.TIMEOUT,
        True,
        True,
    )
    document = await api.get(CLUSTERS, namespace, "orders")
    assert document is not None
    assert document["spec"]["brokers"]["groups"] == 1
    code, _, remarks = await rocketmq(control_plane.kubeconfig, namespace, "drain", "orders")
    assert (code, "orders has one group" in remarks) == (ExitCode.FAILED, True)
