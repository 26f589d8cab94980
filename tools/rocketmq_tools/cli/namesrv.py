"""``rocketmq namesrv``: help and completion of the role; running it never comes here (see `rocketmq_tools.cli.roles`)."""

from __future__ import annotations

import sys

import click

from rocketmq_tools.cli.roles import run_role


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Run one name server with Apache's flags: -c FILE, -p prints every key, -m the important ones."""
    sys.exit(run_role("namesrv", arguments))
