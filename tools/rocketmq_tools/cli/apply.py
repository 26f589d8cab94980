"""``rocketmq apply``: create and change the topics and groups of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.options import Globals, namesrv_option, output_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import with_admin
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin, SubscriptionGroupConfig
    from rocketmq_common.topics import TopicConfig


@click.command(
    "apply",
    epilog="\b\nExamples:\n  rocketmq export | rocketmq --context other apply -f -\n  rocketmq apply -f topics.yaml --dry-run",
)
@click.option(
    "-f", "--file", "file", required=True, type=click.Path(path_type=Path, allow_dash=True), help="YAML or JSON."
)
@click.option("--cluster", help="Only brokers of this cluster.")
@click.option("--broker", help="Only this broker.")
@click.option("--dry-run", is_flag=True, help="Read the file, show what it names, change nothing.")
@namesrv_option
@output_option
@click.pass_obj
def command(settings: Globals, file: Path, cluster: str | None, broker: str | None, dry_run: bool) -> None:
    """Create the topics and groups of a file at all brokers, or change them to what it says; nothing is deleted.

    The file is what `rocketmq export` writes, or a list as for mqadmin's updateTopicList and updateSubGroupList; fields have
    RocketMQ's names (topicName, readQueueNums, groupName, retryMaxTimes, ...).
    """
    topics, groups = _parsed(file)

    async def work(admin: Admin) -> None:
        masters = [b for b in await admin.brokers.find(cluster=cluster, broker=broker) if b.is_master]
        for topic in topics:
            for where in masters:
                await admin.topics.apply(where.address, topic)
        for group in groups:
            await admin.groups.create(group, cluster=cluster, broker=broker)

    if not dry_run:
        with_admin(settings, work)
    data = [{"kind": "topic", "name": topic.topic_name} for topic in topics]
    data += [{"kind": "group", "name": group.group_name} for group in groups]
    show(settings, data, ("KIND", "NAME"), [list(row.values()) for row in data])


def _parsed(file: Path) -> tuple[list[TopicConfig], list[SubscriptionGroupConfig]]:
    """Raises CommandError naming what does not fit."""
    import msgspec
    import yaml

    from rocketmq_common.groups import group_config_from
    from rocketmq_common.topics import topic_config_from

    try:
        with click.open_file(str(file)) as opened:
            document = yaml.safe_load(opened)
        items = _items(document)
        topics = [topic_config_from(item) for item in items if "topicName" in item]
        groups = [group_config_from(item, str(item["groupName"])) for item in items if "topicName" not in item]
    except (yaml.YAMLError, msgspec.ValidationError, UnicodeDecodeError, ValueError) as error:
        raise CommandError(f"{file}: {error}", exit_code=ExitCode.USAGE) from error
    return topics, groups


def _items(document: Any) -> list[dict[str, Any]]:
    if isinstance(document, dict):
        parts = [document.get(name) or [] for name in ("topics", "groups")]
        document = [item for part in parts if isinstance(part, list) for item in part]
    if not isinstance(document, list) or not document:
        raise ValueError("there is no list of topics or groups in it")
    for number, item in enumerate(document, start=1):
        if not isinstance(item, dict) or not {"topicName", "groupName"} & item.keys():
            raise ValueError(f"item {number} has neither topicName nor groupName")
    return document
