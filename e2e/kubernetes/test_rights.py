"""The operator with the rights of its chart and nothing else: enough for everything, and nothing granted that is not used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.kubernetes.conftest import apply_cluster, eventually, status_of
from e2e.kubernetes.control_plane import OPERATOR_TOKEN, ControlPlane
from e2e.kubernetes.kubelet import SimulatedKubelet
from e2e.kubernetes.operators import OperatorProcess
from e2e.kubernetes.test_api_server import running
from rocketmq_operator.crd import API_VERSION
from rocketmq_operator.kube.client import KubernetesApi
from rocketmq_operator.kube.resources import CLUSTERS, LEASES, OWNED, PODS, ROLE_BINDINGS, SERVICES, TOPICS, Resource
from rocketmq_operator.tests.test_charts import granted, rules

pytestmark = [pytest.mark.local, pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(180)]

CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles")
CLUSTER_ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings")
LEASE_RULES = [{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create", "get", "update"]}]
# Rights whose use takes what this rung has not, or longer than a test: storage that grows, what is removed after a drain.
NOT_EXERCISED = {
    ("", "persistentvolumeclaims", "patch"),
    ("rocketmqkube.dev", "rocketmqconsumergroups", "patch"),
    ("rocketmqkube.dev", "rocketmqconsumergroups", "get"),
    ("rocketmqkube.dev", "rocketmqconsumergroups/status", "patch"),
    ("rocketmqkube.dev", "rocketmqtopics", "patch"),
    ("apps", "statefulsets", "delete"),
}
# Applying an object that is not there needs the right to create it, but is logged as a patch; what an owner's end removes is
# removed by the garbage collector, and by the operator only when the specification shrinks.
IMPLIED_VERBS = {"create", "delete"}
APPLIED = {r.plural for r in OWNED.values()}


async def bind(api: KubernetesApi) -> None:
    role: dict[str, Any] = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "test-operator"},
        "rules": [*rules(), *LEASE_RULES],
    }  # fmt: skip
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "test-operator"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "test-operator"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "operator"}],
    }  # fmt: skip
    await api.create(CLUSTER_ROLES, role)
    await api.create(CLUSTER_ROLE_BINDINGS, binding)


def requests_of_the_operator(log: Path) -> list[tuple[str, str, str, int]]:
    """(API group, resource with subresource, verb, status) of each request."""
    found = []
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        target = entry.get("objectRef")
        if entry["user"]["username"] == "operator" and target and target.get("resource"):
            resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
            found.append(
                (target.get("apiGroup", ""), resource, entry["verb"], entry.get("responseStatus", {}).get("code", 0))
            )
    return found


async def test_the_rights_of_the_chart_are_enough_and_all_are_used(
    api: KubernetesApi, namespace: str, kubelet: SimulatedKubelet, control_plane: ControlPlane, tmp_path: Path
) -> None:
    await bind(api)
    kubeconfig = control_plane.write_kubeconfig(tmp_path / "kubeconfig", OPERATOR_TOKEN)
    arguments = ("--lease-name", namespace, "--resync-seconds", "5")
    with OperatorProcess(kubeconfig, tmp_path / "operator.log", arguments=arguments):
        brokers = {"storage": {"size": "1Gi"}}
        await apply_cluster(api, namespace, brokers=brokers)
        await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
        topic = {
            "apiVersion": API_VERSION, "kind": "RocketMQTopic", "metadata": {"name": "orders", "namespace": namespace},
            "spec": {"clusterRef": {"name": "orders"}},
        }  # fmt: skip
        await api.apply(topic, manager="kubectl")
        service = await api.get(SERVICES, namespace, "orders-b0-0")
        assert service is not None
        await api.delete(SERVICES, namespace, "orders-b0-0", uid=service["metadata"]["uid"])
        await apply_cluster(api, namespace, brokers=brokers, image="rocketmq-kube:2", nameServers={"replicas": 1})

        async def rolled() -> bool:
            pods = await api.list(PODS, namespace)
            told = await api.get(TOPICS, namespace, "orders")
            new = all(p["spec"]["containers"][0]["image"] == "rocketmq-kube:2" for p in pods)
            return bool(pods) and new and bool((told or {}).get("status"))

        await eventually(rolled, 60, lambda: status_of(api, namespace))
        # A group that elects needs a Lease, and the operator passes on the right to it.
        await apply_cluster(
            api,
            namespace,
            brokers={**brokers, "replicasPerGroup": 2},
            image="rocketmq-kube:2",
            nameServers={"replicas": 1},
        )

        async def elects() -> bool:
            lease = await api.get(LEASES, namespace, "orders-b0")
            binding = await api.get(ROLE_BINDINGS, namespace, "orders-leases")
            return lease is not None and binding is not None

        await eventually(elects, 60, lambda: status_of(api, namespace))
        await api.delete(
            CLUSTERS, namespace, "orders", uid=(await api.get(CLUSTERS, namespace, "orders") or {})["metadata"]["uid"]
        )
    requests = requests_of_the_operator(control_plane.audit_log)
    assert [r for r in requests if r[3] == 403] == []
    used = {r[:3] for r in requests}
    claims = {(*key, verb) for key, verbs in granted(rules()).items() for verb in verbs}
    assert used & {("coordination.k8s.io", "leases", "update")}
    assert {u for u in used if u[0] != "coordination.k8s.io"} <= claims
    implied = {claim for claim in claims if claim[1] in APPLIED and claim[2] in IMPLIED_VERBS}
    assert claims - used - implied - NOT_EXERCISED == set()
