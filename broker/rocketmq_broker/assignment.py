"""Who consumes what, decided by the broker: 400 query assignment, 401 set request mode, 402 all request modes.

A push consumer with ``clientRebalance=false`` asks here instead of dividing queues by itself, and is told whether to pull or to
pop: so an operator switches a group between both without touching clients. Modes are ``config/messageRequestMode.json``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import Executor
from pathlib import Path
from typing import Any, Final

import msgspec

from rocketmq_broker.clients.consumers import Consumers
from rocketmq_broker.clients.processor import decode_body
from rocketmq_broker.durable import DurableTable, TableError
from rocketmq_broker.settings import BrokerSettings
from rocketmq_common import names, permissions
from rocketmq_common.allocation import contiguous_share, dealt_share
from rocketmq_common.clock import Clock
from rocketmq_common.files import FileSystem
from rocketmq_remoting.bodies import BROADCASTING, CLUSTERING, Body, MessageQueue, TopicRouteData
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout
from rocketmq_remoting.headers.namesrv import GetRouteInfoRequestHeader

PULL: Final = "PULL"
POP: Final = "POP"
MODES_MAX: Final = 100_000
ROUTES_MAX: Final = 10_000
ROUTE_AGE_MS_MAX: Final = 30_000
ROUTE_TIMEOUT_MS: Final = 2000
_FAILURES: Final = (RemotingConnectError, RemotingTimeout, RemotingOverloaded, RemotingError)

Queues = list[MessageQueue]
STRATEGIES: Final[dict[str, Callable[[Queues, str, list[str]], Queues]]] = {
    "AVG": contiguous_share,
    "AVG_BY_CIRCLE": dealt_share,
}


class QueryAssignmentRequestBody(Body):
    """Body of 400."""

    topic: str
    consumer_group: str
    client_id: str
    strategy_name: str = "AVG"
    message_model: str = CLUSTERING


class MessageRequestMode(Body):
    """Body of 401, and an entry of the table. ``pop_share_queue_num`` members pop from one's queues; 0: all from all."""

    topic: str
    consumer_group: str
    mode: str = PULL
    pop_share_queue_num: int = 0


class MessageRequestModes:
    """The table of modes: topic → group → mode."""

    def __init__(self, files: FileSystem, directory: Path, executor: Executor) -> None:
        self._table = DurableTable(files, directory / "messageRequestMode.json", self.encode, executor)
        self.modes: dict[str, dict[str, MessageRequestMode]] = {}

    def load(self) -> None:
        """Read the file; blocking. Raises TableError."""
        try:
            self.modes = _parse(self._table.load())
        except msgspec.ValidationError as error:
            raise TableError(f"{self._table.path}: {error}: repair the file, or restore its .bak") from error

    def adopt(self, raw: dict[str, Any]) -> None:
        """Take the table of this broker's master. Raises msgspec.ValidationError; nothing is changed then."""
        modes = _parse(raw)
        if modes != self.modes:
            self.modes = modes
            self._table.touch()

    def find(self, topic: str, group: str) -> MessageRequestMode | None:
        """The mode that was set."""
        return self.modes.get(topic, {}).get(group)

    async def set(self, mode: MessageRequestMode) -> None:
        """Set one, durably. Raises OSError."""
        self.modes.setdefault(mode.topic, {})[mode.consumer_group] = mode
        await self._table.save()

    def encode(self) -> bytes:
        """Content of the file, and body of the answer to 402."""
        return msgspec.json.encode({"messageRequestModeMap": self.modes})

    async def save_if_dirty(self) -> None:
        """Write what was adopted or forgotten. Raises OSError."""
        await self._table.save_if_dirty()

    def forget_topic(self, topic: str) -> None:
        """The topic was deleted."""
        if self.modes.pop(topic, None) is not None:
            self._table.touch()

    def forget_group(self, group: str) -> None:
        """The group was deleted."""
        for topic in [topic for topic, modes in self.modes.items() if group in modes]:
            del self.modes[topic][group]
            if not self.modes[topic]:
                del self.modes[topic]
            self._table.touch()


class TopicQueues:
    """All queues of a topic, at all brokers, as the name servers know them; kept for `ROUTE_AGE_MS_MAX`."""

    def __init__(self, client: RemotingClient, addresses: Callable[[], Iterable[str]], clock: Clock) -> None:
        self._client = client
        self._addresses = addresses
        self._clock = clock
        self._known: dict[str, tuple[float, Queues]] = {}

    async def of(self, topic: str) -> Queues | None:
        """Sorted; the last known ones while no name server answers, ``None`` for a topic that none knows."""
        known = self._known.get(topic)
        now = self._clock.monotonic()
        if known is not None and now - known[0] < ROUTE_AGE_MS_MAX / 1000:
            return known[1]
        for address in self._addresses():
            try:
                answer = await self._client.invoke(
                    address,
                    RequestCode.GET_ROUTEINFO_BY_TOPIC,
                    GetRouteInfoRequestHeader(topic=topic, accept_standard_json_only=True),
                    timeout_ms=ROUTE_TIMEOUT_MS,
                )
                if answer.code == ResponseCode.TOPIC_NOT_EXIST:
                    self._known.pop(topic, None)
                    return None
                route = msgspec.json.decode(answer.body, type=TopicRouteData, strict=False)
            except (*_FAILURES, msgspec.DecodeError):
                continue
            queues = sorted(
                MessageQueue(topic, data.broker_name, queue_id)
                for data in route.queue_datas
                if permissions.is_readable(data.perm)
                for queue_id in range(data.read_queue_nums)
            )
            if len(self._known) >= ROUTES_MAX:
                self._known.pop(next(iter(self._known)))
            self._known[topic] = now, queues
            return queues
        return None if known is None else known[1]


class AssignmentProcessor:
    """See the module."""

    def __init__(
        self, settings: BrokerSettings, consumers: Consumers, modes: MessageRequestModes, queues: TopicQueues
    ) -> None:
        self._settings = settings
        self._consumers = consumers
        self._modes = modes
        self._queues = queues

    def routes(self) -> list[Route]:
        """The rows of the table that this processor serves."""
        return [
            Route(RequestCode.QUERY_ASSIGNMENT, None, self.query),
            Route(RequestCode.SET_MESSAGE_REQUEST_MODE, None, self.set_mode),
            Route(RequestCode.GET_ALL_MESSAGE_REQUEST_MODE, None, self.all_modes),
        ]

    async def query(self, connection: Connection, command: Command, header: Any) -> Response:
        """The queues of one member and how to get their messages; no set at all means "change nothing"."""
        body = decode_body(command, QueryAssignmentRequestBody)
        mode = self._mode(body.topic, body.consumer_group)
        queues = await self._assigned(body, mode)
        if queues is None:
            return Response(body=b'{"messageQueueAssignments":null}')
        assignments = [{"messageQueue": queue, "mode": mode.mode, "attachments": None} for queue in queues]
        return Response(body=msgspec.json.encode({"messageQueueAssignments": assignments}))

    def set_mode(self, connection: Connection, command: Command, header: Any) -> Awaitable[Response]:
        """Say whether a group pulls or pops a topic; in force with the members' next question."""
        mode = decode_body(command, MessageRequestMode)
        if names.is_retry_topic(mode.topic):
            raise RemotingError(ResponseCode.NO_PERMISSION, "retry topic is not allowed to set mode")
        if mode.mode not in (PULL, POP):
            raise RemotingError(ResponseCode.INVALID_PARAMETER, f"mode {mode.mode!r}: write {PULL} or {POP}")
        problem = names.topic_name_problem(mode.topic) or names.group_name_problem(mode.consumer_group)
        if problem is not None:
            raise RemotingError(ResponseCode.INVALID_PARAMETER, problem)
        if sum(map(len, self._modes.modes.values())) >= MODES_MAX:
            raise RemotingError(ResponseCode.SYSTEM_BUSY, f"{MODES_MAX} modes are set")
        return self._set(mode)

    def all_modes(self, connection: Connection, command: Command, header: Any) -> Response:
        """The whole table, for slaves."""
        return Response(body=self._modes.encode())

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _set(self, mode: MessageRequestMode) -> Response:
        try:
            await self._modes.set(mode)
        except OSError as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"the mode cannot be written: {error}") from error
        return Response()

    def _mode(self, topic: str, group: str) -> MessageRequestMode:
        mode = self._modes.find(topic, group)
        if mode is not None:
            return mode
        settings = self._settings
        # What was sent back by consumers that pull stands in the group's retry topic, and is pulled.
        return MessageRequestMode(
            topic=topic,
            consumer_group=group,
            mode=PULL if names.is_retry_topic(topic) else settings.default_message_request_mode,
            pop_share_queue_num=settings.default_pop_share_queue_num,
        )

    async def _assigned(self, body: QueryAssignmentRequestBody, mode: MessageRequestMode) -> Queues | None:
        queues = await self._queues.of(body.topic)
        if queues is None or body.message_model == BROADCASTING:
            return queues
        group = self._consumers.get(body.consumer_group)
        if group is None or not queues:
            return None
        members = sorted(group.client_ids())
        if mode.mode == POP:
            return popped_queues(body.client_id, queues, members, body.strategy_name, mode.pop_share_queue_num)
        return shared_queues(body.client_id, queues, members, body.strategy_name)


def shared_queues(member: str, queues: Queues, members: list[str], strategy: str) -> Queues | None:
    """The queues of ``member`` when every queue has one owner; ``None`` for a strategy that the broker does not have."""
    divide = STRATEGIES.get(strategy)
    return None if divide is None else divide(queues, member, members)


def popped_queues(member: str, queues: Queues, members: list[str], strategy: str, share_count: int) -> Queues | None:
    """The queues that ``member`` pops from: its own and those of the ``share_count`` members behind it, or all.

    Queue id -1 stands for all queues of a broker (RebalanceService.allocate4Pop).
    """
    if share_count <= 0 or share_count >= len(members) - 1:
        return sorted({MessageQueue(queue.topic, queue.broker_name, -1) for queue in queues})
    if member not in members:
        return []
    index = members.index(member)
    if len(members) > len(queues):
        return [queues[index % len(queues)]]
    found: set[MessageQueue] = set()
    for step in range(share_count + 1):
        part = shared_queues(members[(index + step) % len(members)], queues, members, strategy)
        if part is None:
            return None
        found.update(part)
    return sorted(found)


def _parse(raw: dict[str, Any]) -> dict[str, dict[str, MessageRequestMode]]:
    return msgspec.convert(
        raw.get("messageRequestModeMap") or {}, dict[str, dict[str, MessageRequestMode]], strict=False
    )
