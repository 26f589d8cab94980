"""``rocketmq delayed``."""

from __future__ import annotations

import click

from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import run


@click.group()
def command() -> None:
    """Take delayed messages back."""


@command.command(
    "recall",
    epilog="""\b
Example:
  rocketmq produce reminders 'wake up' --delay 1h -o json | jq -r '.messages[0].recall_handle' | xargs rocketmq delayed recall""",
)
@click.argument("handles", metavar="HANDLE...", nargs=-1, required=True)
@namesrv_option
@output_option
@click.pass_obj
def recall(settings: Globals, handles: tuple[str, ...]) -> None:
    """Keep messages sent with --delay or --at from being delivered, by the handles that came with their receipts.

    Needs recallMessageEnable at the broker, and that the message is not delivered yet.
    """

    async def work() -> list[str]:
        from rocketmq_client import Producer

        async with Producer(settings.namesrv_addresses()) as producer:
            return [await producer.recall(handle) for handle in handles]

    recalled = run(work())
    show(settings, {"recalled": recalled}, ("RECALLED MESSAGE ID",), [[message_id] for message_id in recalled])
