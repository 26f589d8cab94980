"""kopf as an informer of our own kinds: every event only wakes a key.

Its change handlers, daemons and timers are not used: they write annotations and finalizers to users' objects, and see edges where
a reconciler wants levels. Nor is its peering, which is no lease.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any, cast

import kopf

from rocketmq_operator.crd import GROUP
from rocketmq_operator.kube.resources import CLUSTERS, CONSUMER_GROUPS, TOPICS
from rocketmq_operator.process.settings import OperatorSettings
from rocketmq_operator.process.work_queue import Key

SERVER_TIMEOUT_SECONDS = 240
CONNECT_TIMEOUT_SECONDS = 15
EXIT_TIMEOUT_SECONDS = 15


async def watch_own_kinds(
    settings: OperatorSettings,
    wake: Callable[[Key], None],
    seen: Callable[[], None],
    stop: asyncio.Event,
    ready: asyncio.Event,
) -> None:
    """Until ``stop`` is set or a signal arrives. ``seen`` is called with every event."""
    registry = kopf.OperatorRegistry()
    for resource in (CLUSTERS, TOPICS, CONSUMER_GROUPS):
        kopf.on.event(
            resource.group, resource.version, resource.plural, registry=registry, id=f"wake-{resource.plural}"
        )(_handler(resource.kind, wake, seen))
    in_cluster = (
        settings.kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ
    )
    login = kopf.login_with_service_account if in_cluster else kopf.login_with_kubeconfig
    kopf.on.login(registry=registry)(login)
    await kopf.operator(
        registry=registry,
        settings=_kopf_settings(),
        # kopf would ask for the user's name, which a user of a container does not have.
        identity=cast("Any", settings.identity),
        standalone=True,
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        stop_flag=stop,
        ready_flag=ready,
    )


def _handler(kind: str, wake: Callable[[Key], None], seen: Callable[[], None]) -> Callable[..., Any]:
    async def handle(namespace: str | None, name: str | None, **_: Any) -> None:
        seen()
        if name is not None:
            wake(Key(kind, namespace or "", name))

    return handle


def _kopf_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False
    settings.peering.standalone = True
    settings.scanning.disabled = True  # else it wants to watch namespaces and definitions of the whole cluster
    settings.watching.server_timeout = SERVER_TIMEOUT_SECONDS
    settings.watching.connect_timeout = CONNECT_TIMEOUT_SECONDS
    settings.process.ultimate_exiting_timeout = EXIT_TIMEOUT_SECONDS
    settings.persistence.finalizer = f"{GROUP}/kopf"  # never set; the default carries a foreign name
    return settings
