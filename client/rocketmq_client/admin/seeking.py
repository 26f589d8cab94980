"""Moving groups at one broker, whatever its release.

Brokers of 5.x move a group at their own side (useServerSideResetOffset). Those of 4.9 pass the wish on to its consumers, refuse
when there are none, and know no wish for a single queue: of one they would move all queues, to their ends.
"""

from __future__ import annotations

from collections.abc import Mapping

from rocketmq_client.admin.access import Access, BrokerAddress, parse
from rocketmq_client.admin.topics import queue_from
from rocketmq_client.errors import NobodyOnline, RequestRefused
from rocketmq_client.offsets import QueueBounds, RemoteOffsets
from rocketmq_client.routes import Route
from rocketmq_common.settings import parse_java_properties
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode

LATEST = -1


async def seek_all(
    access: Access, broker: BrokerAddress, route: Route, group: str, timestamp_ms: int, *, force: bool
) -> dict[MessageQueue, int]:
    """Move ``group`` on the topic's queues at ``broker`` to a store time in ms (`LATEST`: to the end); returns the new offsets."""
    try:
        return await _reset(access, broker.address, group, route.topic, timestamp_ms, force=force)
    except NobodyOnline:
        pass
    bounds, kept = QueueBounds(access.instance), RemoteOffsets(access.instance, group)
    moved: dict[MessageQueue, int] = {}
    for queue in route.read_queues:
        if queue.broker_name != broker.name:
            continue
        before = await kept.fetch(queue)
        if timestamp_ms == LATEST:
            offset = await bounds.max_offset(queue)
        else:
            offset = await bounds.offset_at(queue, timestamp_ms)
        if force or before is None or offset <= before:
            await commit(access, group, queue, offset)
            moved[queue] = offset
    return moved


async def seek_one(access: Access, group: str, queue: MessageQueue, offset: int) -> None:
    """Move ``group`` on one queue. Raises RequestRefused when its consumers run and the broker cannot move them on one queue."""
    address = access.instance.routes.master(queue.broker_name)
    answer = await access.ask(address, RequestCode.GET_BROKER_CONFIG)
    if parse_java_properties(answer.body.decode()).get("useServerSideResetOffset") == "true":
        await _reset(access, address, group, queue.topic, LATEST, queue_id=queue.queue_id, offset=offset)
        return
    try:
        await access.ask(address, RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": group})
    except NobodyOnline:
        await commit(access, group, queue, offset)
        return
    raise RequestRefused(
        ResponseCode.REQUEST_CODE_NOT_SUPPORTED,
        f"broker {queue.broker_name} cannot move running consumers on one queue",
        hint="stop the consumers, or move them on all queues by time",
    )


async def commit(access: Access, group: str, queue: MessageQueue, offset: int) -> None:
    """Set the committed offset as a consumer would."""
    header = {
        "consumerGroup": group,
        "topic": queue.topic,
        "queueId": str(queue.queue_id),
        "commitOffset": str(offset),
    }
    await access.ask(access.instance.routes.master(queue.broker_name), RequestCode.UPDATE_CONSUMER_OFFSET, header)


async def _reset(
    access: Access,
    address: str,
    group: str,
    topic: str,
    timestamp_ms: int,
    *,
    force: bool = True,
    queue_id: int = -1,
    offset: int = -1,
) -> dict[MessageQueue, int]:
    header: Mapping[str, str] = {
        "topic": topic,
        "group": group,
        "timestamp": str(timestamp_ms),
        "isForce": "true" if force else "false",
        "queueId": str(queue_id),
        "offset": str(offset),
    }
    answer = await access.ask(address, RequestCode.INVOKE_BROKER_TO_RESET_OFFSET, header)
    table = parse(answer.body).get("offsetTable") or {}
    return {queue_from(key): int(value) for key, value in table.items()}
