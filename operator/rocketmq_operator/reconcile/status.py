"""The status of a cluster: what it is doing, whether clients are served, and what keeps it from getting where it should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rocketmq_operator import config, labels, names
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.reconcile.conditions import condition, timed
from rocketmq_operator.reconcile.exposure import listener_statuses
from rocketmq_operator.reconcile.observed import Observed
from rocketmq_operator.reconcile.plan import Plan
from rocketmq_operator.reconcile.rolling import is_whole, master_of

Status = dict[str, Any]


def cluster_status(
    cluster: RocketMQCluster,
    observed: Observed,
    the_plan: Plan,
    *,
    generation: int,
    refusals: Sequence[str] = (),
    delays: Sequence[str] = (),
    now_ms: int,
) -> Status:
    """The whole status subresource of a cluster that could be read and planned."""
    groups = [_group_status(cluster, observed, the_plan, index) for index in the_plan.topology.groups]
    serving = [group for group in groups if group["phase"] in ("Serving", "Degraded")]
    servers = observed.pods_of(names.namesrv(cluster))
    servers_ready = sum(pod.is_ready and not pod.is_deleting for pod in servers)
    conditions = _conditions(
        cluster, observed, the_plan, groups, servers_ready, generation, list(refusals), list(delays)
    )
    status: Status = {
        "observedGeneration": generation,
        "phase": _phase(cluster, observed, the_plan, conditions),
        "version": _version(cluster, observed, the_plan),
        "groups": len(the_plan.topology.groups),
        "readyGroups": len(serving),
        "selector": f"{labels.CLUSTER}={cluster.name},{labels.COMPONENT}={labels.BROKER}",
        "nameServers": {
            "ready": servers_ready,
            "published": the_plan.topology.published_namesrvs,
            "addresses": ";".join(config.namesrv_addresses(cluster)),
        },
        **({"listeners": listener_statuses(cluster, observed)} if cluster.spec.listeners else {}),
        "groupStatuses": groups,
        "pendingRestart": [{"pod": pod, "reason": why} for pod, why in sorted(the_plan.roll.pending.items())],
        "conditions": timed(conditions, observed.status.get("conditions") or (), now_ms),
    }
    operation = _operation(the_plan)
    return {**status, "operation": operation} if operation else status


def refused_status(before: Mapping[str, Any], *, generation: int, reason: str, message: str, now_ms: int) -> Status:
    """The status of a cluster whose specification cannot be used; what was observed stays."""
    kept = {key: value for key, value in before.items() if key != "operation"}
    others = [
        {key: value for key, value in c.items() if key != "lastTransitionTime"}
        for c in before.get("conditions") or ()
        if c["type"] != "Stalled"
    ]
    conditions = [*others, condition("Stalled", True, reason, message, generation)]
    return {
        **kept,
        "observedGeneration": generation,
        "phase": "Failed",
        "conditions": timed(conditions, before.get("conditions") or (), now_ms),
    }


def _group_status(cluster: RocketMQCluster, observed: Observed, the_plan: Plan, index: int) -> dict[str, Any]:
    group = names.broker_group(cluster, index)
    pods = observed.pods_of(group)
    master = master_of(observed, group)
    ready = [pod for pod in pods if pod.is_ready and not pod.is_deleting]
    facts = observed.brokers.get(master.name) if master else None
    drained = next((one for one in the_plan.drains if one.group == group), None)
    if drained is not None:
        phase = "Draining"
    elif master is None or master not in ready:
        phase = "Unavailable"
    elif is_whole(observed, group) and len(pods) == cluster.spec.brokers.replicas_per_group:
        phase = "Serving"
    else:
        phase = "Degraded"
    status: dict[str, Any] = {
        "name": group,
        "phase": phase,
        "replicas": len(pods),
        "readyReplicas": len(ready),
        **({"master": master.name} if master else {}),
        **({"inSyncReplicas": facts.in_sync_slaves + 1} if facts else {}),
    }
    if drained is not None:
        status["drain"] = {
            "step": drained.step,
            "unconsumed": str(drained.unconsumed),
            "delayed": str(drained.delayed),
            "half": str(drained.half),
        }
    return status


def _conditions(
    cluster: RocketMQCluster,
    observed: Observed,
    the_plan: Plan,
    groups: Sequence[Mapping[str, Any]],
    servers_ready: int,
    generation: int,
    refusals: list[str],
    delays: list[str],
) -> list[dict[str, Any]]:
    spec, roll = cluster.spec, the_plan.roll
    staying = [group for group in groups if group["phase"] != "Draining"]
    down = [group["name"] for group in staying if group["phase"] == "Unavailable"]
    degraded = [group["name"] for group in staying if group["phase"] == "Degraded"]
    behind = [
        f"{group['name']}: {group.get('inSyncReplicas', 0)} of {spec.brokers.replicas_per_group}"
        for group in staying
        if group.get("inSyncReplicas", 0) < spec.brokers.replicas_per_group
    ]
    servers_wanted = spec.name_servers.replicas
    blocked_drains = [one.blocked for one in the_plan.drains if one.blocked]
    doing = _doing(the_plan, delays)
    is_serving = not down and servers_ready > 0
    growing = [
        c.name for c in observed.claims.values() if (c.capacity and c.capacity != c.requested) or c.needs_restart
    ]

    def say(kind: str, is_true: bool | None, yes: tuple[str, str], no: tuple[str, str]) -> dict[str, Any]:
        reason, message = yes if is_true else no
        return condition(kind, is_true, reason, message, generation)

    no_server = "no name server is ready"
    return [
        say("Ready", is_serving, ("AllGroupsServe", "clients can send and receive in every group"),
            ("NotServing", f"masters not ready: {', '.join(down)}" if down else no_server)),
        say("Available", len(down) < len(staying) and servers_ready > 0,
            ("SomeGroupServes", "clients can send and receive in at least one group"),
            ("NothingServes", no_server if servers_ready == 0 else "no group has a master that is ready")),
        say("NameServersReady", servers_ready >= servers_wanted,
            ("AllReady", f"{servers_wanted} name servers are ready"),
            ("NotAllReady", f"{servers_ready} of {servers_wanted} name servers are ready")),
        say("ReplicationHealthy", not behind, ("AllInSync", "every replica is in sync"),
            ("BehindOrUnknown", f"in-sync replicas: {', '.join(behind)}")),
        say("Progressing", bool(doing), ("Changing", doing), ("Settled", "nothing is under way")),
        say("Degraded", bool(degraded or down or roll.blocked),
            ("ReplicaMissing", roll.blocked or f"not whole: {', '.join([*down, *degraded])}"),
            ("Whole", "every replica is ready")),
        say("ConfigApplied", not the_plan.config_problems, ("AllTold", "brokers run with the configuration"),
            ("Refused", "; ".join(the_plan.config_problems))),
        say("StorageReady", not growing, ("AsWanted", "claims have their size"),
            ("Growing", f"claims grow: {', '.join(sorted(growing))}")),
        say("UpgradeBlocked", bool(roll.blocked), ("PodCannotBeReplaced", roll.blocked), ("NotBlocked", "nothing blocks a roll")),
        say("ScaleDownBlocked", bool(blocked_drains), ("NotEmpty", "; ".join(blocked_drains)),
            ("NotBlocked", "no group waits to be emptied")),
        say("Paused", spec.paused, ("SpecPaused", "spec.paused is true: the operator changes nothing"),
            ("NotPaused", "the operator acts")),
        say("Stalled", bool(refusals), ("Refused", "; ".join(refusals)), ("NotStalled", "nothing was refused")),
    ]  # fmt: skip


def _doing(the_plan: Plan, delays: list[str]) -> str:
    parts = [the_plan.waiting, the_plan.roll.waiting, *(one.waiting for one in the_plan.drains)]
    parts += [step.note for step in the_plan.steps[:3]]
    return "; ".join(part for part in [*parts, *delays] if part)


def _phase(
    cluster: RocketMQCluster, observed: Observed, the_plan: Plan, conditions: Sequence[Mapping[str, Any]]
) -> str:
    state = {c["type"]: c["status"] == "True" for c in conditions}
    if cluster.spec.paused:
        return "Paused"
    if state["Stalled"]:
        return "Failed"
    if not state["Ready"] and observed.status.get("phase") in (None, "Creating"):
        return "Creating"
    if the_plan.drains:
        return "Draining"
    if the_plan.roll.pending:
        return "Updating"
    if state["Degraded"] or not state["Ready"]:
        return "Degraded"
    if the_plan.topology.namesrv_replicas != cluster.spec.name_servers.replicas or not state["NameServersReady"]:
        return "Scaling"
    return "Running"


def _version(cluster: RocketMQCluster, observed: Observed, the_plan: Plan) -> str:
    """The spec's once nothing runs an older template; until then what was said before."""
    before = observed.status.get("version")
    return cluster.spec.version if not the_plan.roll.pending or not before else str(before)


def _operation(the_plan: Plan) -> dict[str, Any] | None:
    if the_plan.drains:
        first = the_plan.drains[0]
        return {"type": "ScaleDown", "target": first.group, "step": first.step}
    if the_plan.roll.pending:
        step = "Blocked" if the_plan.roll.blocked else "Waiting" if the_plan.roll.waiting else "Restarting"
        return {"type": "RollingUpdate", "target": the_plan.roll.target, "step": step}
    return None
