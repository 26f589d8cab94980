"""The name servers: one StatefulSet whose Pods share nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rocketmq_operator import config, labels, names, ports
from rocketmq_operator.manifests import Manifest, config_map, disruption_budget, manifest
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.network_policies import namesrv_policy
from rocketmq_operator.pods import container, pod_template, spread_constraint
from rocketmq_operator.services import client_service, headless_service, listener_service, replica_service
from rocketmq_operator.topology import Topology

STARTUP_SECONDS = 60
TERMINATION_GRACE_SECONDS = 30


def namesrv_manifests(cluster: RocketMQCluster, topology: Topology) -> Iterator[Manifest]:
    """Everything of the name servers except the ServiceAccount."""
    name, component = names.namesrv(cluster), labels.NAMESRV
    values = config.namesrv_conf(cluster)
    yield config_map(cluster, name, {config.NAMESRV_CONF: config.config_text(values)}, component=component)
    yield headless_service(cluster, name, ports.NAMESRV_PORTS, component=component)
    yield client_service(cluster, name, ports.NAMESRV_PORTS, component=component)
    for index in range(topology.namesrv_replicas):
        yield replica_service(cluster, name, index, ports.NAMESRV_PORTS, component=component)
    for listener in cluster.spec.listeners:
        yield listener_service(cluster, listener, name, ports.NAMESRV_REMOTING, None, component=component)
    yield from namesrv_policy(cluster)
    if cluster.spec.pod_disruption_budget.enabled:
        yield disruption_budget(cluster, name, component=component)
    yield _stateful_set(cluster, name, config.restart_hash(values), topology.namesrv_replicas)


def _stateful_set(cluster: RocketMQCluster, name: str, config_hash: str, replicas: int) -> Manifest:
    servers = cluster.spec.name_servers
    selector = labels.selector(cluster, labels.NAMESRV)
    main = container(
        cluster,
        labels.NAMESRV,
        command=["rocketmq", "namesrv", "-c", f"{config.CONFIG_DIRECTORY}/{config.NAMESRV_CONF}"],
        environment=[],
        ports=ports.NAMESRV_PORTS,
        resources=servers.resources,
        startup_seconds=STARTUP_SECONDS,
        http=ports.NAMESRV_HTTP,
    )
    # KV configuration is the only thing a name server keeps; brokers register anew with whoever starts empty.
    data: dict[str, Any] = {"name": "data", "emptyDir": {}}
    return manifest(
        cluster,
        "apps/v1",
        "StatefulSet",
        name,
        component=labels.NAMESRV,
        spec={
            "replicas": replicas,
            "serviceName": names.headless(name),
            "podManagementPolicy": "Parallel",
            "updateStrategy": {"type": "RollingUpdate"},
            "revisionHistoryLimit": 5,
            "selector": {"matchLabels": selector},
            "template": pod_template(
                cluster,
                name,
                main,
                config_hash=config_hash,
                template=servers.template,
                termination_grace_seconds=TERMINATION_GRACE_SECONDS,
                component=labels.NAMESRV,
                volumes=[data],
                spread=[spread_constraint("kubernetes.io/hostname", required=False, selector=selector)],
            ),
        },
    )
