"""Removing a broker group: it goes only when nothing is left in it, and until then the spec may call it back.

Requested → Prepared (its topics and groups exist where they stay) → WriteClosed (it takes no messages, durably) → Quiet (none
came for two route periods) → Consumed (every queue read by every group) → Specials (nothing delayed, nothing half) → Removed.
Each state is derived from facts; two moments are remembered on the StatefulSet.
"""

from __future__ import annotations

import msgspec
from msgspec import structs

from rocketmq_operator import config, names, ports
from rocketmq_operator.kube.api import Object
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.reconcile.annotations import ABANDON, DRAIN_EMPTY_SINCE, DRAIN_QUIET_SINCE
from rocketmq_operator.reconcile.observed import DrainFacts, Observed, Pod, settled
from rocketmq_operator.reconcile.rolling import master_of, name_server_addresses
from rocketmq_operator.reconcile.steps import Annotate, CopyTables, DeleteObject, UnregisterGroup
from rocketmq_operator.topology import Topology

QUIET_SECONDS = 60
EMPTY_SECONDS = 10
TOLD_MAX = 5

DrainStep = Annotate | CopyTables | DeleteObject | UnregisterGroup


class Drain(msgspec.Struct, frozen=True, kw_only=True):
    """One leaving group: ``step`` is the state that is not reached yet, ``blocked`` why it may take a person."""

    group: str
    step: str
    steps: tuple[DrainStep, ...] = ()
    unconsumed: int = 0
    delayed: int = 0
    half: int = 0
    waiting: str = ""
    blocked: str = ""


def drain(cluster: RocketMQCluster, observed: Observed, topology: Topology, now_ms: int) -> list[Drain]:
    """The next steps of every leaving group, the highest first."""
    staying = [names.broker_group(cluster, g) for g in topology.groups if g not in topology.leaving]
    return [
        _drain(cluster, observed, names.broker_group(cluster, g), staying, now_ms)
        for g in sorted(topology.leaving, reverse=True)
    ]


def called_back(cluster: RocketMQCluster, observed: Observed, topology: Topology) -> list[Annotate]:
    """Forget how far the draining of groups was that stay after all."""
    steps = []
    for index in topology.groups:
        live = observed.stateful_set(names.broker_group(cluster, index))
        if index not in topology.leaving and live is not None and _noted(live):
            note = f"{live['metadata']['name']} stays"
            steps.append(_annotate(live, {DRAIN_QUIET_SINCE: None, DRAIN_EMPTY_SINCE: None}, note))
    return steps


def _drain(cluster: RocketMQCluster, observed: Observed, group: str, staying: list[str], now_ms: int) -> Drain:
    live, facts, master = observed.stateful_set(group), observed.drains.get(group), master_of(observed, group)
    if live is None:
        return Drain(group=group, step="Removed")
    if facts is None or master is None:
        return Drain(group=group, step="Requested", blocked=f"{group} does not answer: what is left in it is not known")
    if facts.missing_topics or facts.missing_groups:
        return _prepare(observed, group, staying, facts)
    told = observed.brokers.get(master.name)
    if told is None or told.config.get("brokerPermission") != config.READ_ONLY_PERMISSION:
        return Drain(group=group, step="WriteClosed", waiting=f"{group} is told to take no messages")
    counted = Drain(
        group=group,
        step="Quiet",
        unconsumed=sum(facts.unconsumed.values()),
        delayed=facts.delayed,
        half=facts.half,
    )
    noted = f"{facts.log_end_offset}@"
    quiet = (live["metadata"].get("annotations") or {}).get(DRAIN_QUIET_SINCE, "")
    if not quiet.startswith(noted) or facts.puts_per_second > 0:
        step = _annotate(
            live, {DRAIN_QUIET_SINCE: f"{noted}{now_ms}", DRAIN_EMPTY_SINCE: None}, f"{group} still took messages"
        )
        return structs.replace(counted, steps=(step,), waiting=f"{group} becomes quiet")
    if now_ms - int(quiet.removeprefix(noted) or 0) < QUIET_SECONDS * 1000:
        return structs.replace(counted, waiting=f"no message came to {group} for {QUIET_SECONDS} s")
    left = _left(observed, group, facts)
    if left is not None:
        steps = (_annotate(live, {DRAIN_EMPTY_SINCE: None}, left[1]),) if _empty_since(live) is not None else ()
        return structs.replace(counted, step=left[0], steps=steps, blocked=left[1])
    since = _empty_since(live)
    if since is None:
        step = _annotate(live, {DRAIN_EMPTY_SINCE: str(now_ms)}, f"{group} is empty; looked at once more")
        return structs.replace(counted, step="Removed", steps=(step,), waiting=f"{group} is looked at once more")
    if now_ms - since < EMPTY_SECONDS * 1000 or not settled(live):
        return structs.replace(counted, step="Removed", waiting=f"{group} is looked at once more")
    return structs.replace(counted, step="Removed", steps=_remove(cluster, observed, group, live))


def _prepare(observed: Observed, group: str, staying: list[str], facts: DrainFacts) -> Drain:
    masters = [m for g in staying if (m := master_of(observed, g)) is not None and m.ip and m.name in observed.brokers]
    if len(masters) < len(staying) or not masters:
        return Drain(group=group, step="Prepared", blocked="a master that stays does not answer")
    note = f"{len(facts.missing_topics)} topics and {len(facts.missing_groups)} groups of {group} are created elsewhere"
    steps = tuple(
        CopyTables(
            target=address(master),
            topics=facts.missing_topics,
            groups=facts.missing_groups,
            reason="DrainPrepares",
            note=f"{note}: {master.name}",
        )
        for master in masters
    )
    return Drain(group=group, step="Prepared", steps=steps, waiting=note)


def _left(observed: Observed, group: str, facts: DrainFacts) -> tuple[str, str] | None:
    """(state, what is left) when something is."""
    total = sum(facts.unconsumed.values())
    if total and observed.annotations.get(ABANDON) != f"{group}={total}":
        most = sorted(facts.unconsumed.items(), key=lambda item: -item[1])[:TOLD_MAX]
        where = ", ".join(f"{name}: {count}" for name, count in most)
        return "Consumed", (
            f"{total} messages in {group} are not consumed ({where}); consume them, or annotate the cluster with "
            f"{ABANDON}={group}={total}"
        )
    if facts.delayed:
        return "Specials", f"{facts.delayed} delayed messages in {group} are not due yet"
    if facts.half:
        return "Specials", f"{facts.half} transactions in {group} are neither committed nor rolled back"
    return None


def _remove(cluster: RocketMQCluster, observed: Observed, group: str, live: Object) -> tuple[DrainStep, ...]:
    note = f"{group} is empty and leaves"
    pods = [pod for pod in observed.pods_of(group) if pod.ip]
    advertised = [
        (pod.index, f"{names.service_host(pod.name, cluster.namespace)}:{ports.BROKER_REMOTING.number}") for pod in pods
    ]
    return (
        UnregisterGroup(
            cluster=cluster.name,
            group=group,
            brokers=tuple(advertised),
            name_servers=name_server_addresses(cluster, observed),
            reason="GroupLeaves",
            note=note,
        ),
        DeleteObject(kind="StatefulSet", name=group, uid=live["metadata"]["uid"], reason="GroupLeaves", note=note),
    )


def address(pod: Pod) -> str:
    """Where a broker Pod is asked."""
    return f"{pod.ip}:{ports.BROKER_REMOTING.number}"


def _noted(live: Object) -> bool:
    annotations = live["metadata"].get("annotations") or {}
    return DRAIN_QUIET_SINCE in annotations or DRAIN_EMPTY_SINCE in annotations


def _empty_since(live: Object) -> int | None:
    noted = (live["metadata"].get("annotations") or {}).get(DRAIN_EMPTY_SINCE, "")
    return int(noted) if noted.isdigit() else None


def _annotate(live: Object, annotations: dict[str, str | None], note: str) -> Annotate:
    return Annotate(
        stateful_set=live["metadata"]["name"],
        resource_version=live["metadata"]["resourceVersion"],
        annotations=annotations,
        reason="Draining",
        note=note,
    )
