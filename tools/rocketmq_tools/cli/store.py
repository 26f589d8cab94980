"""``rocketmq store``: a broker's directory without its broker. Nothing is written, so a running broker's may be looked at too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rocketmq_tools.cli.options import Globals, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import note
from rocketmq_tools.cli.values import iso
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_store.inspection import StoreView

F = TypeVar("F", bound=Callable[..., Any])
DUMP_COUNT_DEFAULT = 100


def directory_argument(function: F) -> F:
    """The DIRECTORY of a store, and what its index was made with."""
    slots = click.option(
        "--hash-slots", type=click.IntRange(min=1), default=5_000_000, show_default=True,
        help="maxHashSlotNum of the broker, if it is not the default.",
    )  # fmt: skip
    return click.argument("directory", type=click.Path(path_type=Path))(slots(function))


@click.group()
def command() -> None:
    """Verify, dump and describe a broker's store directory (storePathRootDir), with or without its broker."""


@command.command()
@directory_argument
@click.option(
    "--from-apache",
    is_flag=True,
    help="Say also what of an Apache broker's DIRECTORY this broker does not read, and which sizes broker.conf must name.",
)
@output_option
@click.pass_obj
def verify(settings: Globals, directory: Path, hash_slots: int, from_apache: bool) -> None:
    """Check every record, queue entry, index entry and table of DIRECTORY; exit code 7 when something is wrong."""
    from rocketmq_store import takeover
    from rocketmq_store.checkpoint import FILE_NAME as CHECKPOINT

    findings = list(takeover.foreign_parts(directory)) if from_apache else []
    if not findings or (directory / "commitlog").is_dir():
        # The hint to the next start is ours: Apache's checkpoint has none, and that is in order.
        findings += [f for f in _view(directory, hash_slots).verify() if not from_apache or f.path.name != CHECKPOINT]
    if from_apache:
        for key, size in takeover.demanded_settings(directory).items():
            note(f"broker.conf must say {key}={size}")
    rows = [(str(f.path), f.position, f.text) for f in findings]
    data = [{"file": path, "byte": position, "finding": text} for path, position, text in rows]
    if findings or settings.output != "table":
        show(settings, data, ("FILE", "BYTE", "FINDING"), rows)
    else:
        click.echo(f"{directory}: every record, queue entry, index entry and table is in order")
    if findings:
        click.get_current_context().exit(ExitCode.UNHEALTHY)


@command.command()
@directory_argument
@output_option
@click.option("--topic", help="Only records of this topic.")
@click.option("--queue", "queue_id", type=click.IntRange(min=0), help="Only records of this queue.")
@click.option("--from", "start", type=click.IntRange(min=0), default=0, help="Commit log offset to begin at.")
@click.option(
    "--max",
    "count_max",
    type=click.IntRange(min=1),
    default=DUMP_COUNT_DEFAULT,
    show_default=True,
    help="Records at most.",
)
@click.pass_obj
def dump(
    settings: Globals,
    directory: Path,
    hash_slots: int,
    topic: str | None,
    queue_id: int | None,
    start: int,
    count_max: int,
) -> None:
    """List the records of DIRECTORY in the order of the log, with damage where there is some."""
    from rocketmq_common.properties import PROPERTY_KEYS, PROPERTY_UNIQUE_KEY, find_property
    from rocketmq_store.inspection import Finding

    data: list[dict[str, Any]] = []
    for found in _view(directory, hash_slots).records(start):
        if len(data) >= count_max:
            break
        if isinstance(found, Finding):
            data.append({"file": str(found.path), "byte": found.position, "finding": found.text})
            continue
        name = found.topic.decode(errors="replace")
        if (topic is not None and name != topic) or (queue_id is not None and found.queue_id != queue_id):
            continue
        properties = found.properties.decode(errors="replace")
        data.append(
            {
                "offset": found.physical_offset, "size": found.size, "topic": name, "queue": found.queue_id,
                "queueOffset": found.queue_offset, "stored": iso(found.store_timestamp_ms), "flags": found.sys_flag,
                "id": find_property(properties, PROPERTY_UNIQUE_KEY), "keys": find_property(properties, PROPERTY_KEYS),
            }
        )  # fmt: skip
    columns = ("OFFSET", "SIZE", "TOPIC", "QUEUE", "QUEUE OFFSET", "STORED", "ID", "KEYS")
    rows = [
        (r["offset"], r["size"], r["topic"], r["queue"], r["queueOffset"], r["stored"], r["id"], r["keys"])
        if "offset" in r
        else (f"{r['file']}: byte {r['byte']}: {r['finding']}", *[""] * 7)
        for r in data
    ]
    show(settings, data, columns, rows)


@command.command()
@directory_argument
@output_option
@click.pass_obj
def stat(settings: Globals, directory: Path, hash_slots: int) -> None:
    """Say what DIRECTORY holds: log, queues, index, checkpoint, and whether its broker ended in order."""
    import msgspec

    summary = _view(directory, hash_slots).summary()
    rows: list[tuple[str, Any]] = [
        ("closed in order", summary.is_clean),
        ("log from", summary.log_min_offset),
        ("log files up to", summary.log_file_end),
        ("log files", summary.segment_count),
        ("durable up to", summary.hint.consistent_offset if summary.hint is not None else None),
        ("queues", len(summary.queues)),
        ("queue entries", sum(queue.max_offset - queue.min_offset for queue in summary.queues)),
        ("index files", summary.index_file_count),
        ("index entries", summary.index_entry_count),
        ("bytes on disk", summary.size_bytes),
    ]
    show(settings, msgspec.to_builtins(summary), ("WHAT", "VALUE"), rows)


def _view(directory: Path, hash_slots: int) -> StoreView:
    from rocketmq_store.inspection import StoreView

    try:
        return StoreView(directory, index_slot_count=hash_slots)
    except FileNotFoundError as error:
        raise CommandError(
            f"{directory} holds no store",
            why=f"{error.filename}: {error.strerror}",
            remedy="give the directory that storePathRootDir names",
            exit_code=ExitCode.NOT_FOUND,
        ) from error
