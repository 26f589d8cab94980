"""The requests of a name server: one handler per row of `NamesrvProcessor.routes`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import msgspec

from rocketmq_common import javajson, names
from rocketmq_common.clock import Clock
from rocketmq_common.topics import DataVersion
from rocketmq_namesrv import answers, registration_body
from rocketmq_namesrv.configuration import Configuration
from rocketmq_namesrv.kv import KvConfig, KvConfigError
from rocketmq_namesrv.listeners import parse_addresses
from rocketmq_namesrv.registration_body import RegistrationBodyError
from rocketmq_namesrv.routes import BrokerKey, MinBrokerChange, Registration, RouteTable, RouteTableError
from rocketmq_remoting.bodies import TopicRouteData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers import namesrv as headers

logger = logging.getLogger(__name__)

ROUTE_CACHE_MAX: Final = 10_000  # answers
ZONE_NAME: Final = "__ZONE_NAME"

Announce = Callable[[MinBrokerChange], None]


def now_ms(clock: Clock) -> int:
    """The time base of the route table: monotonic, so that a corrected wall clock drops no broker."""
    return int(clock.monotonic() * 1000)


class NamesrvProcessor:
    """Answers from the tables; ``announce`` is told of changes of a lowest broker id."""

    def __init__(
        self, table: RouteTable, kv: KvConfig, configuration: Configuration, clock: Clock, announce: Announce
    ) -> None:
        self._table = table
        self._kv = kv
        self._configuration = configuration
        self._clock = clock
        self._announce = announce
        self._kv_lock = asyncio.Lock()
        self._started_ms = now_ms(clock)
        self._has_served_route = False
        self._cache: dict[tuple[str, str], Response] = {}
        self._cache_key: tuple[Any, ...] = ()

    def routes(self) -> list[Route]:
        """The table of requests."""
        code, kv = RequestCode, headers.KvConfigRequestHeader
        return [
            *self.listener_routes(""),
            Route(code.REGISTER_BROKER, headers.RegisterBrokerRequestHeader, self._register),
            Route(code.UNREGISTER_BROKER, headers.BrokerIdentityHeader, self._unregister),
            Route(code.BROKER_HEARTBEAT, headers.BrokerHeartbeatRequestHeader, self._heartbeat),
            Route(code.QUERY_DATA_VERSION, headers.BrokerIdentityHeader, self._data_version),
            Route(code.GET_BROKER_MEMBER_GROUP, headers.BrokerMemberGroupHeader, self._member_group),
            Route(code.WIPE_WRITE_PERM_OF_BROKER, headers.BrokerNameHeader, self._wipe_write_perm),
            Route(code.ADD_WRITE_PERM_OF_BROKER, headers.BrokerNameHeader, self._add_write_perm),
            Route(code.GET_SYSTEM_TOPIC_LIST_FROM_NS, None, self._system_topics),
            Route(code.GET_UNIT_TOPIC_LIST, None, self._unit_topics),
            Route(code.GET_HAS_UNIT_SUB_TOPIC_LIST, None, self._unit_topics),
            Route(code.GET_HAS_UNIT_SUB_UNUNIT_TOPIC_LIST, None, self._unit_topics),
            Route(code.DELETE_TOPIC_IN_NAMESRV, headers.DeleteTopicInNamesrvRequestHeader, self._delete_topic),
            Route(code.REGISTER_TOPIC_IN_NAMESRV, headers.RegisterTopicRequestHeader, self._register_topic),
            Route(code.PUT_KV_CONFIG, headers.PutKvConfigRequestHeader, self._put_kv),
            Route(code.DELETE_KV_CONFIG, kv, self._delete_kv),
            Route(code.GET_KVLIST_BY_NAMESPACE, headers.NamespaceHeader, self._kv_namespace),
            Route(code.UPDATE_NAMESRV_CONFIG, None, self._update_config),
            Route(code.GET_NAMESRV_CONFIG, None, self._get_config),
        ]

    def listener_routes(self, listener: str) -> list[Route]:
        """What is answered through a listener: what clients ask. Brokers and administrators come to the main port, whose
        ``listener`` is the empty string."""
        code = RequestCode
        return [
            Route(code.GET_ROUTEINFO_BY_TOPIC, headers.GetRouteInfoRequestHeader, partial(self._route, listener)),
            Route(code.GET_BROKER_CLUSTER_INFO, None, partial(self._cluster_info, listener)),
            Route(code.GET_ALL_TOPIC_LIST_FROM_NAMESERVER, None, self._all_topics),
            Route(code.GET_TOPICS_BY_CLUSTER, headers.ClusterHeader, self._topics_of_cluster),
            Route(code.GET_KV_CONFIG, headers.KvConfigRequestHeader, self._get_kv),
        ]

    @property
    def is_ready(self) -> bool:
        """Whether routes are given out: with ``needWaitForService`` only after the wait, or once one was found before."""
        settings = self._configuration.settings
        waited = now_ms(self._clock) - self._started_ms >= settings.wait_seconds_for_service * 1000
        return not settings.need_wait_for_service or self._has_served_route or waited

    # -- routes ------------------------------------------------------------------------------------------------------

    def _route(self, listener: str, _: Connection, __: Command, header: headers.GetRouteInfoRequestHeader) -> Response:
        settings = self._configuration.settings
        if not self.is_ready:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "name server not ready")
        key = (self._table.revision, self._kv.revision, settings)
        if key != self._cache_key:
            self._cache.clear()
            self._cache_key = key
        cached = self._cache.get((listener, header.topic))
        if cached is not None:
            return cached
        order = self._kv.get(names.ORDER_TOPIC_NAMESPACE, header.topic) if settings.order_message_enable else None
        body = answers.route(
            self._table, header.topic, acting_master=settings.support_acting_master, order_conf=order, listener=listener
        )
        if body is None:
            raise RemotingError(
                ResponseCode.TOPIC_NOT_EXIST,
                f"No topic route info in name server for the topic: {header.topic}\n"
                "See https://rocketmq.apache.org/docs/bestPractice/06FAQ for further details.",
            )
        self._has_served_route = True
        response = Response(body=body)
        if len(self._cache) < ROUTE_CACHE_MAX:
            self._cache[listener, header.topic] = response
        return response

    def _register(
        self, connection: Connection, command: Command, header: headers.RegisterBrokerRequestHeader
    ) -> Response:
        if header.body_crc32 and header.body_crc32 != registration_body.checksum(command.body):
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "crc32 not match")
        try:
            body = registration_body.decode(command.body, compressed=header.compressed, version=command.version)
        except RegistrationBodyError as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"register broker failed: {error}") from error
        wrapper = body.topic_config_serialize_wrapper
        zone = command.ext_fields().get(ZONE_NAME) if ZONE_NAME.encode() in bytes(command.raw_ext()) else None
        registration = Registration(
            cluster=header.cluster_name,
            broker_name=header.broker_name,
            address=header.broker_addr,
            broker_id=header.broker_id,
            ha_server_addr=header.ha_server_addr,
            data_version=wrapper.data_version,
            topics=wrapper.topic_config_table,
            connection=connection,
            heartbeat_timeout_ms=header.heartbeat_timeout_millis,
            enable_acting_master=header.enable_acting_master,
            zone_name=zone,
            filter_servers=body.filter_server_list,
            mappings=wrapper.topic_queue_mapping_info_map or {},
            listeners=parse_addresses(header.listeners or ""),
        )
        settings = self._configuration.settings
        is_new = registration.key not in self._table.live
        try:
            accepted = self._table.register(
                registration,
                now_ms(self._clock),
                delete_missing_topics=settings.delete_topic_with_broker_registration,
            )
        except RouteTableError as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, str(error)) from error
        if is_new:
            logger.info(
                "broker %s id %d at %s of cluster %s registered with %d topics",
                header.broker_name, header.broker_id, header.broker_addr, header.cluster_name, len(registration.topics),
            )  # fmt: skip
        if accepted.change is not None:
            self._announce(accepted.change)
        order: bytes = b""
        if settings.return_order_topic_config_to_broker:
            table = self._kv.namespace(names.ORDER_TOPIC_NAMESPACE)
            order = b"" if table is None else answers.kv_table(table)
        ext = headers.RegisterBrokerResponseHeader(
            ha_server_addr=accepted.ha_server_addr, master_addr=accepted.master_addr
        )
        return Response(ext=ext, body=order)

    def _unregister(self, _: Connection, __: Command, header: headers.BrokerIdentityHeader) -> Response:
        change = self._table.unregister(BrokerKey(header.cluster_name, header.broker_addr), header.broker_name)
        logger.info("broker %s id %d at %s unregistered", header.broker_name, header.broker_id, header.broker_addr)
        if change is not None:
            self._announce(change)
        return Response()

    def _heartbeat(self, _: Connection, __: Command, header: headers.BrokerHeartbeatRequestHeader) -> Response:
        self._table.heartbeat(BrokerKey(header.cluster_name, header.broker_addr), now_ms(self._clock))
        return Response()

    def _data_version(self, _: Connection, command: Command, header: headers.BrokerIdentityHeader) -> Response:
        key = BrokerKey(header.cluster_name, header.broker_addr)
        known = self._table.data_version(key)
        try:
            asked = msgspec.json.decode(command.body, type=DataVersion, strict=False)
        except msgspec.MsgspecError as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"body is no data version: {error}") from error
        changed = known != asked
        if not changed:
            self._table.heartbeat(key, now_ms(self._clock))
        ext = headers.QueryDataVersionResponseHeader(changed=changed)
        return Response(ext=ext, body=b"" if known is None else javajson.dumps(known))

    # -- topics and brokers ------------------------------------------------------------------------------------------

    def _cluster_info(self, listener: str, _: Connection, __: Command, ___: None) -> Response:
        return Response(body=answers.cluster_info(self._table, listener))

    def _member_group(self, _: Connection, __: Command, header: headers.BrokerMemberGroupHeader) -> Response:
        return Response(body=answers.member_group(self._table, header.cluster_name, header.broker_name))

    def _wipe_write_perm(self, connection: Connection, _: Command, header: headers.BrokerNameHeader) -> Response:
        count = self._table.change_write_permission(header.broker_name, writeable=False)
        logger.info("write permission of %s wiped by %s: %d topics", header.broker_name, connection.remote, count)
        return Response(ext=headers.WipeWritePermResponseHeader(wipe_topic_count=count))

    def _add_write_perm(self, connection: Connection, _: Command, header: headers.BrokerNameHeader) -> Response:
        count = self._table.change_write_permission(header.broker_name, writeable=True)
        logger.info("write permission of %s added by %s: %d topics", header.broker_name, connection.remote, count)
        return Response(ext=headers.AddWritePermResponseHeader(add_topic_count=count))

    def _all_topics(self, _: Connection, __: Command, ___: None) -> Response:
        if not self._configuration.settings.enable_all_topic_list:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "disable")
        return Response(body=answers.topic_list(self._table.topics))

    def _topics_of_cluster(self, _: Connection, __: Command, header: headers.ClusterHeader) -> Response:
        self._check_topic_list()
        return Response(body=answers.topic_list(self._table.topics_of_cluster(header.cluster)))

    def _system_topics(self, _: Connection, __: Command, ___: None) -> Response:
        self._check_topic_list()
        return Response(body=answers.system_topics(self._table))

    def _unit_topics(self, _: Connection, command: Command, __: None) -> Response:
        self._check_topic_list()
        if command.code == RequestCode.GET_UNIT_TOPIC_LIST:
            found = self._table.topics_by_unit(unit=True, unit_sub=None)
        elif command.code == RequestCode.GET_HAS_UNIT_SUB_TOPIC_LIST:
            found = self._table.topics_by_unit(unit=None, unit_sub=True)
        else:
            found = self._table.topics_by_unit(unit=False, unit_sub=True)
        return Response(body=answers.topic_list(found))

    def _delete_topic(
        self, connection: Connection, _: Command, header: headers.DeleteTopicInNamesrvRequestHeader
    ) -> Response:
        self._table.delete_topic(header.topic, header.cluster_name or None)
        logger.info("topic %s deleted by %s", header.topic, connection.remote)
        return Response()

    def _register_topic(self, _: Connection, command: Command, header: headers.RegisterTopicRequestHeader) -> Response:
        try:
            route = msgspec.convert(javajson.loads(command.body), TopicRouteData, strict=False)
            self._table.register_topic(header.topic, route.queue_datas)
        except (javajson.JavaJsonError, msgspec.ValidationError, RouteTableError) as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"register topic failed: {error}") from error
        return Response()

    def _check_topic_list(self) -> None:
        if not self._configuration.settings.enable_topic_list:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, "disable")

    # -- key-value and configuration ---------------------------------------------------------------------------------

    def _get_kv(self, _: Connection, __: Command, header: headers.KvConfigRequestHeader) -> Response:
        value = self._kv.get(header.namespace, header.key)
        if value is None:
            remark = f"No config item, Namespace: {header.namespace} Key: {header.key}"
            raise RemotingError(ResponseCode.QUERY_NOT_FOUND, remark)
        return Response(ext=headers.GetKvConfigResponseHeader(value=value))

    def _kv_namespace(self, _: Connection, __: Command, header: headers.NamespaceHeader) -> Response:
        values = self._kv.namespace(header.namespace)
        if values is None:
            raise RemotingError(ResponseCode.QUERY_NOT_FOUND, f"No config item, Namespace: {header.namespace}")
        return Response(body=answers.kv_table(values))

    def _put_kv(self, _: Connection, __: Command, header: headers.PutKvConfigRequestHeader) -> Awaitable[Response]:
        return self._change_kv(header.namespace, header.key, header.value)

    def _delete_kv(self, _: Connection, __: Command, header: headers.KvConfigRequestHeader) -> Awaitable[Response]:
        return self._change_kv(header.namespace, header.key, None)

    async def _change_kv(self, namespace: str, key: str, value: str | None) -> Response:
        """Answered once the file has it; what could not be written is undone."""
        async with self._kv_lock:
            before = self._kv.get(namespace, key)
            try:
                self._set_kv(namespace, key, value)
            except KvConfigError as error:
                raise RemotingError(ResponseCode.SYSTEM_ERROR, str(error)) from error
            try:
                await asyncio.to_thread(self._kv.save, self._kv.document())
            except OSError as error:
                self._set_kv(namespace, key, before)
                logger.error("key-value configuration not written: %s", error)
                raise RemotingError(ResponseCode.SYSTEM_ERROR, f"{self._kv.path}: {error.strerror}") from error
        return Response()

    def _set_kv(self, namespace: str, key: str, value: str | None) -> None:
        if value is None:
            self._kv.delete(namespace, key)
        else:
            self._kv.put(namespace, key, value)

    async def _update_config(self, connection: Connection, command: Command, _: None) -> Response:
        await self._configuration.update(command.body, connection.remote)
        return Response()

    def _get_config(self, _: Connection, __: Command, ___: None) -> Response:
        return Response(body=self._configuration.text())
