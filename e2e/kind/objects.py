"""What the tests of this folder ask of a cluster again and again."""

from __future__ import annotations

from typing import Any

import yaml

from e2e.kind.cluster import Kubernetes
from e2e.kind.engine import CommandFailed
from e2e.processes import wait_until
from rocketmq_operator.crd import API_VERSION, KIND
from rocketmq_operator.kube.resources import OWNED

READY_SECONDS = 180.0
RESTRICTED = {
    "pod-security.kubernetes.io/enforce": "restricted",
    "pod-security.kubernetes.io/enforce-version": "latest",
}


def make_namespace(cluster: Kubernetes, name: str) -> None:
    """A namespace that admits only Pods of the restricted standard."""
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}}
    cluster.kubectl("apply", "-f", "-", data=yaml.safe_dump(document))


def apply(cluster: Kubernetes, namespace: str, kind: str, name: str, spec: dict[str, Any]) -> None:
    """Apply one of our resources."""
    document = {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
    cluster.kubectl("apply", "-f", "-", data=yaml.safe_dump(document))


def apply_cluster(cluster: Kubernetes, namespace: str, name: str, **spec: Any) -> None:
    """Apply a RocketMQCluster."""
    apply(cluster, namespace, KIND, name, spec)


def condition(cluster: Kubernetes, resource: str, namespace: str, name: str, wanted: str) -> str:
    """The status of a condition that is about the current generation, or the empty string."""
    (found,) = cluster.objects(resource, name, "-n", namespace)
    generation = found["metadata"]["generation"]
    for one in found.get("status", {}).get("conditions", ()):
        if one["type"] == wanted and one.get("observedGeneration") == generation:
            return str(one["status"])
    return ""


def status(cluster: Kubernetes, namespace: str, name: str) -> dict[str, Any]:
    """What a RocketMQCluster's status says; nothing while it is not about the current generation."""
    (found,) = cluster.objects("rocketmqcluster", name, "-n", namespace)
    told: dict[str, Any] = found.get("status", {})
    return told if told.get("observedGeneration") == found["metadata"]["generation"] else {}


def wait_ready(cluster: Kubernetes, namespace: str, name: str, timeout_seconds: float = READY_SECONDS) -> None:
    """Wait until a RocketMQCluster is ready, as it is now specified, and its replicas are in sync."""
    for wanted in ("Ready", "ReplicationHealthy"):
        wait_until(
            lambda wanted=wanted: condition(cluster, "rocketmqcluster", namespace, name, wanted) == "True",  # type: ignore[misc]
            f"{name} is {wanted}", timeout_seconds, poll_seconds=0.3,
        )  # fmt: skip


def make_topic(cluster: Kubernetes, namespace: str, name: str, of: str) -> None:
    """A topic, on every master of the cluster ``of``."""
    apply(cluster, namespace, "RocketMQTopic", name, {"clusterRef": {"name": of}})
    wait_until(
        lambda: condition(cluster, "rocketmqtopic", namespace, name, "Ready") == "True",
        f"topic {name} is there", READY_SECONDS, poll_seconds=0.3,
    )  # fmt: skip


def pods(cluster: Kubernetes, namespace: str, selector: str = "rocketmqkube.dev/cluster") -> dict[str, dict[str, Any]]:
    """Pods of RocketMQ clusters by name."""
    return {pod["metadata"]["name"]: pod for pod in cluster.objects("pods", "-n", namespace, "-l", selector)}


def node_of(cluster: Kubernetes, namespace: str, pod: str) -> str:
    """The node that a Pod was given, or the empty string."""
    found = pods(cluster, namespace).get(pod)
    return str(found["spec"].get("nodeName", "")) if found else ""


def metrics(cluster: Kubernetes, namespace: str, pod: str) -> dict[str, float]:
    """What a broker's metrics say, the first of each name, by the API server's way to it; nothing when it does not answer."""
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}:8080/proxy/metrics"
    try:
        text = cluster.kubectl("get", "--raw", path, "--request-timeout=3s", timeout_seconds=30)
    except CommandFailed:
        return {}
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            found.setdefault(line.partition("{")[0].partition(" ")[0], float(line.rpartition(" ")[2]))
    return found


def lives(cluster: Kubernetes, namespace: str) -> dict[str, tuple[str, int]]:
    """What changes when a Pod is replaced or restarted: (uid, restarts) by name."""
    return {
        name: (pod["metadata"]["uid"], sum(c["restartCount"] for c in pod["status"].get("containerStatuses", ())))
        for name, pod in pods(cluster, namespace).items()
    }


def versions(cluster: Kubernetes, namespace: str) -> dict[tuple[str, str], tuple[str, int]]:
    """(resourceVersion, generation) of everything that the operator may write."""
    kinds = ",".join([*(resource.plural for resource in OWNED.values()), "rocketmqclusters", "rocketmqtopics"])
    return {
        (one["kind"], one["metadata"]["name"]): (
            one["metadata"]["resourceVersion"],
            one["metadata"].get("generation", 0),
        )
        for one in cluster.objects(kinds, "-n", namespace, "-l", "app.kubernetes.io/name=rocketmq")
        + cluster.objects("rocketmqclusters,rocketmqtopics", "-n", namespace)
    }


def wait_quiet(cluster: Kubernetes, namespace: str) -> dict[tuple[str, str], tuple[str, int]]:
    """Wait until two looks in a row, three seconds apart, see the same versions; these."""
    looks = [versions(cluster, namespace)]

    def same() -> bool:
        looks.append(versions(cluster, namespace))
        return looks[-1] == looks[-2]

    wait_until(same, f"nothing moves in {namespace}", 90, poll_seconds=3.0)
    return looks[-1]


def notes(cluster: Kubernetes, namespace: str) -> list[str]:
    """What events say."""
    return [event.get("message", "") for event in cluster.objects("events", "-n", namespace)]
