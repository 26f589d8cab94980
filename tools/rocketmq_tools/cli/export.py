"""``rocketmq export``: what is configured, as one document that `rocketmq apply` takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.options import Globals, namesrv_option
from rocketmq_tools.cli.session import with_admin

if TYPE_CHECKING:
    from rocketmq_client import Admin


@click.command(
    "export",
    epilog="\b\nExamples:\n  rocketmq export > cluster-a.yaml\n  rocketmq export --format json --brokers | jq .brokers",
)
@click.option("--cluster", help="Only brokers of this cluster.")
@click.option("--brokers", "with_brokers", is_flag=True, help="Also the brokers' configuration and figures.")
@click.option("--format", "form", type=click.Choice(("yaml", "json")), default="yaml", show_default=True)
@namesrv_option
@click.pass_obj
def command(settings: Globals, cluster: str | None, with_brokers: bool, form: str) -> None:
    """Write topics and groups (without RocketMQ's own) to standard output, as they are at the first master that has them."""

    async def work(admin: Admin) -> dict[str, Any]:
        import msgspec

        from rocketmq_common import names

        masters = [b for b in await admin.brokers.find(cluster=cluster) if b.is_master]
        system = await admin.topics.system_names()
        topics: dict[str, Any] = {}
        for broker in masters:
            for name, config in (await admin.topics.all_configs(broker)).items():
                is_own = name in system or names.is_system_topic(name)
                if not is_own and not names.is_retry_topic(name) and not names.is_dlq_topic(name):
                    topics.setdefault(name, msgspec.to_builtins(config))
        groups = {name: msgspec.to_builtins(config) for name, config in (await admin.groups.configs()).items()}
        document: dict[str, Any] = {"topics": list(topics.values()), "groups": list(groups.values())}
        if with_brokers:
            document["brokers"] = {
                broker.name: {
                    "address": broker.address,
                    "config": await admin.brokers.config(broker.address),
                    "runtime": await admin.brokers.runtime(broker.address),
                }
                for broker in masters
            }
        return document

    document = with_admin(settings, work)
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        import yaml

        click.echo(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), nl=False)
