"""The broker groups: one StatefulSet per group, all Pods alike, the role not tied to the template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rocketmq_operator import config, labels, names, ports
from rocketmq_operator.manifests import Manifest, config_map, disruption_budget, manifest
from rocketmq_operator.model import ReplicationSecret, RocketMQCluster, SpreadMode, StorageType
from rocketmq_operator.network_policies import broker_policy
from rocketmq_operator.pods import container, field, pod_template, spread_constraint
from rocketmq_operator.services import headless_service, listener_service, replica_service
from rocketmq_operator.topology import Topology

STARTUP_SECONDS = 1800  # recovery of a large log after a crash reads it at disk speed
TERMINATION_GRACE_SECONDS = 120  # flush, dispatch, hand over


# Who stands for election: the Pod's name stays, its uid tells two lives of it apart.
_ELECTION_ENVIRONMENT = (field("ROCKETMQ_REPLICA_NAME", "metadata.name"), field("ROCKETMQ_REPLICA_UID", "metadata.uid"))
# A node port is open on every node; a broker names its own, which is up as long as it is.
_LISTENER_ENVIRONMENT = (field("ROCKETMQ_LISTENER_HOST", "status.hostIP"),)


_SECRET_MOUNT = {"name": "replication-secret", "mountPath": config.SECRET_DIRECTORY, "readOnly": True}


def broker_group_manifests(cluster: RocketMQCluster, group: int, topology: Topology) -> Iterator[Manifest]:
    """Everything of broker group ``group`` (from 0) except the ServiceAccount."""
    name, component = names.broker_group(cluster, group), labels.BROKER
    values = config.broker_conf(cluster, group, topology)
    yield config_map(cluster, name, {config.BROKER_CONF: config.config_text(values)}, component=component, group=name)
    yield headless_service(cluster, name, ports.BROKER_PORTS, component=component, group=name)
    for index in range(cluster.spec.brokers.replicas_per_group):
        yield replica_service(cluster, name, index, ports.BROKER_SERVICE_PORTS, component=component, group=name)
        for listener in cluster.spec.listeners:
            yield listener_service(
                cluster, listener, name, ports.BROKER_REMOTING, index, component=component, group=name
            )
    yield from broker_policy(cluster, name)
    if cluster.spec.pod_disruption_budget.enabled:
        yield disruption_budget(cluster, name, component=component, group=name)
    yield _stateful_set(cluster, name, config.restart_hash(values), is_leaving=group in topology.leaving)


def _stateful_set(cluster: RocketMQCluster, name: str, config_hash: str, *, is_leaving: bool) -> Manifest:
    brokers = cluster.spec.brokers
    storage = brokers.storage
    secret = brokers.replication_secret
    selector = labels.selector(cluster, labels.BROKER, name)
    main = container(
        cluster,
        labels.BROKER,
        command=["rocketmq", "broker", "-c", f"{config.CONFIG_DIRECTORY}/{config.BROKER_CONF}"],
        environment=[
            field("ROCKETMQ_BROKER_ID", f"metadata.labels['{labels.POD_INDEX}']"),
            *(_ELECTION_ENVIRONMENT if brokers.elects else ()),
            *(_LISTENER_ENVIRONMENT if cluster.spec.listeners else ()),
            # To clients: the Service in front of this Pod. To replicas: the Pod itself, ready or not.
            {"name": "ROCKETMQ_BROKER_IP1", "value": names.service_host("$(POD_NAME)", "$(POD_NAMESPACE)")},
            {
                "name": "ROCKETMQ_BROKER_IP2",
                "value": names.service_host(f"$(POD_NAME).{names.headless(name)}", "$(POD_NAMESPACE)"),
            },
        ],
        ports=ports.BROKER_PORTS,
        resources=brokers.resources,
        startup_seconds=STARTUP_SECONDS,
        http=ports.BROKER_HTTP,
        has_token=brokers.elects,
        mounts=[] if secret is None else [_SECRET_MOUNT],
    )
    on_claims = storage.type is StorageType.PERSISTENT_VOLUME_CLAIM
    template = pod_template(
        cluster,
        name,
        main,
        config_hash=config_hash,
        template=brokers.template,
        termination_grace_seconds=TERMINATION_GRACE_SECONDS,
        component=labels.BROKER,
        group=name,
        volumes=[
            *([] if on_claims else [{"name": "data", "emptyDir": {"sizeLimit": storage.size}}]),
            *([] if secret is None else [_secret_volume(secret)]),
        ],
        spread=_spread(cluster, selector),
        has_token=brokers.elects,
    )
    spec: dict[str, Any] = {
        "replicas": brokers.replicas_per_group,
        "serviceName": names.headless(name),
        "podManagementPolicy": "Parallel",
        # The operator restarts brokers itself, slaves first and one at a time.
        "updateStrategy": {"type": "OnDelete"},
        "revisionHistoryLimit": 5,
        "selector": {"matchLabels": selector},
        "template": template,
    }
    if on_claims:
        policy = storage.retention_policy
        spec["persistentVolumeClaimRetentionPolicy"] = {
            # Removing a group is scaling, although it deletes the StatefulSet.
            "whenDeleted": (policy.when_scaled if is_leaving else policy.when_deleted).value,
            "whenScaled": policy.when_scaled.value,
        }
        spec["volumeClaimTemplates"] = [_claim(cluster, name)]
    return manifest(cluster, "apps/v1", "StatefulSet", name, component=labels.BROKER, group=name, spec=spec)


def _secret_volume(secret: ReplicationSecret) -> dict[str, Any]:
    return {
        "name": "replication-secret",
        "secret": {
            "secretName": secret.name,
            "defaultMode": 0o440,
            "items": [{"key": secret.key, "path": config.SECRET_FILE}],
        },
    }


def _claim(cluster: RocketMQCluster, name: str) -> dict[str, Any]:
    storage = cluster.spec.brokers.storage
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": labels.selector(cluster, labels.BROKER, name)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": storage.storage_class_name} if storage.storage_class_name else {}),
            "volumeMode": "Filesystem",
            "resources": {"requests": {"storage": storage.size}},
        },
    }


def _spread(cluster: RocketMQCluster, selector: dict[str, str]) -> list[dict[str, Any]]:
    spread = cluster.spec.brokers.spread
    if spread.mode is SpreadMode.NONE:
        return []
    return [spread_constraint(spread.topology_key, required=spread.mode is SpreadMode.REQUIRED, selector=selector)]
