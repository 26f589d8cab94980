"""``rocketmq topic``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rocketmq_tools.cli.names import complete_topic
from rocketmq_tools.cli.options import Globals, namesrv_option, output_option, watch_option
from rocketmq_tools.cli.output import show
from rocketmq_tools.cli.session import confirm, note, with_admin, yes_option
from rocketmq_tools.cli.values import Permission, iso, pairs
from rocketmq_tools.errors import CommandError, ExitCode

if TYPE_CHECKING:
    from rocketmq_client import Admin, TopicConfig

DEFAULT_QUEUES = 8


@click.group()
def command() -> None:
    """List, create, change, delete and describe topics."""


@command.command("ls", epilog="\b\nExamples:\n  rocketmq topic ls\n  rocketmq topic ls --wide -o json")
@click.option("-a", "--all", "everything", is_flag=True, help="Also retry, dead-letter and RocketMQ's own topics.")
@click.option("-w", "--wide", is_flag=True, help="With queues, permission and messages stored.")
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def list_topics(settings: Globals, everything: bool, wide: bool) -> None:
    """List topics."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        names = await admin.topics.names(with_system=everything)
        if not wide:
            return [{"topic": name} for name in names]
        found: dict[str, dict[str, TopicConfig]] = {}
        for broker in [b for b in await admin.brokers.find() if b.is_master]:
            for name, config in (await admin.topics.all_configs(broker)).items():
                found.setdefault(name, {})[broker.name] = config
        rows: list[dict[str, Any]] = []
        for name in names:
            configs = found.get(name, {})
            rows.append(
                {
                    "topic": name,
                    "brokers": sorted(configs),
                    "read_queues": sum(c.read_queue_nums for c in configs.values()),
                    "write_queues": sum(c.write_queue_nums for c in configs.values()),
                    "perm": _perm_of(configs),
                }
            )
        return rows

    data = with_admin(settings, work)
    if wide:
        columns = ("TOPIC", "BROKERS", "READ", "WRITE", "PERM")
        show(
            settings,
            data,
            columns,
            [[*list(r.values())[:1], ",".join(r["brokers"]), *list(r.values())[2:]] for r in data],
        )
    else:
        show(settings, data, ("TOPIC",), [[r["topic"]] for r in data])


def _config_options(function: Any) -> Any:
    for option in (
        click.option("-q", "--queues", type=click.IntRange(1, 65_535), help="Read and write queues per broker."),
        click.option("--read-queues", type=click.IntRange(0, 65_535), help="Queues for consumers."),
        click.option("--write-queues", type=click.IntRange(0, 65_535), help="Queues for producers."),
        click.option("--perm", type=Permission(), help="rw, r, w or none."),
        click.option("--order/--no-order", default=None, help="Mark as an ordered topic."),
        click.option("--attribute", "attributes", multiple=True, metavar="K=V", help="For example message.type=FIFO."),
        click.option("--cluster", help="Only brokers of this cluster."),
        click.option("--broker", help="Only this broker."),
    ):
        function = option(function)
    return function


@command.command(
    "create",
    epilog="\b\nExamples:\n  rocketmq topic create orders\n  rocketmq topic create orders -q 16 --broker broker-a",
)
@click.argument("topic")
@_config_options
@click.option("--if-not-exists", is_flag=True, help="An existing topic is fine and stays as it is.")
@namesrv_option
@output_option
@click.pass_obj
def create(
    settings: Globals,
    topic: str,
    queues: int | None,
    read_queues: int | None,
    write_queues: int | None,
    perm: int | None,
    order: bool | None,
    attributes: tuple[str, ...],
    cluster: str | None,
    broker: str | None,
    if_not_exists: bool,
) -> None:
    """Create TOPIC at all brokers (8 queues each, readable and writeable, unless said otherwise)."""

    async def work(admin: Admin) -> list[Any] | None:
        if await admin.topics.exists(topic):
            if if_not_exists:
                return None
            raise CommandError(f"topic {topic} exists already", remedy=f"change it: rocketmq topic alter {topic}")
        return await admin.topics.create(
            topic,
            queues=queues or DEFAULT_QUEUES,
            read_queues=read_queues,
            write_queues=write_queues,
            perm=6 if perm is None else perm,
            order=bool(order),
            attributes=pairs(attributes, "--attribute"),
            cluster=cluster,
            broker=broker,
        )

    brokers = with_admin(settings, work)
    if brokers is None:
        note(f"topic {topic} exists already")
        return
    data = [{"topic": topic, "broker": b.name, "address": b.address} for b in brokers]
    show(settings, data, ("TOPIC", "BROKER", "ADDRESS"), [list(row.values()) for row in data])


@command.command("alter", epilog="\b\nExample:\n  rocketmq topic alter orders -q 16")
@click.argument("topic", shell_complete=complete_topic)
@_config_options
@namesrv_option
@output_option
@click.pass_obj
def alter(
    settings: Globals,
    topic: str,
    queues: int | None,
    read_queues: int | None,
    write_queues: int | None,
    perm: int | None,
    order: bool | None,
    attributes: tuple[str, ...],
    cluster: str | None,
    broker: str | None,
) -> None:
    """Change TOPIC; what is not named stays as it is at each broker."""
    if all(v is None for v in (queues, read_queues, write_queues, perm, order)) and not attributes:
        raise click.UsageError("nothing to change; see --help")
    added = pairs(attributes, "--attribute")

    async def work(admin: Admin) -> list[dict[str, Any]]:
        configs = await admin.topics.configs(topic)
        targets = {b.name: b for b in await admin.brokers.find(cluster=cluster, broker=broker) if b.is_master}
        changed: list[dict[str, Any]] = []
        for name, config in configs.items():
            if name not in targets:
                continue
            config.read_queue_nums = _first_given(read_queues, queues, config.read_queue_nums)
            config.write_queue_nums = _first_given(write_queues, queues, config.write_queue_nums)
            config.perm = config.perm if perm is None else perm
            config.order = config.order if order is None else order
            config.attributes = added
            await admin.topics.apply(targets[name].address, config)
        for name, config in (await admin.topics.configs(topic)).items():
            changed.append(_config_data(name, config))
        return changed

    data = with_admin(settings, work)
    show(settings, data, CONFIG_COLUMNS, [_config_row(row) for row in data])


@command.command(
    "perm", epilog="\b\nExample:\n  rocketmq topic perm orders r     # stop producers, let consumers finish"
)
@click.argument("topic", shell_complete=complete_topic)
@click.argument("perm", type=Permission())
@click.option("--broker", help="Only this broker.")
@namesrv_option
@output_option
@click.pass_context
def set_perm(ctx: click.Context, topic: str, perm: int, broker: str | None) -> None:
    """Set who may use TOPIC: rw, r, w or none."""
    ctx.invoke(
        alter,
        topic=topic,
        queues=None,
        read_queues=None,
        write_queues=None,
        perm=perm,
        order=None,
        attributes=(),
        cluster=None,
        broker=broker,
    )


@command.command("delete", epilog="\b\nExample:\n  rocketmq topic delete orders --yes")
@click.argument("topics", nargs=-1, required=True, shell_complete=complete_topic)
@yes_option
@namesrv_option
@click.pass_obj
def delete(settings: Globals, topics: tuple[str, ...], yes: bool) -> None:
    """Delete TOPICS with all their messages."""
    confirm(f"Delete {', '.join(topics)} with all messages?", yes=yes)

    async def work(admin: Admin) -> None:
        for topic in topics:
            await admin.topics.delete(topic)
            note(f"topic {topic} deleted")

    with_admin(settings, work)


@command.command("describe", epilog="\b\nExample:\n  rocketmq topic describe orders -o yaml")
@click.argument("topic", shell_complete=complete_topic)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def describe(settings: Globals, topic: str) -> None:
    """Show configuration, extent and consumer groups of TOPIC."""

    async def work(admin: Admin) -> dict[str, Any]:
        configs = await admin.topics.configs(topic)
        stats = await admin.topics.stats(topic)
        return {
            "topic": topic,
            "messages": sum(s.max_offset - s.min_offset for s in stats),
            "last_update": iso(max((s.last_update_ms for s in stats), default=0)),
            "groups": await admin.topics.groups(topic),
            "brokers": [_config_data(name, config) for name, config in configs.items()],
        }

    data = with_admin(settings, work)
    show(settings, data, CONFIG_COLUMNS, [_config_row(row) for row in data["brokers"]])
    if settings.output == "table":
        groups = ", ".join(data["groups"]) or "none"
        click.echo(f"\n{data['messages']} messages stored, last at {data['last_update'] or '-'}; groups: {groups}")


@command.command("route", epilog="\b\nExample:\n  rocketmq topic route orders")
@click.argument("topic", shell_complete=complete_topic)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def route(settings: Globals, topic: str) -> None:
    """Show which brokers hold TOPIC and where clients reach them."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        found = await admin.topics.route(topic)
        rows: list[dict[str, Any]] = []
        for queues in sorted(found.data.queue_datas, key=lambda q: q.broker_name):
            broker = found.brokers.get(queues.broker_name)
            for broker_id, address in sorted(broker.broker_addrs.items()) if broker else ():
                rows.append(
                    {
                        "broker": queues.broker_name,
                        "broker_id": broker_id,
                        "address": address,
                        "cluster": broker.cluster if broker else "",
                        "read_queues": queues.read_queue_nums,
                        "write_queues": queues.write_queue_nums,
                        "perm": _perm_text(queues.perm),
                    }
                )
        return rows

    data = with_admin(settings, work)
    columns = ("BROKER", "ID", "ADDRESS", "CLUSTER", "READ", "WRITE", "PERM")
    show(settings, data, columns, [list(row.values()) for row in data])


@command.command("stats", epilog="\b\nExample:\n  rocketmq topic stats orders")
@click.argument("topic", shell_complete=complete_topic)
@namesrv_option
@output_option
@watch_option
@click.pass_obj
def stats(settings: Globals, topic: str) -> None:
    """Show first and next offset of every queue of TOPIC."""

    async def work(admin: Admin) -> list[dict[str, Any]]:
        return [
            {
                "broker": s.queue.broker_name,
                "queue_id": s.queue.queue_id,
                "min_offset": s.min_offset,
                "max_offset": s.max_offset,
                "messages": s.max_offset - s.min_offset,
                "last_update": iso(s.last_update_ms),
            }
            for s in await admin.topics.stats(topic)
        ]

    data = with_admin(settings, work)
    columns = ("BROKER", "QUEUE", "MIN", "MAX", "MESSAGES", "LAST UPDATE")
    show(settings, data, columns, [list(row.values()) for row in data])


CONFIG_COLUMNS = ("BROKER", "READ", "WRITE", "PERM", "ORDER", "ATTRIBUTES")


def _config_data(broker: str, config: TopicConfig) -> dict[str, Any]:
    return {
        "broker": broker,
        "read_queues": config.read_queue_nums,
        "write_queues": config.write_queue_nums,
        "perm": _perm_text(config.perm),
        "order": config.order,
        "attributes": config.attributes,
    }


def _config_row(row: dict[str, Any]) -> list[Any]:
    attributes = ",".join(f"{name}={value}" for name, value in row["attributes"].items())
    return [*list(row.values())[:5], attributes]


def _perm_text(perm: int) -> str:
    return {6: "rw", 4: "r", 2: "w", 0: "none", 7: "rw+inherit"}.get(perm, str(perm))


def _perm_of(configs: dict[str, TopicConfig]) -> str:
    return ",".join(sorted({_perm_text(c.perm) for c in configs.values()}))


def _first_given(*values: int | None) -> int:
    for value in values:
        if value is not None:
            return value
    raise CommandError("no value is given", exit_code=ExitCode.USAGE)
