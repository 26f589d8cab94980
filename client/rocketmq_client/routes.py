"""Where topics live: routes fetched from the name servers, kept, and refreshed by the client instance."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import choice

import msgspec

from rocketmq_client.errors import BrokerUnavailable, ClientError, TopicNotFound, refusal
from rocketmq_client.name_servers import NameServers
from rocketmq_common import javajson, names, permissions
from rocketmq_remoting.bodies import BrokerData, MessageQueue, TopicRouteData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.namesrv import GetRouteInfoRequestHeader

logger = logging.getLogger(__name__)

MASTER_ID = 0
ROUTES_MAX = 10_000  # topics kept; the one fetched longest ago goes first
DEFAULT_TOPIC_QUEUES = 4


@dataclass(frozen=True, slots=True)
class Route:
    """The route of one topic, ready for use. Queues are sorted."""

    topic: str
    data: TopicRouteData
    brokers: dict[str, BrokerData]
    write_queues: tuple[MessageQueue, ...]
    read_queues: tuple[MessageQueue, ...]

    def any_address(self) -> str:
        """The address of some broker of the topic, a master if there is one; raises BrokerUnavailable."""
        masters = [a for broker in self.brokers.values() if (a := broker.broker_addrs.get(MASTER_ID))]
        if masters:
            return choice(masters)
        others = [a for broker in self.brokers.values() for a in broker.broker_addrs.values()]
        if not others:
            raise BrokerUnavailable(
                f"the route of topic {self.topic} names no broker", hint="check: rocketmq broker ls"
            )
        return choice(others)


def route_from(topic: str, data: TopicRouteData) -> Route:
    """Derive queues from route data as Java does: writers need a master, an ordered topic has exactly its configured queues."""
    brokers = {broker.broker_name: broker for broker in data.broker_datas}
    readable: list[MessageQueue] = []
    writeable: list[MessageQueue] = []
    for queues in data.queue_datas:
        name = queues.broker_name
        if permissions.is_readable(queues.perm):
            readable += (MessageQueue(topic, name, index) for index in range(queues.read_queue_nums))
        broker = brokers.get(name)
        if permissions.is_writeable(queues.perm) and broker is not None and MASTER_ID in broker.broker_addrs:
            writeable += (MessageQueue(topic, name, index) for index in range(queues.write_queue_nums))
    if data.order_topic_conf:
        writeable = []
        for item in data.order_topic_conf.split(";"):
            name, _, count = item.partition(":")
            if count.isdigit():
                writeable += (MessageQueue(topic, name, index) for index in range(int(count)))
    return Route(topic, data, brokers, tuple(sorted(writeable)), tuple(sorted(readable)))


class Routes:
    """The known routes. ``on_change`` is called with a route that differs from the one before."""

    def __init__(self, name_servers: NameServers) -> None:
        self.on_change: list[Callable[[Route], None]] = []
        self._name_servers = name_servers
        self._routes: dict[str, Route] = {}
        self._borrowed: dict[str, Route] = {}
        self._fetching: dict[str, asyncio.Task[Route]] = {}

    def __iter__(self) -> Iterator[Route]:
        return iter(list(self._routes.values()))

    def known(self, topic: str) -> Route | None:
        """The route if it was fetched before."""
        return self._routes.get(topic)

    async def get(self, topic: str) -> Route:
        """The known route, else the fetched one; raises TopicNotFound, NameServerUnavailable."""
        return self._routes.get(topic) or await self.fetch(topic)

    async def fetch(self, topic: str) -> Route:
        """Ask a name server. A known route survives errors, for a restarted name server knows nothing for a while."""
        task = self._fetching.get(topic)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._fetch(topic), name=f"route of {topic}")
            self._fetching[topic] = task
            task.add_done_callback(lambda done: self._fetched(topic, done))
        return await asyncio.shield(task)

    async def get_for_send(self, topic: str, template: str = names.DEFAULT_TOPIC) -> Route:
        """The route to send by. An unknown topic borrows that of ``template``, whose brokers will create it on the first send.

        What is borrowed is kept until the next refresh, as in Java's client: looked up again after the first send, the topic
        would be found on the one broker that has just created it, and would never come to the others.
        Raises TopicNotFound when there is neither.
        """
        known = self._routes.get(topic) or self._borrowed.get(topic)
        if known is not None and known.write_queues:
            return known
        try:
            return await self.fetch(topic)
        except TopicNotFound:
            try:
                borrowed = await self.fetch(template)
            except TopicNotFound:
                raise TopicNotFound(
                    ResponseCode.TOPIC_NOT_EXIST,
                    f"no route for topic {topic}, and no broker creates topics by itself",
                    hint=f"create it: rocketmq topic create {topic}",
                ) from None
        queues = [
            MessageQueue(topic, data.broker_name, index)
            for data in borrowed.data.queue_datas
            if permissions.is_writeable(data.perm) and MASTER_ID in _addresses(borrowed, data.broker_name)
            for index in range(min(DEFAULT_TOPIC_QUEUES, data.read_queue_nums))
        ]
        route = Route(topic, borrowed.data, borrowed.brokers, tuple(sorted(queues)), ())
        if len(self._borrowed) >= ROUTES_MAX:
            self._borrowed.pop(next(iter(self._borrowed)))
        self._borrowed[topic] = route
        return route

    def master(self, broker_name: str) -> str:
        """The address of the master called ``broker_name``; raises BrokerUnavailable."""
        broker = self.broker(broker_name)
        address = broker.broker_addrs.get(MASTER_ID) if broker else None
        if address is None:
            raise BrokerUnavailable(
                f"broker {broker_name} has no master in the routes known", hint="check: rocketmq broker ls"
            )
        return address

    def for_reading(self, broker_name: str, broker_id: int = MASTER_ID) -> tuple[str, bool]:
        """(address, is a slave) of the broker with this id, else of any with the name; raises BrokerUnavailable."""
        broker = self.broker(broker_name)
        if broker is not None:
            address = broker.broker_addrs.get(broker_id)
            if address is not None:
                return address, broker_id != MASTER_ID
            for other_id, other in sorted(broker.broker_addrs.items()):
                return other, other_id != MASTER_ID
        raise BrokerUnavailable(f"broker {broker_name} is in no route known", hint="check: rocketmq broker ls")

    def broker(self, broker_name: str) -> BrokerData | None:
        """The addresses of a broker in any known route."""
        for route in self._routes.values():
            broker = route.brokers.get(broker_name)
            if broker is not None:
                return broker
        return None

    def addresses(self, *, with_slaves: bool) -> dict[str, str]:
        """Address → broker name of every broker in the known routes."""
        return {
            address: broker.broker_name
            for route in self._routes.values()
            for broker in route.brokers.values()
            for broker_id, address in broker.broker_addrs.items()
            if with_slaves or broker_id == MASTER_ID
        }

    async def refresh(self) -> None:
        """Fetch every known route again; failures are logged and leave the old route."""
        for topic in [*self._routes, *self._borrowed]:
            try:
                await self.fetch(topic)
            except ClientError as error:
                logger.debug("route of %s not refreshed: %s", topic, error)

    async def close(self) -> None:
        """End fetches under way."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, topic: str) -> Route:
        self._borrowed.pop(topic, None)
        header = GetRouteInfoRequestHeader(topic=topic, accept_standard_json_only=True)
        answer = await self._name_servers.ask(RequestCode.GET_ROUTEINFO_BY_TOPIC, header)
        if answer.code != ResponseCode.SUCCESS:
            raise refusal(answer.code, answer.remark, f"route of topic {topic}")
        route = route_from(topic, decode_route(answer.body))
        before = self._routes.pop(topic, None)
        if before is None and len(self._routes) >= ROUTES_MAX:
            self._routes.pop(next(iter(self._routes)))
        self._routes[topic] = route
        if before is None or before.data != route.data:
            for callback in self.on_change:
                callback(route)
        return route

    def _fetched(self, topic: str, task: asyncio.Task[Route]) -> None:
        self._fetching.pop(topic, None)
        if not task.cancelled():
            task.exception()  # whoever awaited it has seen it; this marks it as seen when nobody is left


def decode_route(body: bytes) -> TopicRouteData:
    """Route data as name servers write it, strict or with Java's bare integer keys; raises ClientError."""
    try:
        return _strict.decode(body)
    except msgspec.DecodeError:
        try:
            return msgspec.convert(javajson.loads(body), TopicRouteData, strict=False)
        except (javajson.JavaJsonError, msgspec.ValidationError) as error:
            raise ClientError(f"the name server's route cannot be read: {error}") from error


_strict = msgspec.json.Decoder(TopicRouteData)


def _addresses(route: Route, broker_name: str) -> dict[int, str]:
    broker = route.brokers.get(broker_name)
    return broker.broker_addrs if broker is not None else {}
