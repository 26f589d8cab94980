"""``rocketmq up``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rocketmq_tools.cli.local import COLUMNS, process_rows, read_document
from rocketmq_tools.cli.options import Globals, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.errors import CommandError, ExitCode


@click.command(
    epilog="Data stays in $ROCKETMQ_HOME, else $XDG_STATE_HOME/rocketmq, else ~/.local/state/rocketmq, until `down --purge`."
)
@click.option("-f", "--file", "source", metavar="FILE", help="A RocketMQCluster document; - is standard input.")
@click.option("--cluster", "cluster_name", metavar="NAME", help="Which cluster of a file that holds several.")
@click.option("-d", "--detach", is_flag=True, help="Return once everything is ready; stop it with `down`.")
@click.option("--ephemeral", is_flag=True, help="Keep no data: start empty and remove everything when stopped.")
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Directory of this cluster's data and state."
)
@click.option(
    "--port-base",
    type=click.IntRange(0, 65000),
    metavar="N",
    help="First port instead of 9876 and 10911; 0 picks free ports.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on and to give to clients.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1),
    default=60.0,
    show_default=True,
    help="Seconds to get ready in.",
)
@output_option
@click.pass_obj
def command(
    settings: Globals,
    source: str | None,
    cluster_name: str | None,
    detach: bool,
    ephemeral: bool,
    data: Path | None,
    port_base: int | None,
    host: str,
    timeout_s: float,
) -> None:
    """Run a RocketMQCluster document as processes on this machine.

    Without -f: one name server and one broker. Name servers get ports from 9876, brokers from 10911 in steps of 20.
    """
    from rocketmq_tools.embedded import starting
    from rocketmq_tools.embedded.defaults import DEFAULT_CLUSTER
    from rocketmq_tools.embedded.directories import cluster_directory, is_locked
    from rocketmq_tools.embedded.ports import HeldPorts

    if host in ("", "0.0.0.0") or ":" in host:
        raise CommandError(
            f"--host {host!r} is no address that clients can be given",
            remedy="write an IPv4 address of this machine, or a name that clients resolve to one",
            exit_code=ExitCode.USAGE,
        )
    cluster = DEFAULT_CLUSTER if source is None else read_document(source, cluster_name)
    options = starting.Options(host=host, port_base=port_base, ephemeral=ephemeral, start_timeout_s=timeout_s)
    directory = cluster_directory(cluster.namespace, cluster.name, data)
    name = source or "-"
    try:
        lock = starting.claim(directory, starting.digest_of(cluster, options), name)
    except starting.AlreadyRunning as running:
        if not (running.same and detach):
            raise
        # Asked again for what is there: that is no failure, as with `kubectl apply`.
        click.echo(f"{cluster.name} is already running", err=True)
        _show(settings, starting.wait_started(directory, timeout_s, lambda: not is_locked(directory.lock)))
        return
    with HeldPorts() as held:
        try:
            plan = starting.make_plan(cluster, directory, options, source=name, held=held)
        except BaseException:
            lock.release()
            raise
        if detach:
            _show(settings, starting.start_detached(plan, directory, lock))
        else:
            starting.run_foreground(plan, directory, lock, lambda state: _announce(settings, state))


def _announce(settings: Globals, state: Any) -> None:
    from rocketmq_tools.embedded.state import Phase

    if state.phase is Phase.RUNNING:
        _show(settings, state)
        click.echo("Ctrl-C stops it", err=True)
    elif state.phase is Phase.STOPPING:
        click.echo("stopping", err=True)


def _show(settings: Globals, state: Any) -> None:
    from rocketmq_tools.embedded.directories import ClusterDirectory
    from rocketmq_tools.embedded.leases import with_roles
    from rocketmq_tools.embedded.state import public_view

    view = public_view(with_roles(state, ClusterDirectory(Path(state.directory))))
    show(settings, view, COLUMNS, process_rows(view))
    seconds = (state.ready_after_ms or 0) / 1000
    click.echo(f"{state.cluster} ready in {seconds:.1f} s; name servers: {';'.join(state.name_servers)}", err=True)
