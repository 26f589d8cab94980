"""What administrators ask a `FakeBroker`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from rocketmq_common import javajson, names
from rocketmq_common import properties as props
from rocketmq_common.groups import group_config_from
from rocketmq_common.records import encode_message
from rocketmq_common.settings import format_java_properties, parse_java_properties
from rocketmq_remoting.bodies import MessageQueue
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection, Route
from rocketmq_remoting.errors import RemotingError
from rocketmq_testkit.fake_broker import FakeBroker

Fields = dict[str, str]
Answer = Callable[[FakeBroker, Fields, Command], Response | Awaitable[Response]]


def admin_routes(broker: FakeBroker) -> list[Route]:
    """Rows for the broker's table."""

    def row(code: RequestCode, answer: Answer) -> Route:
        def handle(connection: Connection, command: Command, header: None) -> Response | Awaitable[Response]:
            del connection, header
            return answer(broker, command.ext_fields(), command)

        return Route(code, None, handle)

    return [row(code, answer) for code, answer in _ANSWERS.items()]


def _create_topic(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    if names.topic_name_problem(fields["topic"]):
        raise RemotingError(ResponseCode.INVALID_PARAMETER, f"topic {fields['topic']} is invalid")
    config = broker.create_topic(fields["topic"], int(fields["readQueueNums"]), int(fields["perm"]))
    config.write_queue_nums = int(fields["writeQueueNums"])
    config.order = fields.get("order") == "true"
    pairs = [item.lstrip("+").partition("=") for item in fields.get("attributes", "").split(",") if item]
    config.attributes = {name: value for name, _, value in pairs}
    return Response()


def _delete_topic(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    broker.topics.pop(fields["topic"], None)
    for key in [key for key in broker.log if key[0] == fields["topic"]]:
        del broker.log[key]
    return Response()


def _topic_config(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    config = broker.topics.get(fields["topic"])
    if config is None:
        raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"No topic in this broker. topic: {fields['topic']}")
    return _json(config)


def _topic_configs(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del fields, command
    return _json({"topicConfigTable": broker.topics})


def _topic_stats(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    topic = fields["topic"]
    config = broker.topics.get(topic)
    if config is None:
        raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist")
    rows = []
    for queue_id in range(config.queue_nums_max):
        queue = broker.log.get((topic, queue_id), [])
        last_ms = queue[-1].store_timestamp if queue else 0
        row = {"lastUpdateTimestamp": last_ms, "maxOffset": len(queue), "minOffset": 0}
        rows.append((MessageQueue(topic, broker.name, queue_id), row))
    return Response(body=b'{"offsetTable":' + javajson.dumps_object_keyed(rows) + b"}")


def _topic_groups(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    with_offsets = {group for group, topic, _ in broker.offsets if topic == fields["topic"]}
    return _json({"groupList": sorted(with_offsets)})


def _group_topics(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    return _json({"topicList": sorted({topic for group, topic, _ in broker.offsets if group == fields["group"]})})


def _group_configs(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del fields, command
    return _json({"subscriptionGroupTable": broker.groups})


def _group_config(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    config = broker.groups.get(fields["group"])
    if config is None:
        raise RemotingError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"No group in this broker: {fields['group']}")
    return _json(config)


def _create_group(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del fields
    config = group_config_from(msgspec.json.decode(command.body))
    broker.groups[config.group_name] = config
    return Response()


def _delete_group(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    broker.groups.pop(fields["groupName"], None)
    if fields.get("cleanOffset") == "true":
        for key in [key for key in broker.offsets if key[0] == fields["groupName"]]:
            del broker.offsets[key]
    return Response()


def _consume_stats(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    rows = []
    for (group, topic, queue_id), offset in sorted(broker.offsets.items()):
        if group == fields["consumerGroup"] and fields.get("topic") in (None, topic):
            queue = broker.log.get((topic, queue_id), [])
            last_ms = queue[offset - 1].store_timestamp if 0 < offset <= len(queue) else 0
            row = {
                "brokerOffset": len(queue),
                "consumerOffset": offset,
                "lastTimestamp": last_ms,
                "pullOffset": offset,
            }
            rows.append((MessageQueue(topic, broker.name, queue_id), row))
    return Response(body=b'{"consumeTps":0.0,"offsetTable":' + javajson.dumps_object_keyed(rows) + b"}")


def _consumer_connections(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    members = broker.members[fields["consumerGroup"]]
    if not members:
        raise RemotingError(
            ResponseCode.CONSUMER_NOT_ONLINE, f"the consumer group[{fields['consumerGroup']}] not online"
        )
    data = next(iter(members.values())).data
    connections = [
        {"clientAddr": m.connection.remote, "clientId": m.client_id, "language": "PYTHON", "version": 513}
        for m in members.values()
    ]
    return _json(
        {
            "connectionSet": connections,
            "consumeFromWhere": data.consume_from_where,
            "consumeType": data.consume_type,
            "messageModel": data.message_model,
            "subscriptionTable": {s.topic: s for s in data.subscription_data_set},
        }
    )


def _producer_connections(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    clients = broker.producers[fields["producerGroup"]]
    if not clients:
        raise RemotingError(ResponseCode.SYSTEM_ERROR, f"the producer group[{fields['producerGroup']}] not exist")
    rows = [{"clientAddr": c.remote, "clientId": i, "language": "PYTHON", "version": 513} for i, c in clients.items()]
    return _json({"connectionSet": rows})


def _reset_offset(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    topic, group, only = fields["topic"], fields["group"], int(fields["queueId"])
    if topic not in broker.topics:
        raise RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist")
    rows = []
    for queue_id in range(broker.topics[topic].read_queue_nums) if only < 0 else (only,):
        timestamp_ms = int(fields["timestamp"])
        given = int(fields.get("offset", "-1"))
        end = len(broker.log.get((topic, queue_id), []))
        offset = given if given >= 0 else end if timestamp_ms < 0 else broker.offset_at(topic, queue_id, timestamp_ms)
        broker.offsets[group, topic, queue_id] = offset
        if broker.members[group]:
            broker.resets[group, topic, queue_id] = offset
        rows.append((MessageQueue(topic, broker.name, queue_id), offset))
    return Response(body=b'{"offsetTable":' + javajson.dumps_object_keyed(rows) + b"}")


def _clone_offsets(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    for (group, topic, queue_id), offset in list(broker.offsets.items()):
        if group == fields["srcGroup"] and topic == fields["topic"]:
            broker.offsets[fields["destGroup"], topic, queue_id] = offset
    return Response()


def _query_message(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    unique = fields.get("_UNIQUE_KEY_QUERY") == "true"
    found = []
    for message in broker.all_messages():
        if message.topic != fields["topic"]:
            continue
        if unique:
            keys = [props.find_property(message.properties, props.PROPERTY_UNIQUE_KEY) or ""]
        else:
            keys = props.split_keys(props.find_property(message.properties, props.PROPERTY_KEYS) or "")
        in_time = int(fields["beginTimestamp"]) <= message.store_timestamp <= int(fields["endTimestamp"])
        if fields["key"] in keys and in_time:
            found.append(message)
    if not found:
        raise RemotingError(ResponseCode.QUERY_NOT_FOUND, "can not find message, maybe time range not correct")
    body = b"".join(encode_message(m) for m in found[: int(fields["maxNum"])])
    return Response(ext={"indexLastUpdateTimestamp": "0", "indexLastUpdatePhyoffset": "0"}, body=body)


def _view_message(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    found = broker.at_physical(int(fields["offset"]))
    if found is None:
        raise RemotingError(ResponseCode.SYSTEM_ERROR, f"can not find message by the offset, {fields['offset']}")
    return Response(body=encode_message(found))


def _runtime(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del fields, command
    total = str(len(broker.all_messages()))
    table = {
        "brokerVersionDesc": "V5_5_0",
        "bootTimestamp": "1700000000000",
        "putTps": "1.0 2.0 3.0",
        "getTransferredTps": "4.0 5.0 6.0",
        "msgPutTotalTodayNow": total,
        "commitLogDiskRatio": "0.25",
        "brokerActive": "true",
    }
    return _json({"table": table})


def _config(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del fields, command
    return Response(body=format_java_properties(broker.config).encode())


def _update_config(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del fields
    changes = parse_java_properties(command.body.decode())
    if "storePathRootDir" in changes:
        raise RemotingError(ResponseCode.NO_PERMISSION, "Can not update config in black list: storePathRootDir")
    broker.config.update(changes)
    return Response()


def _stats(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    del command
    if fields["statsName"] != "TOPIC_PUT_NUMS":
        raise RemotingError(ResponseCode.SYSTEM_ERROR, f"The stats <{fields['statsName']}> not exist")
    count = len(broker.messages(fields["statsKey"]))
    row = {"sum": count, "tps": count / 60, "avgpt": 1.0}
    return _json({"statsMinute": row, "statsHour": row, "statsDay": row})


async def _forward(broker: FakeBroker, fields: Fields, command: Command) -> Response:
    member = broker.members[fields["consumerGroup"]].get(fields.get("clientId", ""))
    if member is None:
        raise RemotingError(
            ResponseCode.SYSTEM_ERROR, f"The Consumer <{fields['consumerGroup']}> <{fields.get('clientId')}> not online"
        )
    answer = await member.connection.invoke(command.code, fields, command.body)
    return Response(answer.code, answer.ext_fields(), answer.remark, answer.body)


def _json(value: Any) -> Response:
    return Response(body=msgspec.json.encode(value))


_ANSWERS: dict[RequestCode, Answer] = {
    RequestCode.UPDATE_AND_CREATE_TOPIC: _create_topic,
    RequestCode.DELETE_TOPIC_IN_BROKER: _delete_topic,
    RequestCode.GET_TOPIC_CONFIG: _topic_config,
    RequestCode.GET_ALL_TOPIC_CONFIG: _topic_configs,
    RequestCode.GET_TOPIC_STATS_INFO: _topic_stats,
    RequestCode.QUERY_TOPIC_CONSUME_BY_WHO: _topic_groups,
    RequestCode.QUERY_TOPICS_BY_CONSUMER: _group_topics,
    RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG: _group_configs,
    RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG: _group_config,
    RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP: _create_group,
    RequestCode.DELETE_SUBSCRIPTIONGROUP: _delete_group,
    RequestCode.GET_CONSUME_STATS: _consume_stats,
    RequestCode.GET_CONSUMER_CONNECTION_LIST: _consumer_connections,
    RequestCode.GET_PRODUCER_CONNECTION_LIST: _producer_connections,
    RequestCode.INVOKE_BROKER_TO_RESET_OFFSET: _reset_offset,
    RequestCode.CLONE_GROUP_OFFSET: _clone_offsets,
    RequestCode.QUERY_MESSAGE: _query_message,
    RequestCode.VIEW_MESSAGE_BY_ID: _view_message,
    RequestCode.GET_BROKER_RUNTIME_INFO: _runtime,
    RequestCode.GET_BROKER_CONFIG: _config,
    RequestCode.UPDATE_BROKER_CONFIG: _update_config,
    RequestCode.VIEW_BROKER_STATS_DATA: _stats,
    RequestCode.GET_CONSUMER_RUNNING_INFO: _forward,
    RequestCode.CONSUME_MESSAGE_DIRECTLY: _forward,
}
