"""``rocketmq kube``: RocketMQClusters in Kubernetes, by the API server that kubectl uses.

As ``kubectl rocketmq`` it is a plugin: a file ``kubectl-rocketmq`` in PATH that runs ``rocketmq kube "$@"``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rocketmq_tools.cli.options import Globals, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note, run
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_operator.kube.api import Object
    from rocketmq_operator.kube.client import KubernetesApi

T = TypeVar("T")
POLL_SECONDS = 0.5
TARGET = "rocketmqkube.dev/target"
# Conditions that say, when they are true, that all is well; the others say what is going on.
GOOD = frozenset({"Ready", "Available", "NameServersReady", "ReplicationHealthy", "StorageReady", "ConfigApplied"})

namespace_option = click.option("-N", "--namespace", default="default", show_default=True, help="Namespace.")
kubeconfig_option = click.option(
    "--kubeconfig", help="File to reach the API server by; else KUBECONFIG, or the usual one."
)
timeout_option = click.option(
    "--timeout", "timeout_seconds", default=60.0, show_default=True, metavar="SECONDS", help="How long to wait."
)


@click.group()
def command() -> None:
    """Show RocketMQClusters in Kubernetes and what their operator is about to do; choose masters, empty groups."""


@command.command("status", epilog="\b\nExample:\n  rocketmq kube status orders -N mq")
@click.argument("cluster", required=False)
@namespace_option
@kubeconfig_option
@output_option
@click.pass_obj
def status(settings: Globals, cluster: str | None, namespace: str, kubeconfig: str | None) -> None:
    """Show each group of a cluster (of all clusters of the namespace), its master, and what is not as it should be."""

    async def work(api: KubernetesApi) -> list[Object]:
        from rocketmq_operator.kube.resources import CLUSTERS

        if cluster is None:
            return await api.list(CLUSTERS, namespace)
        return [await found(api, namespace, cluster)]

    documents = with_api(kubeconfig, work)
    data, rows = [], []
    for document in documents:
        told, name = document.get("status", {}), document["metadata"]["name"]
        data.append({"cluster": name, **told})
        for group in told.get("groupStatuses", ()):
            drain = group.get("drain") or {}
            left = f"{drain['step']}: {drain['unconsumed']} left" if drain else ""
            ready = f"{group.get('readyReplicas', 0)}/{group.get('replicas', 0)}"
            values = (group["name"], group["phase"], group.get("master"), ready, group.get("inSyncReplicas"), left)
            rows.append([name, told.get("phase"), *values])
        for one in told.get("conditions", ()):
            if (one["status"] == "True") != (one["type"] in GOOD):
                note(f"{name}: {one['type']} is {one['status']}: {one['message']}")
        for one in told.get("listeners", ()):
            note(f"{name}: listener {one['name']}: {one.get('addresses') or 'has no address yet'}")
    show(settings, data, ("CLUSTER", "PHASE", "GROUP", "STATE", "MASTER", "READY", "IN-SYNC", "DRAIN"), rows)


@command.command("plan", epilog="\b\nExample:\n  rocketmq kube plan orders -N mq")
@click.argument("cluster")
@namespace_option
@kubeconfig_option
@output_option
@click.pass_obj
def plan(settings: Globals, cluster: str, namespace: str, kubeconfig: str | None) -> None:
    """Show the next steps that the operator would take, and change nothing.

    Brokers are asked at their Pods' addresses: where those are not reached, what depends on them waits.
    """

    async def work(api: KubernetesApi) -> tuple[list[dict[str, Any]], list[str]]:
        from rocketmq_common.clock import SystemClock
        from rocketmq_operator.admin.remoting import RemotingBrokers
        from rocketmq_operator.documents import validate_object
        from rocketmq_operator.reconcile.observation import Observation
        from rocketmq_operator.reconcile.plan import plan as next_steps
        from rocketmq_remoting.client import RemotingClient

        document = await found(api, namespace, cluster)
        wanted = validate_object({key: value for key, value in document.items() if key != "status"}).cluster
        now_ms = SystemClock().now_ms()
        client = RemotingClient()
        try:
            observed = await Observation(api, RemotingBrokers(client)).observe(wanted, document, {}, now_ms)
        finally:
            await client.close()
        decided = next_steps(wanted, observed, now_ms)
        steps = [{"step": type(one).__name__, "reason": one.reason, "note": one.note} for one in decided.steps]
        waits = [decided.waiting, decided.roll.waiting, decided.roll.blocked]
        waits += [text for drain in decided.drains for text in (drain.waiting, drain.blocked)]
        return steps, [text for text in waits if text]

    steps, waits = with_api(kubeconfig, work)
    for text in waits:
        note(f"waits: {text}")
    show(settings, steps, ("STEP", "REASON", "WHAT"), [list(one.values()) for one in steps])


@command.command("switchover", epilog="\b\nExample:\n  rocketmq kube switchover orders-b0 --to orders-b0-1 -N mq")
@click.argument("group")
@click.option("--to", "replica", required=True, help="Pod that is to lead; a member of the in-sync set.")
@namespace_option
@kubeconfig_option
@timeout_option
def switchover(group: str, replica: str, namespace: str, kubeconfig: str | None, timeout_seconds: float) -> None:
    """Give a group another master, and wait until it leads."""

    async def work(api: KubernetesApi) -> None:
        from rocketmq_operator.kube.resources import LEASES

        async def holder() -> str:
            lease = await api.get(LEASES, namespace, group)
            if lease is None:
                raise CommandError(
                    f"{group} has no Lease in {namespace}", why="only groups of several replicas elect",
                    remedy="name a group as `rocketmq kube status` does", exit_code=ExitCode.NOT_FOUND,
                )  # fmt: skip
            return str(lease.get("spec", {}).get("holderIdentity") or "").partition("/")[0]

        async def leads() -> bool:
            return await holder() == replica

        if await leads():
            note(f"{replica} leads already")
            return
        await api.merge(LEASES, namespace, group, {"metadata": {"annotations": {TARGET: replica}}})
        await until(leads, timeout_seconds, f"{replica} does not lead", "is it a member of the in-sync set, and ready?")
        note(f"{replica} leads {group}")

    with_api(kubeconfig, work)


@command.command("drain", epilog="\b\nExample:\n  rocketmq kube drain orders -N mq --timeout 600")
@click.argument("cluster")
@namespace_option
@kubeconfig_option
@timeout_option
def drain(cluster: str, namespace: str, kubeconfig: str | None, timeout_seconds: float) -> None:
    """Take the last group out of a cluster once it is empty; until it is, tell what is left.

    A drain that was stopped goes on without this command; to call the group back, raise spec.brokers.groups again.
    """

    async def work(api: KubernetesApi) -> None:
        from rocketmq_operator.kube.resources import CLUSTERS

        document = await found(api, namespace, cluster)
        groups = int(document["spec"]["brokers"].get("groups", 1))
        if groups < 2:
            raise CommandError(f"{cluster} has one group", why="the last one cannot leave", remedy="delete the cluster")
        leaving, said = f"{cluster}-b{groups - 1}", ""
        await api.merge(CLUSTERS, namespace, cluster, {"spec": {"brokers": {"groups": groups - 1}}})

        async def is_gone() -> bool:
            nonlocal said
            told = (await found(api, namespace, cluster)).get("status", {})
            one = next((group for group in told.get("groupStatuses", ()) if group["name"] == leaving), None)
            step = (one or {}).get("drain") or {}
            text = f"{leaving}: {step['step']}, {step['unconsumed']} messages left" if step else ""
            if text and text != said:
                note(said := text)
            return one is None

        await until(
            is_gone, timeout_seconds, f"{leaving} is not empty yet", "consume what is left, then ask for its status"
        )
        note(f"{leaving} is gone")

    with_api(kubeconfig, work)


def with_api(kubeconfig: str | None, work: Callable[[KubernetesApi], Awaitable[T]]) -> T:
    """Run ``work`` with a connection to the API server; its refusals become messages."""
    try:
        from kubernetes.config import ConfigException

        from rocketmq_operator.kube.api import ApiError
        from rocketmq_operator.kube.client import connect
    except ModuleNotFoundError as error:
        if error.name not in ("kopf", "kubernetes"):
            raise
        raise CommandError(
            f"Kubernetes is reached by the package {error.name}", why="this installation is without the extra [operator]",
            remedy="pip install 'rocketmq-kube[operator]'",
        ) from error  # fmt: skip

    async def connected() -> T:
        try:
            api = await connect(kubeconfig)
        except ConfigException as error:
            raise CommandError(
                str(error), remedy="give --kubeconfig, or set KUBECONFIG", exit_code=ExitCode.UNREACHABLE
            ) from error
        try:
            return await work(api)
        except ApiError as error:
            raise CommandError(
                str(error), why="the API server refused it, or does not answer", exit_code=ExitCode.UNREACHABLE
            ) from error
        finally:
            await api.close()

    return run(connected())


async def found(api: KubernetesApi, namespace: str, cluster: str) -> Object:
    """A RocketMQCluster; raises CommandError when there is none."""
    from rocketmq_operator.kube.resources import CLUSTERS

    document = await api.get(CLUSTERS, namespace, cluster)
    if document is None:
        raise CommandError(f"there is no RocketMQCluster {cluster} in {namespace}", exit_code=ExitCode.NOT_FOUND)
    return document


async def until(check: Callable[[], Awaitable[bool]], timeout_seconds: float, problem: str, remedy: str) -> None:
    """Wait for a condition; raises CommandError after the time."""
    try:
        async with asyncio.timeout(timeout_seconds):
            while not await check():
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise CommandError(
            f"{problem} after {timeout_seconds:g} s", remedy=remedy, exit_code=ExitCode.TIMEOUT
        ) from None
