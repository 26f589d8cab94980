"""Labels of rendered objects: Kubernetes' recommended ones, and our own that selectors use.

Selectors never change during a StatefulSet's life, so they hold only our own stable labels, no version.
"""

from __future__ import annotations

from rocketmq_operator.crd import GROUP
from rocketmq_operator.model import RocketMQCluster

CLUSTER = f"{GROUP}/cluster"
COMPONENT = f"{GROUP}/component"
BROKER_GROUP = f"{GROUP}/broker-group"
POD_INDEX = "apps.kubernetes.io/pod-index"
POD_NAME = "statefulset.kubernetes.io/pod-name"

CONFIG_HASH_ANNOTATION = f"{GROUP}/config-hash"

NAMESRV = "namesrv"
BROKER = "broker"


def selector(cluster: RocketMQCluster, component: str, group: str | None = None) -> dict[str, str]:
    """What selects the Pods of a component, or of one broker group by its brokerName."""
    wanted = {CLUSTER: cluster.name, COMPONENT: component}
    return wanted if group is None else {**wanted, BROKER_GROUP: group}


def common(cluster: RocketMQCluster, component: str | None = None, group: str | None = None) -> dict[str, str]:
    """All labels of an object; without ``component`` those of an object that the whole cluster shares."""
    result = {
        "app.kubernetes.io/instance": cluster.name,
        "app.kubernetes.io/managed-by": "rocketmq-operator",
        "app.kubernetes.io/name": "rocketmq",
        "app.kubernetes.io/part-of": cluster.name,
    }
    if component is None:
        return {**result, CLUSTER: cluster.name}
    return {**result, "app.kubernetes.io/component": component, **selector(cluster, component, group)}
