"""The operator process against kube-apiserver, etcd and the controller manager; Pods run nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.kubernetes.conftest import apply_cluster, eventually, status_of
from e2e.kubernetes.control_plane import ControlPlane
from e2e.kubernetes.kubelet import SimulatedKubelet
from e2e.kubernetes.operators import OperatorProcess
from rocketmq_operator import labels
from rocketmq_operator.crd import API_VERSION
from rocketmq_operator.kube.api import ApiError
from rocketmq_operator.kube.client import KubernetesApi
from rocketmq_operator.kube.resources import (
    CLAIMS,
    CLUSTERS,
    CONFIG_MAPS,
    EVENTS,
    LEASES,
    OWNED,
    PODS,
    SERVICES,
    STATEFUL_SETS,
)

pytestmark = [pytest.mark.local, pytest.mark.xdist_group("kubernetes"), pytest.mark.timeout(180)]

BROKERS = {"storage": {"size": "10Gi"}}


async def is_running(api: KubernetesApi, namespace: str, name: str = "orders") -> bool:
    document = await api.get(CLUSTERS, namespace, name)
    assert document is not None
    status = document.get("status", {})
    return status.get("phase") == "Running" and status["observedGeneration"] == document["metadata"]["generation"]


def running(api: KubernetesApi, namespace: str, name: str = "orders") -> Callable[[], Any]:
    return lambda: is_running(api, namespace, name)


async def versions(api: KubernetesApi, namespace: str) -> dict[tuple[str, str], str]:
    """resourceVersion of everything that the operator may write."""
    items = [i for r in (*OWNED.values(), CLUSTERS) for i in await api.list(r, namespace)]
    return {(i["kind"], i["metadata"]["name"]): i["metadata"]["resourceVersion"] for i in items}


async def notes(api: KubernetesApi, namespace: str) -> list[str]:
    return [event.get("note", "") for event in await api.list(EVENTS, namespace)]


async def test_one_field_makes_a_cluster_that_is_ready(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet
) -> None:
    started = time.monotonic()
    await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    assert time.monotonic() - started < 30
    names = {pod["metadata"]["name"] for pod in await api.list(PODS, namespace)}
    assert names == {"orders-namesrv-0", "orders-namesrv-1", "orders-b0-0"}
    document = await api.get(CLUSTERS, namespace, "orders")
    assert document is not None
    assert "finalizers" not in document["metadata"]
    assert "annotations" not in document["metadata"]


async def test_nothing_moves_on_a_second_apply_or_when_the_operator_restarts(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet,
    control_plane: ControlPlane, tmp_path: Path,
) -> None:  # fmt: skip
    await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    await asyncio.sleep(1.5)  # the last StatefulSet status
    before = await versions(api, namespace)
    await apply_cluster(api, namespace, brokers=BROKERS)
    assert operator.stop() == 0
    arguments = ("--watch-namespaces", namespace, "--lease-name", namespace)
    log = tmp_path / "second.log"
    with OperatorProcess(control_plane.kubeconfig, log, identity="operator-1", arguments=arguments):

        async def leads() -> bool:
            lease = await api.get(LEASES, "default", namespace)
            return lease is not None and lease["spec"].get("holderIdentity") == "operator-1"

        await eventually(leads, 20)
        await asyncio.sleep(3)
        assert await versions(api, namespace) == before


async def test_drift_is_undone_within_ten_seconds_and_an_event_says_why(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet
) -> None:
    await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    service = await api.get(SERVICES, namespace, "orders-b0-0")
    assert service is not None
    await api.delete(SERVICES, namespace, "orders-b0-0", uid=service["metadata"]["uid"])
    await api.merge(STATEFUL_SETS, namespace, "orders-b0", {"spec": {"replicas": 3}})
    await api.merge(CONFIG_MAPS, namespace, "orders-b0", {"data": {"broker.conf": "x=y"}})

    async def restored() -> bool:
        stateful_set = await api.get(STATEFUL_SETS, namespace, "orders-b0")
        config = await api.get(CONFIG_MAPS, namespace, "orders-b0")
        assert stateful_set is not None
        assert config is not None
        return (
            await api.get(SERVICES, namespace, "orders-b0-0") is not None
            and stateful_set["spec"]["replicas"] == 1
            and "brokerName" in config["data"]["broker.conf"]
        )

    await eventually(restored, 10)
    told = await notes(api, namespace)
    assert any("StatefulSet orders-b0 was changed: spec.replicas is 3, not 1" in note for note in told), told
    assert "Service orders-b0-0 is created" in told


async def test_groups_scale_by_the_scale_subresource(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet
) -> None:
    await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    path = CLUSTERS.path(namespace, "orders", "scale")
    await api._request(
        "patch", CLUSTERS, "PATCH", path, None, {"spec": {"replicas": 2}}, "application/merge-patch+json"
    )

    async def grown() -> bool:
        return bool((await status_of(api, namespace)).get("readyGroups") == 2)

    await eventually(grown, 30, lambda: status_of(api, namespace))


async def test_a_new_image_restarts_pods_by_eviction_within_their_budget(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet
) -> None:
    await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    await apply_cluster(api, namespace, brokers=BROKERS, image="rocketmq-kube:2")

    async def rolled() -> bool:
        pods = await api.list(PODS, namespace)
        return len(pods) == 3 and {p["spec"]["containers"][0]["image"] for p in pods} == {"rocketmq-kube:2"}

    await eventually(rolled, 60, lambda: status_of(api, namespace))
    await eventually(running(api, namespace), 30, lambda: status_of(api, namespace))


async def test_storage_grows_and_pods_stay(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet
) -> None:
    await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    (pod,) = [p for p in await api.list(PODS, namespace) if p["metadata"]["name"] == "orders-b0-0"]
    # The API server lets only bound claims of an expandable class grow.
    storage_class = {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": namespace},
        "provisioner": "example.com/none", "allowVolumeExpansion": True,
    }  # fmt: skip
    from rocketmq_operator.kube.resources import Resource

    await api.create(Resource("storage.k8s.io", "v1", "StorageClass", "storageclasses"), storage_class)
    await apply_cluster(api, namespace, "grown", brokers={"storage": {"size": "10Gi", "storageClassName": namespace}})
    await eventually(running(api, namespace, "grown"), 60)
    (claim,) = [c for c in await api.list(CLAIMS, namespace) if "grown" in c["metadata"]["name"]]
    await api.merge(CLAIMS, namespace, claim["metadata"]["name"], {"spec": {"volumeName": "volume"}})

    async def bound() -> bool:
        found = await api.get(CLAIMS, namespace, claim["metadata"]["name"])
        return found is not None and found.get("status", {}).get("phase") == "Bound"

    await eventually(bound)
    await apply_cluster(api, namespace, "grown", brokers={"storage": {"size": "20Gi", "storageClassName": namespace}})

    async def has_grown() -> bool:
        stateful_set = await api.get(STATEFUL_SETS, namespace, "grown-b0")
        if stateful_set is None:
            return False
        template = stateful_set["spec"]["volumeClaimTemplates"][0]
        return bool(template["spec"]["resources"]["requests"]["storage"] == "20Gi")

    await eventually(has_grown, 40, lambda: status_of(api, namespace, "grown"))
    await eventually(running(api, namespace, "grown"), 30, lambda: status_of(api, namespace, "grown"))
    (after,) = [p for p in await api.list(PODS, namespace) if p["metadata"]["name"] == "orders-b0-0"]
    assert after["metadata"]["uid"] == pod["metadata"]["uid"]


async def test_a_deleted_cluster_leaves_only_its_claims(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet
) -> None:
    document = await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    await api.delete(CLUSTERS, namespace, "orders", uid=document["metadata"]["uid"])

    async def gone() -> bool:
        left = [i for r in (*OWNED.values(), PODS) for i in await api.list(r, namespace, labels.CLUSTER)]
        return not left

    await eventually(gone, 60)
    assert len(await api.list(CLAIMS, namespace)) == 1


async def test_another_replica_takes_over_when_the_leader_is_killed(
    api: KubernetesApi, namespace: str, operator: OperatorProcess, kubelet: SimulatedKubelet,
    control_plane: ControlPlane, tmp_path: Path,
) -> None:  # fmt: skip
    await apply_cluster(api, namespace, brokers=BROKERS)
    await eventually(running(api, namespace), 60, lambda: status_of(api, namespace))
    arguments = ("--watch-namespaces", namespace, "--lease-name", namespace)
    log = tmp_path / "second.log"
    with OperatorProcess(control_plane.kubeconfig, log, identity="operator-1", arguments=arguments):
        operator.kill()
        await apply_cluster(api, namespace, "billing", brokers=BROKERS)
        await eventually(running(api, namespace, "billing"), 60, lambda: status_of(api, namespace, "billing"))
        lease = await api.get(LEASES, "default", namespace)
        assert lease is not None
        assert (lease["spec"]["holderIdentity"], lease["spec"]["leaseTransitions"]) == ("operator-1", 1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"brokers": {"storage": {}}}, "spec.brokers.storage.size: Required value"),
        ({"brokers": {**BROKERS, "minInSyncReplicas": 2}}, "minInSyncReplicas must not exceed replicasPerGroup"),
        ({"brokers": {"storage": {"size": "1Gi", "type": "EmptyDir"}}}, "set allowDataLoss to true"),
        ({"brokers": {**BROKERS, "replicaPerGroup": 2}}, ".spec.brokers.replicaPerGroup: field not declared in schema"),
        ({"brokers": {**BROKERS, "config": {"listenPort": "1"}}}, "the operator owns these keys"),
    ],
)
async def test_an_impossible_cluster_is_refused_with_the_name_of_its_field(
    api: KubernetesApi, namespace: str, spec: dict[str, Any], message: str
) -> None:
    with pytest.raises(ApiError) as refused:
        await apply_cluster(api, namespace, **spec)
    assert message in str(refused.value)


async def test_storage_never_shrinks(api: KubernetesApi, namespace: str) -> None:
    await apply_cluster(api, namespace, brokers=BROKERS)
    with pytest.raises(ApiError, match="size may grow but never shrink"):
        await apply_cluster(api, namespace, brokers={"storage": {"size": "5Gi"}})


EXAMPLES = {
    path.stem: path.read_text(encoding="utf-8")
    for path in sorted((Path(__file__).parents[2] / "examples").rglob("*.yaml"))
}


@pytest.mark.parametrize("example", EXAMPLES)
async def test_every_example_is_accepted(api: KubernetesApi, namespace: str, example: str) -> None:
    for document in yaml.safe_load_all(EXAMPLES[example]):
        document["metadata"]["namespace"] = namespace
        applied = await api.apply(document, manager="kubectl")
        assert applied["spec"].items() >= {k: v for k, v in document["spec"].items() if not isinstance(v, dict)}.items()


@pytest.mark.parametrize(
    ("kind", "spec", "message"),
    [
        ("RocketMQTopic", {"writeQueues": 9, "readQueues": 8}, "readQueues must not be below writeQueues"),
        ("RocketMQTopic", {"topicName": "a b"}, "spec.topicName in body should match"),
        ("RocketMQTopic", {"perm": "rw"}, 'supported values: "ReadWrite"'),
        ("RocketMQConsumerGroup", {"retryMaxTimes": 2000}, "should be less than or equal to 1000"),
        ("RocketMQConsumerGroup", {"groupname": "x"}, ".spec.groupname: field not declared in schema"),
    ],
)
async def test_an_impossible_companion_is_refused(
    api: KubernetesApi, namespace: str, kind: str, spec: dict[str, Any], message: str
) -> None:
    document = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": "a", "namespace": namespace},
        "spec": {"clusterRef": {"name": "orders"}, **spec},
    }
    with pytest.raises(ApiError) as refused:
        await api.apply(document, manager="kubectl")
    assert message in str(refused.value)


async def test_a_topics_name_and_cluster_never_change(api: KubernetesApi, namespace: str) -> None:
    def document(**spec: Any) -> dict[str, Any]:
        metadata = {"name": "a", "namespace": namespace}
        return {"apiVersion": API_VERSION, "kind": "RocketMQTopic", "metadata": metadata, "spec": spec}

    await api.apply(document(clusterRef={"name": "orders"}, topicName="Pay"), manager="kubectl")
    with pytest.raises(ApiError, match="topicName is immutable"):
        await api.apply(document(clusterRef={"name": "orders"}, topicName="Other"), manager="kubectl")
    with pytest.raises(ApiError, match="clusterRef is immutable"):
        await api.apply(document(clusterRef={"name": "other"}, topicName="Pay"), manager="kubectl")
