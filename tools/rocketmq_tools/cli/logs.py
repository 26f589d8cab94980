"""``rocketmq logs``."""

from __future__ import annotations

import time
from pathlib import Path

import click

from rocketmq_tools.cli.local import choice_options_without_f, chosen
from rocketmq_tools.errors import CommandError, ExitCode

POLL_S = 0.2


@click.command()
@click.argument("node", required=False)
@choice_options_without_f
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on, until Ctrl-C.")
@click.option("--tail", "lines", type=click.IntRange(min=0), default=100, show_default=True, help="Lines of each log.")
def command(
    node: str | None, cluster_name: str | None, source: str | None, data: Path | None, follow: bool, lines: int
) -> None:
    """Show what the processes of a cluster wrote, or only NODE (a name of `ps`, or `supervisor`)."""
    from rocketmq_tools.embedded import log_files

    directory = chosen(cluster_name, source, data)
    files = {path.stem: path for path in sorted(directory.logs.glob("*.log"))}
    if node is not None:
        if node not in files:
            raise CommandError(
                f"no process {node} in {directory.root.name}",
                why=f"there are {', '.join(files) or 'none'}",
                exit_code=ExitCode.NOT_FOUND,
            )
        files = {node: files[node]}
    width = max(map(len, files), default=0)
    readers = [log_files.Reader(path) for path in files.values()]
    labels = [f"{name.ljust(width)} | " if len(files) > 1 else "" for name in files]
    for reader, label in zip(readers, labels, strict=True):
        for line in reader.last(lines):
            click.echo(label + line)
    while follow:
        time.sleep(POLL_S)
        for reader, label in zip(readers, labels, strict=True):
            for line in reader.new():
                click.echo(label + line)
