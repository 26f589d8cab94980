"""Storage growth: claims first, slaves' before masters', then the template that new replicas get theirs from.

A StatefulSet's claim templates cannot be changed. When every claim asks for the new size, the StatefulSet is deleted without its
Pods and made anew; it adopts them. Growing waits for nothing else: a full disk is what it must cure.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from rocketmq_operator.kube.api import Object
from rocketmq_operator.model import RocketMQCluster
from rocketmq_operator.quantities import parse_quantity
from rocketmq_operator.reconcile.observed import Observed
from rocketmq_operator.reconcile.steps import DeleteObject, GrowClaim


def applicable(manifest: Object, live: Object | None) -> Object:
    """The StatefulSet as it can be applied over ``live``: with the claim templates that it has."""
    if live is None or manifest["kind"] != "StatefulSet" or "volumeClaimTemplates" not in manifest["spec"]:
        return manifest
    size = template_size(live)
    if size is None or parse_quantity(size) == parse_quantity(template_size(manifest) or "0"):
        return manifest
    result = copy.deepcopy(manifest)
    result["spec"]["volumeClaimTemplates"][0]["spec"]["resources"]["requests"]["storage"] = size
    return result


def template_size(stateful_set: Object) -> str | None:
    """What a new replica's claim would ask for; None without claims."""
    templates = stateful_set["spec"].get("volumeClaimTemplates") or ()
    return str(templates[0]["spec"]["resources"]["requests"]["storage"]) if templates else None


def growth(cluster: RocketMQCluster, observed: Observed, group: str) -> Iterator[GrowClaim | DeleteObject]:
    """The next steps for one group."""
    live = observed.stateful_set(group)
    size = cluster.spec.brokers.storage.size
    if live is None or template_size(live) is None:
        return
    wanted = parse_quantity(size)
    small = [c for c in reversed(observed.claims_of(group)) if parse_quantity(c.requested) < wanted]
    for claim in small:
        yield GrowClaim(
            name=claim.name,
            resource_version=claim.resource_version,
            size=size,
            reason="StorageGrows",
            note=f"claim {claim.name} grows from {claim.requested} to {size}",
        )
    if not small and parse_quantity(template_size(live) or "0") < wanted:
        yield DeleteObject(
            kind="StatefulSet",
            name=group,
            uid=live["metadata"]["uid"],
            orphan=True,
            reason="ClaimTemplateGrows",
            note=f"StatefulSet {group} is made anew with claims of {size}; its Pods stay",
        )
