"""``rocketmq ps``."""

from __future__ import annotations

from pathlib import Path

import click

from rocketmq_tools.cli.local import COLUMNS, choice_options, chosen, process_rows
from rocketmq_tools.cli.options import Globals, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.errors import CommandError, ExitCode


@click.command()
@choice_options
@output_option
@click.pass_obj
def command(settings: Globals, cluster_name: str | None, source: str | None, data: Path | None) -> None:
    """Show the processes of a cluster that `up` started."""
    from rocketmq_tools.embedded import clusters, leases
    from rocketmq_tools.embedded.state import public_view

    directory = chosen(cluster_name, source, data)
    state = clusters.observed(directory)
    if state is None:
        raise CommandError(
            f"no cluster was started in {directory.root}",
            remedy="start one with `rocketmq up`",
            exit_code=ExitCode.NOT_FOUND,
        )
    view = public_view(leases.with_roles(state, directory))
    show(settings, view, COLUMNS, process_rows(view))
    if settings.output == "table":
        click.echo(f"{state.cluster}: {state.phase.value}", err=True)
