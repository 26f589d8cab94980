"""broker.conf and namesrv.conf of a cluster, as Java properties text.

What differs between the Pods of one StatefulSet (broker id, advertised addresses) is not here: it comes from the environment, so
one ConfigMap serves a whole group. ``brokerRole`` says how a master acknowledges; a broker whose id is above 0 is a slave.
"""

from __future__ import annotations

import hashlib

from rocketmq_common.settings import format_java_properties
from rocketmq_operator import names, ports
from rocketmq_operator.model import Flush, Replication, RocketMQCluster
from rocketmq_operator.topology import Topology

CONFIG_DIRECTORY = "/etc/rocketmq"
DATA_DIRECTORY = "/var/lib/rocketmq"
# What replicas prove to each other to have; a directory, because a file that is mounted alone never changes.
SECRET_DIRECTORY = "/etc/rocketmq-replication"
SECRET_FILE = "secret"
BROKER_CONF = "broker.conf"
NAMESRV_CONF = "namesrv.conf"

# Changed at run time by request 25, so a new value restarts nothing. Only keys of the broker's own allow-list belong here.
RUNTIME_KEYS = frozenset(
    {
        "autoCreateSubscriptionGroup",
        "autoCreateTopicEnable",
        "brokerPermission",
        "cleanFileForciblyEnable",
        "deleteWhen",
        "diskMaxUsedSpaceRatio",
        "diskSpaceCleanForciblyRatio",
        "diskSpaceWarningLevelRatio",
        "enablePropertyFilter",
        "fileReservedTime",
        "listenerAddresses",
        "maxMsgsNumBatch",
        "namesrvAddr",
        "rejectTransactionMessage",
        "slaveReadEnable",
    }
)
# What a key goes back to when the spec does not name it any more.
RUNTIME_DEFAULTS = {"brokerPermission": "6", "listenerAddresses": ""}
READ_ONLY_PERMISSION = "4"


def namesrv_addresses(cluster: RocketMQCluster, count: int | None = None) -> list[str]:
    """``host:port`` of each name server (of the first ``count``), by the stable address of its own Service."""
    name = names.namesrv(cluster)
    return [
        f"{names.service_host(names.replica(name, index), cluster.namespace)}:{ports.NAMESRV_REMOTING.number}"
        for index in range(cluster.spec.name_servers.replicas if count is None else count)
    ]


def namesrv_conf(cluster: RocketMQCluster) -> dict[str, str]:
    """Keys of namesrv.conf: the operator's, then the user's in name order."""
    return {
        "listenPort": str(ports.NAMESRV_REMOTING.number),
        "httpPort": str(ports.NAMESRV_HTTP.number),
        **(
            {"listeners": ";".join(f"{one.name}:{one.port}" for one in cluster.spec.listeners)}
            if cluster.spec.listeners
            else {}
        ),
        "kvConfigPath": f"{DATA_DIRECTORY}/kvConfig.json",
        "configStorePath": f"{DATA_DIRECTORY}/namesrv.properties",
        **dict(sorted(cluster.spec.name_servers.config.items())),
    }


def broker_conf(cluster: RocketMQCluster, group: int, topology: Topology | None = None) -> dict[str, str]:
    """Keys of the broker.conf of one group: the operator's, then the user's in name order."""
    brokers = cluster.spec.brokers
    topology = topology or Topology.wanted(cluster)
    synchronous = brokers.replication is Replication.SYNC
    return {
        "brokerClusterName": cluster.name,
        "brokerName": names.broker_group(cluster, group),
        "brokerRole": "SYNC_MASTER" if synchronous else "ASYNC_MASTER",
        "flushDiskType": "SYNC_FLUSH" if brokers.flush is Flush.SYNC else "ASYNC_FLUSH",
        "namesrvAddr": ";".join(namesrv_addresses(cluster, topology.published_namesrvs)),
        "listenPort": str(ports.BROKER_REMOTING.number),
        **({"listenerAddresses": _listener_addresses(cluster, group, topology)} if cluster.spec.listeners else {}),
        "haListenPort": str(ports.BROKER_HA.number),
        "httpPort": str(ports.BROKER_HTTP.number),
        "storePathRootDir": f"{DATA_DIRECTORY}/store",
        "totalReplicas": str(brokers.replicas_per_group),
        # Acks wait for every in-sync replica; the broker lowers the number as replicas fall behind, to the minimum at most.
        "inSyncReplicas": str(brokers.replicas_per_group if synchronous else 1),
        "minInSyncReplicas": str(brokers.min_in_sync_replicas),
        "enableAutoInSyncReplicas": "true",
        **_failover_conf(cluster),
        **_secret_conf(cluster),
        **dict(sorted(brokers.config.items())),
        # Over the user's value: a group that leaves takes no messages, after a restart neither.
        **({"brokerPermission": READ_ONLY_PERMISSION} if group in topology.leaving else {}),
    }


def _listener_addresses(cluster: RocketMQCluster, group: int, topology: Topology) -> str:
    """Where clients of listeners reach each replica of a group, as far as that is known; the broker looks for its own."""
    found = []
    for index in range(cluster.spec.brokers.replicas_per_group):
        replica = names.replica(names.broker_group(cluster, group), index)
        for listener in cluster.spec.listeners:
            address = topology.exposed.get(names.exposed(replica, listener.name))
            if address:
                found.append(f"{names.service_host(replica, cluster.namespace)}/{listener.name}={address}")
    return ";".join(found)


def _failover_conf(cluster: RocketMQCluster) -> dict[str, str]:
    """Keys of a group that elects its master; the replica's name and uid come from the environment."""
    if not cluster.spec.brokers.elects:
        return {}
    failover = cluster.spec.brokers.failover
    return {
        "failoverMode": failover.mode.value,
        "leaseNamespace": cluster.namespace,
        "leaseDuration": str(failover.lease_duration_seconds * 1000),
        "leaseRenewDeadline": str(failover.renew_deadline_seconds * 1000),
        "leaseRetryPeriod": str(failover.retry_period_seconds * 1000),
        "failoverDelay": str(failover.delay_seconds * 1000),
        "onApiServerLoss": failover.on_api_server_loss.value,
    }


def _secret_conf(cluster: RocketMQCluster) -> dict[str, str]:
    secret = cluster.spec.brokers.replication_secret
    if secret is None:
        return {}
    return {
        "haSecretFile": f"{SECRET_DIRECTORY}/{SECRET_FILE}",
        "haAuthenticationRequired": "true" if secret.enforced else "false",
    }


def runtime_values(values: dict[str, str]) -> dict[str, str]:
    """What a running broker should have of a configuration without being restarted."""
    return {**RUNTIME_DEFAULTS, **{key: value for key, value in values.items() if key in RUNTIME_KEYS}}


def config_text(values: dict[str, str]) -> str:
    """The file's text."""
    return format_java_properties(values)


def restart_hash(values: dict[str, str]) -> str:
    """Changes exactly when a key changes that needs a restart; 16 hexadecimal digits."""
    text = config_text({key: value for key, value in values.items() if key not in RUNTIME_KEYS})
    return hashlib.sha256(text.encode()).hexdigest()[:16]
