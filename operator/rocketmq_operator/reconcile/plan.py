"""The next safe steps of a cluster, each with its reason: a pure function of what is wanted, what is, and the time.

Objects first; a Pod is restarted or a group removed only on a pass that finds every object as rendered, so one decision never
builds on the expected effect of another.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from rocketmq_operator import config, labels, names
from rocketmq_operator.kube.api import Object
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.reconcile.convergence import difference, stamped, was_applied
from rocketmq_operator.reconcile.draining import Drain, address, called_back, drain
from rocketmq_operator.reconcile.exposure import exposed_brokers
from rocketmq_operator.reconcile.growth import applicable, growth
from rocketmq_operator.reconcile.namesrv_scaling import namesrv_counts, retirement_notes
from rocketmq_operator.reconcile.observed import Observed
from rocketmq_operator.reconcile.rolling import Roll, roll
from rocketmq_operator.reconcile.steps import AnyStep, ApplyObject, ConfigureBroker, DeleteObject
from rocketmq_operator.render import render
from rocketmq_operator.topology import Topology

IsKnown = Callable[[Object], bool]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``steps`` in order; the rest is what the status tells. ``config_problems``: what brokers refused to take."""

    steps: tuple[AnyStep, ...]
    topology: Topology
    roll: Roll
    drains: tuple[Drain, ...]
    config_problems: tuple[str, ...]
    waiting: str


def plan(cluster: RocketMQCluster, observed: Observed, now_ms: int, is_known: IsKnown = lambda live: False) -> Plan:
    """The next steps. ``is_known`` tells whether a live object still is what the API server made of our last apply."""
    topology = decide_topology(cluster, observed, now_ms)
    manifests = render(cluster, topology)
    objects: list[AnyStep] = [*_applies(manifests, observed, is_known), *_prunes(manifests, observed)]
    pushes, problems = _pushes(cluster, observed, topology)
    rolling = roll(cluster, observed, topology, now_ms)
    drains = tuple(drain(cluster, observed, topology, now_ms))
    steps: list[AnyStep] = [*objects, *pushes]
    if not objects:
        # A StatefulSet that is made anew must not meet a restart of its Pods in the same pass.
        grown = [s for g in topology.groups if g not in topology.leaving
                 for s in growth(cluster, observed, names.broker_group(cluster, g))]  # fmt: skip
        steps += [*retirement_notes(cluster, observed, now_ms), *called_back(cluster, observed, topology), *grown]
        if not any(isinstance(step, DeleteObject) for step in grown):
            steps += [*rolling.steps, *(step for one in drains for step in one.steps)]
    return Plan(
        steps=tuple(steps),
        topology=topology,
        roll=rolling,
        drains=drains,
        config_problems=tuple(problems),
        waiting=_waiting(cluster, topology),
    )


def _waiting(cluster: RocketMQCluster, topology: Topology) -> str:
    wanted = cluster.spec.name_servers.replicas
    if topology.namesrv_replicas > wanted:
        return f"{topology.namesrv_replicas - wanted} name servers leave when brokers and clients forgot them"
    if topology.published_namesrvs < wanted:
        return f"{wanted - topology.published_namesrvs} name servers are published when they are ready"
    return ""


def decide_topology(cluster: RocketMQCluster, observed: Observed, now_ms: int) -> Topology:
    """What exists while changes of number are under way."""
    running, published = namesrv_counts(cluster, observed, now_ms)
    wanted = range(cluster.spec.brokers.groups)
    prefix = f"{cluster.name}-b"
    existing = set()
    for (kind, name), item in observed.objects.items():
        component = (item["metadata"].get("labels") or {}).get(labels.COMPONENT)
        index = name.removeprefix(prefix)
        is_ending = "deletionTimestamp" in item["metadata"] and item["metadata"].get("finalizers") != ["orphan"]
        if kind == "StatefulSet" and component == labels.BROKER and index.isdigit() and not is_ending:
            existing.add(int(index))
    leaving = frozenset(index for index in existing if index not in wanted)
    return Topology(
        namesrv_replicas=running,
        published_namesrvs=published,
        groups=tuple(sorted({*wanted, *leaving})),
        leaving=leaving,
        exposed=exposed_brokers(cluster, observed),
    )


def _applies(manifests: list[Object], observed: Observed, is_known: IsKnown) -> list[ApplyObject]:
    steps = []
    for manifest in manifests:
        live = observed.objects.get((manifest["kind"], manifest["metadata"]["name"]))
        wanted = stamped(applicable(manifest, live))
        what = f"{manifest['kind']} {manifest['metadata']['name']}"
        if live is None:
            steps.append(ApplyObject(manifest=wanted, reason="Created", note=f"{what} is created"))
        elif "deletionTimestamp" in live["metadata"]:
            continue  # what ends is made anew when it is gone
        elif not was_applied(live, wanted):
            steps.append(ApplyObject(manifest=wanted, reason="Updated", note=f"{what} follows the specification"))
        elif (drift := difference(live, wanted)) is not None and not is_known(live):
            steps.append(ApplyObject(manifest=wanted, reason="Restored", note=f"{what} was changed: {drift}"))
    return steps


# StatefulSets go by draining only. A Lease tells who led last and which replicas have everything: it goes with the cluster.
NEVER_PRUNED = frozenset({"StatefulSet", "Lease"})


def _prunes(manifests: list[Object], observed: Observed) -> list[DeleteObject]:
    rendered = {(m["kind"], m["metadata"]["name"]) for m in manifests}
    groups_with_pods = {pod.group for pod in observed.pods.values() if pod.group}
    steps = []
    for (kind, name), item in observed.objects.items():
        metadata = item["metadata"]
        # What a Pod still uses stays as long as the Pod.
        if (kind, name) in rendered or kind in NEVER_PRUNED or "deletionTimestamp" in metadata:
            continue
        group = (metadata.get("labels") or {}).get(labels.BROKER_GROUP, "")
        is_shared = labels.POD_NAME not in (item.get("spec", {}).get("selector") or {})
        if name in observed.pods or (is_shared and group in groups_with_pods):
            continue
        note = f"{kind} {name} is not part of the cluster any more"
        steps.append(DeleteObject(kind=kind, name=name, uid=metadata["uid"], reason="Removed", note=note))
    return steps


def _pushes(
    cluster: RocketMQCluster, observed: Observed, topology: Topology
) -> tuple[list[ConfigureBroker], list[str]]:
    steps, problems = [], []
    for index in topology.groups:
        group = names.broker_group(cluster, index)
        wanted = config.runtime_values(config.broker_conf(cluster, index, topology))
        for pod in observed.pods_of(group):
            facts = observed.brokers.get(pod.name)
            if facts is None or pod.is_deleting:
                continue
            values = {
                key: value
                for key, value in wanted.items()
                if key in facts.config and _normal(facts.config[key]) != _normal(value)
            }
            refusal = observed.refused.get(pod.uid)
            if values and refusal is not None:
                problems.append(f"{pod.name}: {refusal}")
            elif values:
                note = f"{pod.name} is told {', '.join(sorted(values))}"
                steps.append(
                    ConfigureBroker(pod=pod.name, address=address(pod), values=values, reason="Configured", note=note)
                )
    return steps, problems


def _normal(value: str) -> str:
    text = value.strip()
    if text.lower() in ("true", "false"):
        return text.lower()
    return str(int(text)) if text.lstrip("-").isdigit() else text
