"""``rocketmq operator``: run the operator, as its image does."""

from __future__ import annotations

import sys

import click

from rocketmq_tools.errors import CommandError


@click.command(context_settings={"ignore_unknown_options": True, "help_option_names": []}, add_help_option=False)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def command(arguments: tuple[str, ...]) -> None:
    """Reconcile RocketMQ clusters in Kubernetes until SIGTERM; --help shows its flags."""
    try:
        from rocketmq_operator.__main__ import main
    except ModuleNotFoundError as error:
        if error.name not in ("kopf", "kubernetes"):
            raise
        raise CommandError(
            f"the operator needs the package {error.name}",
            why="this installation is without the extra [operator]",
            remedy="pip install 'rocketmq-kube[operator]'",
        ) from error
    sys.exit(main(list(arguments)))
