"""``rocketmq down``."""

from __future__ import annotations

from pathlib import Path

import click

from rocketmq_tools.cli.local import choice_options, chosen
from rocketmq_tools.errors import CommandError, ExitCode


@click.command()
@choice_options
@click.option("--purge", is_flag=True, help="Also remove the cluster's data.")
def command(cluster_name: str | None, source: str | None, data: Path | None, purge: bool) -> None:
    """Stop a cluster that `up` started: brokers first, then name servers. Its data is kept unless --purge is given."""
    from rocketmq_tools.embedded import clusters

    try:
        directory = chosen(cluster_name, source, data)
    except CommandError as error:
        # Nothing to stop is what `down` is for, unless a name was given that nobody knows.
        if error.exit_code is not ExitCode.NOT_FOUND or cluster_name is not None:
            raise
        click.echo("nothing is running", err=True)
        return
    ran = clusters.stop(directory, purge=purge)
    click.echo(
        f"{directory.root.name} {'stopped' if ran else 'was not running'}{', data removed' if purge else ''}", err=True
    )
