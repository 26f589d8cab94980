"""How many name servers run, and how many of them brokers know.

Out: run more, and publish a new one once it is ready. In: brokers forget first; clients need time to take a list that does not
name the leaver; only then it goes. No broker restarts either way.
"""

from __future__ import annotations

from collections.abc import Iterator

from rocketmq_common.settings import SettingsError, parse_java_properties
from rocketmq_operator import config, labels, names
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.reconcile.annotations import LIST_SHRUNK_AT
from rocketmq_operator.reconcile.convergence import applied_replicas
from rocketmq_operator.reconcile.observed import Observed
from rocketmq_operator.reconcile.steps import Annotate

# Clients ask for their routes each 30 s and reread a list of name servers each 120 s.
CLIENTS_FORGET_SECONDS = 120


def namesrv_counts(cluster: RocketMQCluster, observed: Observed, now_ms: int) -> tuple[int, int]:
    """(how many run, how many brokers are told of)."""
    wanted = cluster.spec.name_servers.replicas
    live = observed.stateful_set(names.namesrv(cluster))
    published = published_count(observed)
    if live is None or published is None:
        return wanted, wanted
    running = applied_replicas(live)
    if published < wanted:
        pods = observed.pods_of(names.namesrv(cluster))
        ready = {pod.index for pod in pods if pod.is_ready and not pod.is_deleting}
        while published < wanted and published in ready:
            published += 1
        return wanted, published
    if running <= wanted:
        return wanted, wanted
    shrunk_at = _shrunk_at(cluster, observed)
    waited = shrunk_at is not None and now_ms - shrunk_at >= CLIENTS_FORGET_SECONDS * 1000
    return (wanted if waited and brokers_know(cluster, observed) else running), wanted


def retirement_notes(cluster: RocketMQCluster, observed: Observed, now_ms: int) -> Iterator[Annotate]:
    """Start the clients' time when every broker has forgotten the leaver; stop it when nothing leaves any more."""
    name = names.namesrv(cluster)
    live = observed.stateful_set(name)
    if live is None:
        return
    wanted = cluster.spec.name_servers.replicas
    shrunk_at = _shrunk_at(cluster, observed)
    retiring = applied_replicas(live) > wanted and published_count(observed) == wanted
    if retiring and shrunk_at is None and brokers_know(cluster, observed):
        yield _annotate(name, live["metadata"]["resourceVersion"], str(now_ms))
    elif not retiring and shrunk_at is not None:
        yield _annotate(name, live["metadata"]["resourceVersion"], None)


def brokers_know(cluster: RocketMQCluster, observed: Observed) -> bool:
    """Whether every broker Pod answered, with exactly the wanted list."""
    wanted = ";".join(config.namesrv_addresses(cluster))
    pods = [pod for pod in observed.pods.values() if pod.component == labels.BROKER]
    return all(
        pod.name in observed.brokers and observed.brokers[pod.name].config.get("namesrvAddr") == wanted for pod in pods
    )


def published_count(observed: Observed) -> int | None:
    """How many name servers the brokers' configuration names now; None before there is one."""
    for (kind, _), item in observed.objects.items():
        text = (item.get("data") or {}).get(config.BROKER_CONF) if kind == "ConfigMap" else None
        if text:
            try:
                addresses = parse_java_properties(text).get("namesrvAddr", "")
            except SettingsError:
                continue
            return len([entry for entry in addresses.split(";") if entry])
    return None


def _shrunk_at(cluster: RocketMQCluster, observed: Observed) -> int | None:
    live = observed.stateful_set(names.namesrv(cluster)) or {"metadata": {}}
    noted = (live["metadata"].get("annotations") or {}).get(LIST_SHRUNK_AT, "")
    return int(noted) if noted.isdigit() else None


def _annotate(name: str, version: str, value: str | None) -> Annotate:
    return Annotate(
        stateful_set=name,
        resource_version=version,
        annotations={LIST_SHRUNK_AT: value},
        reason="NameServerLeaves",
        note="brokers forgot the leaving name servers; clients get their time"
        if value
        else "no name server is leaving any more",
    )
