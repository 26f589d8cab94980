"""RocketMQCluster as frozen values.

Attribute names are ours, wire names the CRD's. Defaults are the schema's (a test compares them field by field), so a model built in
Python and one that went through an API server are equal.
"""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from rocketmq_operator.quantities import parse_quantity


class Replication(StrEnum):
    """When a send is acknowledged with regard to other replicas."""

    SYNC = "Sync"
    ASYNC = "Async"


class Flush(StrEnum):
    """When a send is acknowledged with regard to the disk."""

    SYNC = "Sync"
    ASYNC = "Async"


class StorageType(StrEnum):
    """What a broker's store lies on."""

    PERSISTENT_VOLUME_CLAIM = "PersistentVolumeClaim"
    EMPTY_DIR = "EmptyDir"


class Retention(StrEnum):
    """What happens to claims that are no longer used."""

    RETAIN = "Retain"
    DELETE = "Delete"


class SpreadMode(StrEnum):
    """How hard the brokers of a group are kept apart."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"
    NONE = "None"


class PullPolicy(StrEnum):
    """When a node pulls the image."""

    ALWAYS = "Always"
    IF_NOT_PRESENT = "IfNotPresent"
    NEVER = "Never"


class Value(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True, omit_defaults=False):
    """Base of everything in a spec."""


class Resources(Value, frozen=True, kw_only=True):
    """Compute resources of a container: name → quantity."""

    requests: dict[str, str | int] = {}
    limits: dict[str, str | int] = {}


class TemplateMetadata(Value, frozen=True, kw_only=True):
    """Labels and annotations that are added to Pods."""

    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class PodTemplate(Value, frozen=True, kw_only=True):
    """What is merged over a rendered Pod template."""

    metadata: TemplateMetadata = TemplateMetadata()
    spec: dict[str, Any] = {}


class PullSecret(Value, frozen=True, kw_only=True):
    """Name of a Secret with registry credentials."""

    name: str


class PodDisruptionBudget(Value, frozen=True, kw_only=True):
    """Whether disruption budgets are rendered."""

    enabled: bool = True


class NetworkPolicy(Value, frozen=True, kw_only=True):
    """Whether network policies are rendered, and who counts as a client: peers of a NetworkPolicy; none means everybody."""

    enabled: bool = True
    clients: tuple[dict[str, Any], ...] = ()


class ListenerType(StrEnum):
    """By which kind of Service clients elsewhere come."""

    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class Listener(Value, frozen=True, kw_only=True):
    """A way in for clients that do not reach the cluster's own addresses. ``port`` is the name servers' for it."""

    name: str
    type: ListenerType
    port: int
    host_template: str = ""
    annotations: dict[str, str] = {}


class NameServers(Value, frozen=True, kw_only=True):
    """The name servers of a cluster."""

    replicas: int = 2
    resources: Resources = Resources(requests={"cpu": "100m", "memory": "64Mi"})
    config: dict[str, str] = {}
    template: PodTemplate = PodTemplate()


class RetentionPolicy(Value, frozen=True, kw_only=True):
    """What happens to claims of brokers that are gone."""

    when_deleted: Retention = Retention.RETAIN
    when_scaled: Retention = Retention.RETAIN


class Storage(Value, frozen=True, kw_only=True):
    """Where each broker keeps its store."""

    size: str
    type: StorageType = StorageType.PERSISTENT_VOLUME_CLAIM
    storage_class_name: str | None = None
    allow_data_loss: bool = False
    retention_policy: RetentionPolicy = RetentionPolicy()

    @property
    def size_bytes(self) -> Decimal:
        """`size` as a number."""
        return parse_quantity(self.size)


class Spread(Value, frozen=True, kw_only=True):
    """How the brokers of one group are kept apart."""

    topology_key: str = "kubernetes.io/hostname"
    mode: SpreadMode = SpreadMode.PREFERRED


class FailoverMode(StrEnum):
    """Who decides on a new master of a group."""

    AUTOMATIC = "Automatic"
    MANUAL = "Manual"
    DISABLED = "Disabled"


class ApiServerLoss(StrEnum):
    """What a master does that cannot renew its Lease."""

    CONTINUE_IF_FOLLOWED = "ContinueIfFollowed"
    FENCE = "Fence"


class Failover(Value, frozen=True, kw_only=True):
    """How a group of several replicas gets a new master."""

    mode: FailoverMode = FailoverMode.AUTOMATIC
    lease_duration_seconds: int = 8
    renew_deadline_seconds: int = 5
    retry_period_seconds: int = 1
    delay_seconds: int = 0
    on_api_server_loss: ApiServerLoss = ApiServerLoss.CONTINUE_IF_FOLLOWED


class ReplicationSecret(Value, frozen=True, kw_only=True):
    """What replicas of a group prove to each other to have: a key of a Secret in the cluster's namespace."""

    name: str
    key: str = "secret"
    enforced: bool = True


class Brokers(Value, frozen=True, kw_only=True):
    """The broker groups of a cluster."""

    storage: Storage
    groups: int = 1
    replicas_per_group: int = 1
    min_in_sync_replicas: int = 1
    replication: Replication = Replication.SYNC
    flush: Flush = Flush.ASYNC
    config: dict[str, str] = {}
    resources: Resources = Resources(requests={"cpu": "500m", "memory": "512Mi"})
    template: PodTemplate = PodTemplate()
    spread: Spread = Spread()
    failover: Failover = Failover()
    replication_secret: ReplicationSecret | None = None

    @property
    def elects(self) -> bool:
        """A Lease decides who is master of a group."""
        return self.replicas_per_group > 1 and self.failover.mode is not FailoverMode.DISABLED


class ClusterSpec(Value, frozen=True, kw_only=True):
    """What is wanted of a cluster."""

    brokers: Brokers
    name_servers: NameServers = NameServers()
    paused: bool = False
    version: str = "0.1.0"
    image: str = ""
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    image_pull_secrets: tuple[PullSecret, ...] = ()
    pod_disruption_budget: PodDisruptionBudget = PodDisruptionBudget()
    network_policy: NetworkPolicy = NetworkPolicy()
    listeners: tuple[Listener, ...] = ()


class RocketMQCluster(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster. ``uid`` is the object's in Kubernetes and empty elsewhere."""

    name: str
    spec: ClusterSpec
    namespace: str = "default"
    uid: str = ""

    @property
    def image(self) -> str:
        """The image of every container."""
        return self.spec.image or f"rocketmq-kube:{self.spec.version}"


def cluster_from_object(document: dict[str, Any]) -> RocketMQCluster:
    """The model of a valid, defaulted object; raises msgspec.ValidationError when it is neither."""
    metadata = document["metadata"]
    return RocketMQCluster(
        name=metadata["name"],
        namespace=metadata.get("namespace") or "default",
        uid=metadata.get("uid", ""),
        spec=msgspec.convert(document["spec"], ClusterSpec),
    )
