"""``rocketmq version``."""

from __future__ import annotations

import platform
from importlib.metadata import version

import click

from rocketmq_common.versions import CURRENT, version_name
from rocketmq_tools.cli.options import Globals, output_option
from rocketmq_tools.cli.output import show


@click.command()
@output_option
@click.pass_obj
def command(settings: Globals) -> None:
    """Print the version, and the release of Apache RocketMQ whose protocol it speaks."""
    data = {
        "version": version("rocketmq-kube"),
        "protocol": version_name(CURRENT),
        "python": platform.python_version(),
    }
    show(settings, data, list(data), [list(data.values())])
