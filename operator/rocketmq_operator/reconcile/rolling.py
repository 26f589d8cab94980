"""Rolling updates: which Pod is restarted next, or why none is.

Decided anew at each step from what is, never planned ahead: if the master moved, the new master is last. One Pod of the whole
cluster at a time, slaves before the master, the first group as canary for the others; a new Pod that cannot become ready freezes
everything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from rocketmq_operator import names, ports
from rocketmq_operator.kube.api import Object
from rocketmq_operator.model import Replication, RocketMQCluster
from rocketmq_operator.reconcile.annotations import ALLOW_WRITE_PAUSE, WRITES_CLOSED_AT
from rocketmq_operator.reconcile.observed import Observed, Pod, settled
from rocketmq_operator.reconcile.steps import Annotate, CloseWrites, OpenWrites, RestartPod
from rocketmq_operator.topology import Topology

# Producers ask for their routes each 30 s; after that nobody who listens sends to a closed group.
PRODUCERS_LEAVE_SECONDS = 35
# A group that shows no writes for so long needs not wait longer.
QUIET_SECONDS = 10

RollStep = Annotate | CloseWrites | OpenWrites | RestartPod


class Roll(msgspec.Struct, frozen=True, kw_only=True):
    """``pending``: Pod → why it must restart. ``blocked`` needs a person, ``waiting`` only time."""

    steps: tuple[RollStep, ...] = ()
    pending: Mapping[str, str] = {}
    target: str = ""
    waiting: str = ""
    blocked: str = ""


def roll(cluster: RocketMQCluster, observed: Observed, topology: Topology, now_ms: int) -> Roll:
    """The next step of a rolling update, if one is needed."""
    groups = [names.broker_group(cluster, g) for g in topology.groups if g not in topology.leaving]
    pending = {pod: why for group in groups for pod, why in restart_reasons(observed, group).items()}
    reopening = tuple(step for group in groups for step in _reopen(cluster, observed, group, pending))
    stuck = _stuck(cluster, observed, groups, pending)
    # Already broken, and of an old revision: a restart can only make it better. Name servers too, whose controller waits for the
    # broken Pod to become ready before it replaces it.
    servers = restart_reasons(observed, names.namesrv(cluster))
    doomed = [pod for name in (*servers, *pending) if (pod := observed.pods[name]).problem and not pod.is_deleting]
    if doomed:
        return Roll(
            steps=(*reopening, _restart(doomed[0], "PodStuck", f"{doomed[0].name} is stuck: {doomed[0].problem}")),
            pending=pending,
            target=doomed[0].name,
        )
    if not pending:
        return Roll(steps=reopening, blocked=stuck)
    if stuck:
        return Roll(steps=reopening, pending=pending, blocked=stuck)
    waiting = _name_servers_busy(cluster, observed) or _others_busy(observed, groups)
    if waiting:
        return Roll(steps=reopening, pending=pending, waiting=waiting)
    group = next(g for g in groups if any(observed.pods[name].group == g for name in pending))
    return _roll_group(cluster, observed, groups, group, pending, now_ms, reopening)


def restart_reasons(observed: Observed, group: str) -> dict[str, str]:
    """Pod → why it must be restarted, of one group."""
    live = observed.stateful_set(group)
    if live is None or not settled(live):
        return {}
    revision = live.get("status", {}).get("updateRevision", "")
    growing = {claim.index for claim in observed.claims_of(group) if claim.needs_restart}
    reasons = {}
    for pod in observed.pods_of(group):
        if revision and pod.revision != revision:
            reasons[pod.name] = "SpecChanged"
        elif pod.index in growing:
            reasons[pod.name] = "FileSystemResize"
    return reasons


def master_of(observed: Observed, group: str) -> Pod | None:
    """The Pod that says it is the master; before any says so, the first."""
    pods = observed.pods_of(group)
    known = [pod for pod in pods if (facts := observed.brokers.get(pod.name)) is not None and facts.is_master]
    return next(iter(known or pods), None)


def is_whole(observed: Observed, group: str) -> bool:
    """Whether every replica of a group is there and ready."""
    live = observed.stateful_set(group)
    pods = observed.pods_of(group)
    return (
        live is not None
        and len(pods) == live["spec"].get("replicas", 1)
        and all(pod.is_ready and not pod.is_deleting for pod in pods)
    )


def name_server_addresses(cluster: RocketMQCluster, observed: Observed) -> tuple[str, ...]:
    """``ip:port`` of each name-server Pod that has an address."""
    pods = observed.pods_of(names.namesrv(cluster))
    return tuple(f"{pod.ip}:{ports.NAMESRV_REMOTING.number}" for pod in pods if pod.ip and not pod.is_deleting)


def _roll_group(
    cluster: RocketMQCluster,
    observed: Observed,
    groups: list[str],
    group: str,
    pending: Mapping[str, str],
    now_ms: int,
    reopening: tuple[RollStep, ...],
) -> Roll:
    master = master_of(observed, group)
    if master is None:
        return Roll(pending=pending, waiting=f"{group} has no Pod", steps=reopening)
    slaves = [pod for pod in observed.pods_of(group) if pod.name in pending and pod.name != master.name]
    target = slaves[-1] if slaves else master
    problem = _gate(cluster, observed, group, master, target)
    if problem:
        blocked, text = problem
        if blocked:
            return Roll(pending=pending, blocked=text, target=target.name, steps=reopening)
        return Roll(pending=pending, waiting=text, target=target.name, steps=reopening)
    restart = _restart(target, pending[target.name], f"slave {target.name} restarts")
    if slaves:
        return Roll(steps=(*reopening, restart), pending=pending, target=target.name)
    others = [g for g in groups if g != group and is_whole(observed, g)]
    live = observed.stateful_set(group)
    if live is None:
        return Roll(pending=pending, waiting=f"StatefulSet {group} is not there", steps=reopening)
    if others:
        waiting = _close_first(cluster, observed, group, master, live, now_ms)
        if waiting is not None:
            return Roll(steps=(*reopening, *waiting[0]), waiting=waiting[1], pending=pending, target=target.name)
    restart = _restart(target, pending[target.name], f"master {target.name} restarts, the last of its group")
    return Roll(steps=(*reopening, restart), pending=pending, target=target.name)


def _gate(
    cluster: RocketMQCluster, observed: Observed, group: str, master: Pod, target: Pod
) -> tuple[bool, str] | None:
    """(needs a person, why) when the target must not be restarted now."""
    brokers = cluster.spec.brokers
    replicas = len(observed.pods_of(group))
    if replicas == 1:
        return None
    facts = observed.brokers.get(master.name)
    if facts is None:
        return False, f"master {master.name} does not answer: whether its slaves are in sync is not known"
    if facts.in_sync_slaves < replicas - 1:
        behind = f"{facts.in_sync_slaves} of {replicas - 1} slaves of {group} are in sync"
        return False, f"{behind}; {target.name} restarts when all are"
    pauses = brokers.replication is Replication.SYNC and replicas - 1 < brokers.min_in_sync_replicas
    if pauses and target.name != master.name and observed.annotations.get(ALLOW_WRITE_PAUSE) != "true":
        return True, (
            f"restarting {target.name} leaves {group} below minInSyncReplicas={brokers.min_in_sync_replicas}, which stops its "
            f"writes: lower it, add a replica, or annotate the cluster with {ALLOW_WRITE_PAUSE}=true"
        )
    return None


def _close_first(
    cluster: RocketMQCluster, observed: Observed, group: str, master: Pod, live: Object, now_ms: int
) -> tuple[tuple[RollStep, ...], str] | None:
    """Steps and what is waited for before a master restarts while others can take its producers; None when it may."""
    closed_at = _closed_at(live)
    servers = name_server_addresses(cluster, observed)
    if closed_at is None:
        note = Annotate(
            stateful_set=group,
            resource_version=live["metadata"]["resourceVersion"],
            annotations={WRITES_CLOSED_AT: str(now_ms)},
            reason="WritesClose",
            note=f"producers leave {group} before its master restarts",
        )
        close = CloseWrites(group=group, name_servers=servers, reason="WritesClose", note=note.note)
        return (note, close), f"producers leave {group}"
    waited = (now_ms - closed_at) / 1000
    facts = observed.brokers.get(master.name)
    quiet = facts is not None and facts.puts_per_second == 0 and waited >= QUIET_SECONDS
    if quiet or waited >= PRODUCERS_LEAVE_SECONDS:
        return None
    # Said again: the first time may have met a name server that did not answer.
    again = CloseWrites(group=group, name_servers=servers, reason="WritesClose", note=f"producers leave {group}")
    return (again,), f"producers leave {group}"


def _reopen(
    cluster: RocketMQCluster, observed: Observed, group: str, pending: Mapping[str, str]
) -> Iterator[OpenWrites | Annotate]:
    """Once nothing of a closed group must restart and it is whole, producers may come back."""
    live = observed.stateful_set(group)
    if live is None or _closed_at(live) is None or not is_whole(observed, group):
        return
    if any(observed.pods[name].group == group for name in pending):
        return
    servers = name_server_addresses(cluster, observed)
    note = f"producers come back to {group}"
    yield OpenWrites(group=group, name_servers=servers, reason="WritesOpen", note=note)
    yield Annotate(
        stateful_set=group,
        resource_version=live["metadata"]["resourceVersion"],
        annotations={WRITES_CLOSED_AT: None},
        reason="WritesOpen",
        note=note,
    )


def _stuck(cluster: RocketMQCluster, observed: Observed, groups: list[str], pending: Mapping[str, str]) -> str:
    for owner in (names.namesrv(cluster), *groups):
        for pod in observed.pods_of(owner):
            if pod.problem and pod.name not in pending and not pod.is_deleting:
                return f"{pod.name} cannot start: {pod.problem}"
    return ""


def _name_servers_busy(cluster: RocketMQCluster, observed: Observed) -> str:
    name = names.namesrv(cluster)
    live = observed.stateful_set(name)
    if live is None or not settled(live) or not is_whole(observed, name):
        return "name servers are not all ready"
    revision = live.get("status", {}).get("updateRevision", "")
    old = [pod.name for pod in observed.pods_of(name) if revision and pod.revision != revision]
    return f"name server {old[0]} is updated first" if old else ""


def _others_busy(observed: Observed, groups: list[str]) -> str:
    for group in groups:
        live = observed.stateful_set(group)
        if live is None or not settled(live):
            return f"StatefulSet {group} is not settled"
        pods = observed.pods_of(group)
        if len(pods) != live["spec"].get("replicas", 1):
            return f"{group} has {len(pods)} of {live['spec'].get('replicas', 1)} Pods"
        for pod in pods:
            if pod.is_deleting or not pod.is_ready:
                return f"{pod.name} is {'ending' if pod.is_deleting else 'not ready'}"
    return ""


def _closed_at(live: Object) -> int | None:
    noted = (live["metadata"].get("annotations") or {}).get(WRITES_CLOSED_AT, "")
    return int(noted) if noted.isdigit() else None


def _restart(pod: Pod, reason: str, note: str) -> RestartPod:
    return RestartPod(name=pod.name, uid=pod.uid, reason=reason, note=note)
