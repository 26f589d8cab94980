"""Consumer groups: 200 and 225 create and change, 207 delete, 201 and 352 look up, 353 forbidden topics."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

import msgspec

from rocketmq_broker.admin.requests import converted, invalid, list_in, no_group, object_body, page
from rocketmq_broker.consumer_offsets import ConsumerOffsets
from rocketmq_broker.groups import FORBIDDEN_CONSUME_INDEX, GROUP_COUNT_MAX, GroupTable
from rocketmq_common import javajson, names
from rocketmq_common.groups import SubscriptionGroupConfig, group_config_from
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_remoting.headers.admin import (
    DeleteSubscriptionGroupRequestHeader,
    GetAllSubscriptionGroupRequestHeader,
    GetAllSubscriptionGroupResponseHeader,
    GroupForbiddenRequestHeader,
    GroupHeader,
)

logger = logging.getLogger(__name__)

RETRY_QUEUE_NUMS_MAX: Final = 1024
RETRY_TIMES_MAX: Final = 1000


class GroupAdministration:
    """See the module. Changes are answered after they are on disk."""

    def __init__(self, groups: GroupTable, offsets: ConsumerOffsets, forget_group: Callable[[str], None]) -> None:
        self._groups = groups
        self._offsets = offsets
        self._forget_group = forget_group

    def routes(self) -> list[Route]:
        """The rows of the table that this part serves."""
        code = RequestCode
        return [
            Route(code.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, None, self.create),
            Route(code.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP_LIST, None, self.create_all),
            Route(code.DELETE_SUBSCRIPTIONGROUP, DeleteSubscriptionGroupRequestHeader, self.delete),
            Route(code.GET_ALL_SUBSCRIPTIONGROUP_CONFIG, GetAllSubscriptionGroupRequestHeader, self.all),
            Route(code.GET_SUBSCRIPTIONGROUP_CONFIG, GroupHeader, self.get),
            Route(code.UPDATE_AND_GET_GROUP_FORBIDDEN, GroupForbiddenRequestHeader, self.forbidden),
        ]

    async def create(self, connection: Connection, command: Command, _: None) -> Response:
        """200."""
        await self._apply([object_body(command)], connection)
        return Response()

    async def create_all(self, connection: Connection, command: Command, _: None) -> Response:
        """225; all of them or none."""
        body = object_body(command)
        # 5.5's own class serializes the list under its getter's name.
        name = "groupConfigList" if "groupConfigList" in body else "subscriptionGroupConfigList"
        await self._apply(list_in(body, name), connection)
        return Response()

    async def delete(
        self, connection: Connection, _: Command, header: DeleteSubscriptionGroupRequestHeader
    ) -> Response:
        """207; an unknown group is no error."""
        group = header.group_name
        try:
            existed = await self._groups.delete(group)
        except OSError as error:
            raise _not_written(error) from error
        if header.clean_offset:
            self._offsets.forget_group(group)
        self._forget_group(group)
        if existed:
            logger.info(
                "group %s deleted by %s, offsets %s", group, connection.remote, "too" if header.clean_offset else "kept"
            )
        return Response()

    def get(self, _: Connection, __: Command, header: GroupHeader) -> Response:
        """352."""
        config = self._groups.get(header.group)
        if config is None:
            raise no_group(header.group)
        return Response(body=javajson.dumps(group_fields(config)))

    def all(self, _: Connection, __: Command, header: GetAllSubscriptionGroupRequestHeader) -> Response:
        """201, whole or by pages."""
        configs = self._groups.configs
        wanted = page(configs, header.group_seq, header.max_group_num)
        body = {
            "dataVersion": self._groups.data_version,
            "forbiddenTable": {
                group: self._groups.forbidden[group] for group in wanted if group in self._groups.forbidden
            },
            "subscriptionGroupTable": {group: group_fields(config) for group, config in wanted.items()},
        }
        ext = GetAllSubscriptionGroupResponseHeader(total_group_num=len(configs))
        return Response(ext=ext, body=javajson.dumps(body))

    async def forbidden(self, _: Connection, __: Command, header: GroupForbiddenRequestHeader) -> Response:
        """353: whether a group may consume a topic; changed first when ``readable`` is given."""
        group, topic = header.group, header.topic
        if header.readable is not None:
            bit = 1 << FORBIDDEN_CONSUME_INDEX
            mask = self._groups.forbidden_mask(group, topic)
            try:
                await self._groups.set_forbidden(group, topic, mask & ~bit if header.readable else mask | bit)
            except OSError as error:
                raise _not_written(error) from error
        readable = not self._groups.is_forbidden(group, topic)
        return Response(body=javajson.dumps({"group": group, "readable": readable, "topic": topic}))

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _apply(self, raws: list[dict[str, Any]], connection: Connection) -> None:
        configs = [_checked(raw) for raw in raws]
        known = self._groups.configs
        if len(known) + sum(config.group_name not in known for config in configs) > GROUP_COUNT_MAX:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"this broker may have {GROUP_COUNT_MAX} groups")
        changed = [config for config in configs if known.get(config.group_name) != config]
        if not changed:
            return
        try:
            await self._groups.update_all(changed)
        except OSError as error:
            raise _not_written(error) from error
        logger.info("%s created or changed groups: %s", connection.remote, [config.group_name for config in changed])


def group_fields(config: SubscriptionGroupConfig) -> dict[str, Any]:
    """The configuration as Java writes it, without absent fields."""
    fields: dict[str, Any] = msgspec.to_builtins(config)
    return {key: value for key, value in fields.items() if value is not None}


def _checked(raw: dict[str, Any]) -> SubscriptionGroupConfig:
    try:
        config = group_config_from(raw)
    except msgspec.ValidationError as error:
        raise converted(error, f"group {raw.get('groupName')}") from error
    problem = names.group_name_problem(config.group_name)
    if problem is not None:
        raise invalid(problem)
    group = config.group_name
    if not 0 <= config.retry_queue_nums <= RETRY_QUEUE_NUMS_MAX:
        raise invalid(
            f"group {group}: retryQueueNums={config.retry_queue_nums}: 0 to {RETRY_QUEUE_NUMS_MAX} are allowed"
        )
    if not -1 <= config.retry_max_times <= RETRY_TIMES_MAX:
        raise invalid(f"group {group}: retryMaxTimes={config.retry_max_times}: -1 to {RETRY_TIMES_MAX} are allowed")
    if config.broker_id < 0 or config.which_broker_when_consume_slowly < 0:
        raise invalid(f"group {group}: brokerId and whichBrokerWhenConsumeSlowly: 0 or more is needed")
    # Signed keys are how tools say "set" and "remove"; what is kept has no sign.
    config.attributes = {key.lstrip("+"): value for key, value in config.attributes.items() if not key.startswith("-")}
    return config


def _not_written(error: OSError) -> RemotingError:
    logger.error("group configuration not written: %s", error)
    return RemotingError(ResponseCode.SYSTEM_ERROR, f"group configuration not written: {error.strerror or error}")
