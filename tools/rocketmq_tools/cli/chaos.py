"""``rocketmq chaos``: faults on purpose, in a cluster on this machine."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from rocketmq_tools.cli.local import choice_options
from rocketmq_tools.cli.options import Globals, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note
from rocketmq_tools.errors import CommandError, ExitCode

POLL_S = 0.05
WAIT_S = 60.0


@click.group()
def command() -> None:
    """Do harm to a cluster on this machine, to see that it survives."""


@command.command("kill-master", epilog="\b\nExample:\n  rocketmq chaos kill-master")
@click.argument("group", required=False)
@choice_options
@output_option
@click.pass_obj
def kill_master(
    settings: Globals, group: str | None, cluster_name: str | None, source: str | None, data: Path | None
) -> None:
    """Kill the master of broker GROUP without a warning (SIGKILL), and tell how long the group has none."""
    import signal

    from rocketmq_tools.embedded import identities, leases

    directory, group, state = group_of(group, cluster_name, source, data)
    master = leases.master_of(state, group)
    if master is None or master.identity is None:
        raise CommandError(f"{group} has no master that runs", remedy="see `rocketmq ps`")
    before = leases.read_lease(directory, group)
    started = time.monotonic()
    identities.send(master.identity, signal.SIGKILL)
    note(f"killed {master.name} (pid {master.identity.pid})")
    told: dict[str, Any] = {"group": group, "killed": master.name}
    if before is None:
        show(settings, told, ("GROUP", "KILLED"), [list(told.values())])
        return
    record = await_epoch(directory, group, before.epoch)
    told |= {"master": record.holder_name, "epoch": record.epoch, "seconds": round(time.monotonic() - started, 1)}
    show(settings, told, ("GROUP", "KILLED", "MASTER", "EPOCH", "SECONDS"), [list(told.values())])


def group_of(
    group: str | None, cluster_name: str | None, source: str | None, data: Path | None
) -> tuple[Any, str, Any]:
    """(directory, group, state with roles) of the running cluster that is meant; the only group need not be named."""
    from rocketmq_tools.cli.local import chosen
    from rocketmq_tools.embedded import clusters, leases

    directory = chosen(cluster_name, source, data)
    state = clusters.observed(directory)
    if state is None or state.phase.value != "Running":
        raise CommandError(f"no cluster runs in {directory.root}", remedy="start one with `rocketmq up`")
    state = leases.with_roles(state, directory)
    groups = sorted({p.broker_name for p in state.processes if p.broker_name})
    if group is None and len(groups) == 1:
        group = groups[0]
    if group is None:
        raise CommandError(
            f"{state.cluster} has several broker groups: {', '.join(groups)}",
            remedy="name one",
            exit_code=ExitCode.USAGE,
        )
    if group not in groups:
        raise CommandError(
            f"{state.cluster} has no broker group {group}, only {', '.join(groups)}", exit_code=ExitCode.NOT_FOUND
        )
    return directory, group, state


def await_epoch(directory: Any, group: str, epoch: int, target: str = "") -> Any:
    """The lease once a master of a newer epoch holds it. Raises CommandError after `WAIT_S`, or when the master of ``epoch`` took
    the request for ``target`` back.
    """
    from rocketmq_tools.embedded import leases

    deadline = time.monotonic() + WAIT_S
    while True:
        record = leases.read_lease(directory, group)
        if record is not None and record.epoch > epoch and record.holder:
            return record
        if target and record is not None and record.holder and record.target != target:
            raise CommandError(
                f"{record.holder_name} stays master of {group}: {target} did not catch up in time",
                remedy="look at its lag with `rocketmq broker replication`, then try again",
            )
        if time.monotonic() > deadline:
            raise CommandError(
                f"{group} has no new master after {WAIT_S:g} s",
                remedy="see `rocketmq logs`; `rocketmq broker replication` shows which replicas are in sync",
                exit_code=ExitCode.TIMEOUT,
            )
        time.sleep(POLL_S)
