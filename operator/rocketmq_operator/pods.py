"""What name-server and broker Pods have in common: hardening, probes, environment, volumes, the user's template."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from rocketmq_operator import labels, names
from rocketmq_operator.config import CONFIG_DIRECTORY, DATA_DIRECTORY
from rocketmq_operator.model import PodTemplate, Resources, RocketMQCluster
from rocketmq_operator.overlay import merge
from rocketmq_operator.ports import Port

USER_ID = 3000  # of Apache's images, so that a volume of theirs can be taken over

POD_SECURITY: dict[str, Any] = {
    "runAsNonRoot": True,
    "runAsUser": USER_ID,
    "runAsGroup": USER_ID,
    "fsGroup": USER_ID,
    # Walking a store of a million files at each start would take minutes.
    "fsGroupChangePolicy": "OnRootMismatch",
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: dict[str, Any] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}


# What Kubernetes mounts for a service account, spelled out: tokens are not mounted otherwise.
TOKEN_SECONDS = 3600
TOKEN_VOLUME: dict[str, Any] = {
    "name": "token",
    "projected": {
        "defaultMode": 0o440,
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": TOKEN_SECONDS}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        ],
    },
}
TOKEN_MOUNT: dict[str, Any] = {
    "name": "token",
    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
    "readOnly": True,
}


def probes(port: Port, *, startup_seconds: int) -> dict[str, Any]:
    """Start-up may take ``startup_seconds`` (recovery of a large log); afterwards liveness and readiness are looked at.

    Liveness asks only whether the process turns, readiness whether clients should come.
    """
    live = {"path": "/healthz", "port": port.name, "scheme": "HTTP"}
    ready = {"path": "/readyz", "port": port.name, "scheme": "HTTP"}
    return {
        "startupProbe": {
            "httpGet": live,
            "periodSeconds": 2,
            "timeoutSeconds": 2,
            "failureThreshold": startup_seconds // 2,
            "successThreshold": 1,
        },
        "livenessProbe": {
            "httpGet": live,
            "periodSeconds": 10,
            "timeoutSeconds": 5,
            "failureThreshold": 6,
            "successThreshold": 1,
        },
        "readinessProbe": {
            "httpGet": ready,
            "periodSeconds": 5,
            "timeoutSeconds": 3,
            "failureThreshold": 2,
            "successThreshold": 1,
        },
    }


def field(name: str, path: str) -> dict[str, Any]:
    """An environment variable that holds a field of its own Pod."""
    return {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}


IDENTITY_ENVIRONMENT = [field("POD_NAME", "metadata.name"), field("POD_NAMESPACE", "metadata.namespace")]


def container(
    cluster: RocketMQCluster,
    name: str,
    *,
    command: list[str],
    environment: list[dict[str, Any]],
    ports: Iterable[Port],
    resources: Resources,
    startup_seconds: int,
    http: Port,
    has_token: bool = False,
    mounts: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """The one container of a Pod, with its configuration, data and scratch directories mounted."""
    wanted = {k: v for k, v in msgspec.to_builtins(resources).items() if v}
    return {
        "name": name,
        "image": cluster.image,
        "imagePullPolicy": cluster.spec.image_pull_policy.value,
        "command": command,
        "env": [*IDENTITY_ENVIRONMENT, *environment],
        "ports": [{"name": p.name, "containerPort": p.number, "protocol": "TCP"} for p in ports],
        **(
            {"resources": {kind: {k: str(v) for k, v in sorted(q.items())} for kind, q in wanted.items()}}
            if wanted
            else {}
        ),
        **probes(http, startup_seconds=startup_seconds),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [
            {"name": "config", "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            {"name": "data", "mountPath": DATA_DIRECTORY},
            {"name": "tmp", "mountPath": "/tmp"},
            *((TOKEN_MOUNT,) if has_token else ()),
            *mounts,
        ],
    }


def pod_template(
    cluster: RocketMQCluster,
    stateful_set: str,
    main: dict[str, Any],
    *,
    config_hash: str,
    template: PodTemplate,
    termination_grace_seconds: int,
    component: str,
    group: str | None = None,
    volumes: list[dict[str, Any]] | None = None,
    spread: list[dict[str, Any]] | None = None,
    has_token: bool = False,
) -> dict[str, Any]:
    """A StatefulSet's Pod template, the user's template merged over it."""
    rendered = {
        "metadata": {
            "labels": labels.common(cluster, component, group),
            "annotations": {labels.CONFIG_HASH_ANNOTATION: config_hash},
        },
        "spec": {
            "serviceAccountName": names.service_account(cluster),
            "automountServiceAccountToken": False,
            # Service variables (ROCKETMQ_B0_PORT...) would read as settings of the broker.
            "enableServiceLinks": False,
            "securityContext": POD_SECURITY,
            "terminationGracePeriodSeconds": termination_grace_seconds,
            **(
                {"imagePullSecrets": [{"name": s.name} for s in cluster.spec.image_pull_secrets]}
                if cluster.spec.image_pull_secrets
                else {}
            ),
            "containers": [main],
            **({"topologySpreadConstraints": spread} if spread else {}),
            "volumes": [
                {"name": "config", "configMap": {"name": stateful_set}},
                {"name": "tmp", "emptyDir": {}},
                *((TOKEN_VOLUME,) if has_token else ()),
                *(volumes or ()),
            ],
        },
    }
    overlay = {
        "metadata": {k: v for k, v in msgspec.to_builtins(template.metadata).items() if v},
        "spec": template.spec,
    }
    merged: dict[str, Any] = merge(rendered, overlay)
    # The selector's labels are not the user's to change: the StatefulSet would be refused.
    merged["metadata"]["labels"].update(labels.selector(cluster, component, group))
    return merged


def spread_constraint(topology_key: str, *, required: bool, selector: dict[str, str]) -> dict[str, Any]:
    """At most one more Pod in one place than in another."""
    return {
        "maxSkew": 1,
        "topologyKey": topology_key,
        "whenUnsatisfiable": "DoNotSchedule" if required else "ScheduleAnyway",
        "labelSelector": {"matchLabels": selector},
    }
