"""``rocketmq dlq``: dead letters, the messages that a group failed on for good."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.message_views import as_data, body_text, shortened
from rocketmq_tools.cli.names import complete_group
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import confirm, note, with_admin, yes_option
from rocketmq_tools.cli.values import iso

if TYPE_CHECKING:
    from rocketmq_client import Admin, MessageView

SHOWN = 50
COLUMNS = ("DIED", "TOPIC", "TRIES", "KEYS", "MESSAGE ID", "BODY")
CSV_FIELDS = ("died", "topic", "broker", "queue_id", "queue_offset", "message_id", "tag", "keys", "tries", "body")


@click.group()
def command() -> None:
    """List, show, send again and export dead letters."""


@command.command("ls", epilog="\b\nExample:\n  rocketmq dlq ls --watch 5")
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def list_groups(settings: Globals) -> None:
    """List groups with dead letters, the fullest first; PENDING are those not sent again yet."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        counts = [await admin.dead_letters.count(group) for group in await admin.dead_letters.groups()]
        counts.sort(key=lambda c: (-c.pending, -c.count, c.group))
        return [{"group": c.group, "letters": c.count, "pending": c.pending, "last": iso(c.last_ms)} for c in counts]

    data = with_admin(settings, work)
    show(settings, data, ("GROUP", "LETTERS", "PENDING", "LAST"), [list(row.values()) for row in data])


def _choice_options(function: Any) -> Any:
    for option in (
        click.option("--id", "ids", multiple=True, metavar="ID", help="Only this message; may be repeated."),
        click.option("--key", help="Only messages with this key."),
        click.option("--topic", help="Only messages that came from this topic."),
        click.option("--all", "everything", is_flag=True, help="Also those that were sent again before."),
    ):
        function = option(function)
    return function


def _wanted(ids: tuple[str, ...], key: str | None, topic: str | None) -> Callable[[MessageView], bool]:
    def is_wanted(letter: MessageView) -> bool:
        from rocketmq_client.admin.dead_letters import origin_topic

        return (
            (not ids or letter.message_id in ids or letter.offset_message_id in ids)
            and (key is None or key in letter.keys)
            and (topic is None or origin_topic(letter) == topic)
        )

    return is_wanted


@command.command(
    "show", epilog="\b\nExamples:\n  rocketmq dlq show billing\n  rocketmq dlq show billing --key 4711 -o json"
)
@click.argument("group", shell_complete=complete_group)
@_choice_options
@click.option("-c", "--count", type=click.IntRange(1), default=SHOWN, show_default=True, help="At most so many.")
@namesrv_option
@output_option
@click.pass_obj
def show_letters(
    settings: Globals,
    group: str,
    ids: tuple[str, ...],
    key: str | None,
    topic: str | None,
    everything: bool,
    count: int,
) -> None:
    """Show dead letters of GROUP with where they came from and how often they were tried."""
    is_wanted = _wanted(ids, key, topic)

    async def work(admin: Admin) -> list[MessageView]:
        found: list[MessageView] = []
        async for letter in admin.dead_letters.letters(group, pending_only=not everything):
            if is_wanted(letter):
                found.append(letter)
                if len(found) >= count:
                    break
        return found

    letters = with_admin(settings, work)
    show(settings, [_data(letter) for letter in letters], COLUMNS, [_row(letter) for letter in letters])
    if settings.output == "table":
        note(f"{len(letters)} shown; send them again: rocketmq dlq resend {group}")


@command.command(
    "resend",
    epilog="""\b
Examples:
  rocketmq dlq resend billing                  # all that were not sent again yet, to this group only
  rocketmq dlq resend billing --key 4711 --yes
  rocketmq dlq resend billing --to origin      # to their topics: every group gets them
  rocketmq dlq resend billing --rate 50 --dry-run""",
)
@click.argument("group", shell_complete=complete_group)
@_choice_options
@click.option("--to", "target", metavar="TOPIC", help="A topic, or origin, instead of the group's retry topic.")
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Messages per second at most.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent.")
@yes_option
@namesrv_option
@output_option
@click.pass_obj
def resend(
    settings: Globals,
    group: str,
    ids: tuple[str, ...],
    key: str | None,
    topic: str | None,
    everything: bool,
    target: str | None,
    rate: float | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Send dead letters of GROUP again, with their tries counted from 0.

    Without a choice each letter is sent again once, also over several runs: what was sent is remembered.
    """
    is_wanted = _wanted(ids, key, topic)
    # A choice leaves gaps, which a remembered offset cannot tell.
    remembers = not (ids or key or topic)
    if not dry_run:
        where = (
            "its own retry topic" if target is None else "the topics they came from" if target == "origin" else target
        )
        confirm(f"Send dead letters of {group} to {where}?", yes=yes)

    async def work(admin: Admin) -> list[dict[str, Any]]:
        import asyncio

        from rocketmq_client.admin.dead_letters import origin_topic

        rows: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        slot = loop.time()
        async for letter in admin.dead_letters.letters(group, pending_only=not everything and remembers):
            if not is_wanted(letter):
                continue
            row: dict[str, Any] = {"message_id": letter.message_id, "topic": origin_topic(letter), "to": None}
            if not dry_run:
                if rate:
                    await asyncio.sleep(slot - loop.time())
                    slot = max(slot, loop.time()) + 1 / rate
                queue = await admin.dead_letters.resend(
                    group, letter, topic=origin_topic(letter) if target == "origin" else target
                )
                row["to"] = f"{queue.topic} {queue.broker_name}:{queue.queue_id}"
                if remembers:
                    await admin.dead_letters.mark(letter)
            rows.append(row)
        return rows

    rows = with_admin(settings, work)
    show(settings, rows, ("MESSAGE ID", "TOPIC", "SENT TO"), [list(row.values()) for row in rows])
    note(f"{len(rows)} {'would be sent' if dry_run else 'sent'} again")


@command.command(
    "export",
    epilog="""\b
Examples:
  rocketmq dlq export billing > letters.jsonl
  rocketmq dlq export billing --csv > letters.csv""",
)
@click.argument("group", shell_complete=complete_group)
@_choice_options
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values instead of a JSON object a line.")
@namesrv_option
@click.pass_obj
def export(
    settings: Globals,
    group: str,
    ids: tuple[str, ...],
    key: str | None,
    topic: str | None,
    everything: bool,
    as_csv: bool,
) -> None:
    """Write dead letters of GROUP to standard output, whole."""
    is_wanted = _wanted(ids, key, topic)
    count = 0

    async def work(admin: Admin) -> None:
        nonlocal count
        import msgspec

        writer = csv.DictWriter(sys.stdout, CSV_FIELDS, lineterminator="\n")
        if as_csv:
            writer.writeheader()
        async for letter in admin.dead_letters.letters(group, pending_only=not everything):
            if not is_wanted(letter):
                continue
            count += 1
            if as_csv:
                writer.writerow(_flat(letter))
            else:
                click.echo(msgspec.json.encode(_data(letter)).decode())

    with_admin(settings, work)
    note(f"{count} dead letters of {group}")


@command.command("purge", epilog="\b\nExample:\n  rocketmq dlq purge billing --yes")
@click.argument("group", shell_complete=complete_group)
@yes_option
@namesrv_option
@click.pass_obj
def purge(settings: Globals, group: str, yes: bool) -> None:
    """Delete the dead-letter topic of GROUP; it comes again with the next dead letter."""
    confirm(f"Delete all dead letters of {group}?", yes=yes)

    async def work(admin: Admin) -> int:
        from rocketmq_common.names import dlq_topic

        counted = await admin.dead_letters.count(group)
        await admin.topics.delete(dlq_topic(group))
        return counted.count

    note(f"{with_admin(settings, work)} dead letters of {group} deleted")


def _data(letter: MessageView) -> dict[str, Any]:
    from rocketmq_client.admin.dead_letters import origin_topic

    return {**as_data(letter), "origin_topic": origin_topic(letter)}


def _row(letter: MessageView) -> list[Any]:
    from rocketmq_client.admin.dead_letters import origin_topic

    return [
        iso(letter.store_timestamp_ms),
        origin_topic(letter),
        letter.reconsume_times,
        " ".join(letter.keys),
        letter.message_id,
        shortened(body_text(letter)),
    ]


def _flat(letter: MessageView) -> dict[str, Any]:
    from rocketmq_client.admin.dead_letters import origin_topic

    return {
        "died": iso(letter.store_timestamp_ms),
        "topic": origin_topic(letter),
        "broker": letter.queue.broker_name,
        "queue_id": letter.queue.queue_id,
        "queue_offset": letter.queue_offset,
        "message_id": letter.message_id,
        "tag": letter.tag,
        "keys": " ".join(letter.keys),
        "tries": letter.reconsume_times,
        "body": body_text(letter),
    }
