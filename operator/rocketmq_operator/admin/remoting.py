"""The seam's real implementation, over RocketMQ's remoting protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rocketmq_common import javajson, names
from rocketmq_common.settings import SettingsError, format_java_properties, parse_java_properties
from rocketmq_operator.admin.access import BrokerRefused, BrokerSilent, Fields
from rocketmq_operator.admin.backlog import Backlog, pending_delays
from rocketmq_operator.config import RUNTIME_KEYS
from rocketmq_operator.reconcile.observed import BrokerFacts, DrainFacts
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Buffer, Command
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout

TIMEOUT_MS = 3000.0
TRANSACTION_GROUP = "CID_RMQ_SYS_TRANS"

_FAILURES = (RemotingConnectError, RemotingTimeout, RemotingOverloaded, RemotingError)
_ABSENT = frozenset(
    {ResponseCode.TOPIC_NOT_EXIST, ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, ResponseCode.QUERY_NOT_FOUND}
)
# Busy or shutting down is not a refusal: the same request may succeed in a moment.
_PASSING = frozenset({ResponseCode.SYSTEM_BUSY, ResponseCode.SERVICE_NOT_AVAILABLE, ResponseCode.FLOW_CONTROL})


class RemotingBrokers:
    """See `rocketmq_operator.admin.access.BrokerAccess`."""

    def __init__(self, client: RemotingClient, timeout_ms: float = TIMEOUT_MS) -> None:
        self._client = client
        self._timeout_ms = timeout_ms

    async def facts(self, address: str) -> BrokerFacts:
        """See the seam."""
        runtime, config, replication = await asyncio.gather(
            self._json(address, RequestCode.GET_BROKER_RUNTIME_INFO),
            self._properties(address),
            self._json(address, RequestCode.GET_BROKER_HA_STATUS),
        )
        try:
            table = runtime["table"]
            slaves = replication.get("haConnectionInfo") or ()
            return BrokerFacts(
                is_master=bool(replication.get("master", config.get("brokerId") == "0")),
                version=str(table.get("brokerVersionDesc", "")),
                config={key: value for key, value in config.items() if key in RUNTIME_KEYS},
                in_sync_slaves=int(replication.get("inSyncSlaveNums") or 0),
                log_end_offset=int(table["commitLogMaxOffset"]),
                puts_per_second=float(str(table.get("putTps", "0")).split()[0]),
                lag_bytes=max((int(slave.get("diff") or 0) for slave in slaves), default=0),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise BrokerSilent(f"{address}: runtime info is not understood: {error!r}") from error

    async def drain_facts(self, leaving: str, staying: Sequence[str]) -> DrainFacts:
        """See the seam."""
        facts, runtime = await asyncio.gather(
            self.facts(leaving), self._json(leaving, RequestCode.GET_BROKER_RUNTIME_INFO)
        )
        topics, groups = await self._tables(leaving)
        backlog = await self._backlog(leaving, topics)
        lacking_topics: dict[str, Fields] = {}
        lacking_groups: dict[str, Fields] = {}
        for address in staying:
            known_topics, known_groups = await self._tables(address)
            lacking_topics |= {n: c for n, c in topics.items() if n not in known_topics}
            lacking_groups |= {n: c for n, c in groups.items() if n not in known_groups}
        return DrainFacts(
            log_end_offset=facts.log_end_offset,
            puts_per_second=facts.puts_per_second,
            unconsumed=backlog,
            delayed=pending_delays(runtime.get("table") or {}),
            half=await self._half(leaving),
            missing_topics=tuple(lacking_topics.values()),
            missing_groups=tuple(lacking_groups.values()),
        )

    async def configure(self, address: str, values: Mapping[str, str]) -> None:
        """See the seam."""
        body = format_java_properties(dict(sorted(values.items()))).encode()
        await self._ask(address, RequestCode.UPDATE_BROKER_CONFIG, None, body)

    async def set_writes(self, group: str, name_servers: Sequence[str], *, is_open: bool) -> None:
        """See the seam."""
        code = RequestCode.ADD_WRITE_PERM_OF_BROKER if is_open else RequestCode.WIPE_WRITE_PERM_OF_BROKER
        for address in name_servers:
            await self._ask(address, code, {"brokerName": group})

    async def unregister(
        self, cluster: str, group: str, brokers: Sequence[tuple[int, str]], name_servers: Sequence[str]
    ) -> None:
        """See the seam."""
        for address in name_servers:
            for broker_id, broker in brokers:
                header = {
                    "brokerName": group,
                    "brokerAddr": broker,
                    "clusterName": cluster,
                    "brokerId": str(broker_id),
                }
                await self._ask(address, RequestCode.UNREGISTER_BROKER, header)

    async def topic(self, address: str, topic: str) -> Fields | None:
        """See the seam."""
        return await self._maybe(address, RequestCode.GET_TOPIC_CONFIG, {"topic": topic})

    async def put_topic(self, address: str, config: Fields) -> None:
        """See the seam."""
        attributes = ",".join(f"+{key}={value}" for key, value in sorted((config.get("attributes") or {}).items()))
        header = {
            "topic": str(config["topicName"]),
            "defaultTopic": names.DEFAULT_TOPIC,
            "readQueueNums": str(config["readQueueNums"]),
            "writeQueueNums": str(config["writeQueueNums"]),
            "perm": str(config["perm"]),
            "topicFilterType": str(config.get("topicFilterType", "SINGLE_TAG")),
            "topicSysFlag": str(config.get("topicSysFlag", 0)),
            "order": "true" if config.get("order") else "false",
            **({"attributes": attributes} if attributes else {}),
        }
        await self._ask(address, RequestCode.UPDATE_AND_CREATE_TOPIC, header)

    async def delete_topic(self, address: str, topic: str) -> None:
        """See the seam."""
        await self._ask(address, RequestCode.DELETE_TOPIC_IN_BROKER, {"topic": topic}, absent_ok=True)

    async def forget_topic(self, name_server: str, topic: str) -> None:
        """See the seam."""
        await self._ask(name_server, RequestCode.DELETE_TOPIC_IN_NAMESRV, {"topic": topic}, absent_ok=True)

    async def queue_backlog(self, address: str, topic: str, from_queue: int) -> int:
        """See the seam."""
        backlog = Backlog()
        backlog.add_consumption(await self._json(address, RequestCode.GET_BROKER_CONSUME_STATS, {"isOrder": "false"}))
        return sum(
            left for (name, _, queue_id), left in backlog.left.items() if name == topic and queue_id >= from_queue
        )

    async def group(self, address: str, group: str) -> Fields | None:
        """See the seam."""
        return await self._maybe(address, RequestCode.GET_SUBSCRIPTIONGROUP_CONFIG, {"group": group})

    async def put_group(self, address: str, config: Fields) -> None:
        """See the seam."""
        await self._ask(
            address, RequestCode.UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, None, msgspec.json.encode(dict(config))
        )

    async def delete_group(self, address: str, group: str) -> None:
        """See the seam."""
        header = {"groupName": group, "cleanOffset": "true"}
        await self._ask(address, RequestCode.DELETE_SUBSCRIPTIONGROUP, header, absent_ok=True)

    async def group_progress(self, address: str, group: str) -> tuple[int, int]:
        """See the seam."""
        stats = await self._maybe(address, RequestCode.GET_CONSUME_STATS, {"consumerGroup": group}) or {}
        backlog = Backlog()
        backlog.add_group(group, stats)
        try:
            answer = await self._ask(address, RequestCode.GET_CONSUMER_CONNECTION_LIST, {"consumerGroup": group})
            members = len(javajson.loads(answer.body).get("connectionSet") or ())
        except BrokerRefused:
            members = 0  # nobody online is answered as an error
        except (javajson.JavaJsonError, AttributeError, TypeError) as error:
            raise BrokerSilent(f"{address}: connections of {group} are not understood: {error!r}") from error
        return sum(backlog.left.values()), members

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _tables(self, address: str) -> tuple[dict[str, Fields], dict[str, Fields]]:
        topics = (await self._json(address, RequestCode.GET_ALL_TOPIC_CONFIG)).get("topicConfigTable") or {}
        groups = (await self._json(address, RequestCode.GET_ALL_SUBSCRIPTIONGROUP_CONFIG)).get(
            "subscriptionGroupTable"
        ) or {}
        # Its own topics, those named as the broker and as its cluster among them, only the broker knows.
        system = set((await self._json(address, RequestCode.GET_SYSTEM_TOPIC_LIST_FROM_BROKER)).get("topicList") or ())
        return (
            {
                name: {**config, "topicName": name}
                for name, config in topics.items()
                if name not in system and not names.is_system_topic(name)
            },
            {name: {**config, "groupName": name} for name, config in groups.items() if not names.is_system_group(name)},
        )

    async def _backlog(self, address: str, topics: Mapping[str, Fields]) -> dict[str, int]:
        backlog = Backlog()
        backlog.add_consumption(await self._json(address, RequestCode.GET_BROKER_CONSUME_STATS, {"isOrder": "false"}))
        for topic in topics:
            if not backlog.has_reader(topic):
                stats = await self._maybe(address, RequestCode.GET_TOPIC_STATS_INFO, {"topic": topic})
                backlog.add_unread(topic, stats or {})
        return backlog.by_topic()

    async def _half(self, address: str) -> int:
        stats = await self._maybe(address, RequestCode.GET_TOPIC_STATS_INFO, {"topic": names.TRANS_HALF_TOPIC})
        total = 0
        for key, row in ((stats or {}).get("offsetTable") or {}).items():
            queue = key.as_dict() if hasattr(key, "as_dict") else javajson.loads(key)
            end = int(row.get("maxOffset") or 0)
            if not end:
                continue
            header = {
                "consumerGroup": TRANSACTION_GROUP,
                "topic": names.TRANS_HALF_TOPIC,
                "queueId": str(queue["queueId"]),
            }
            answer = await self._ask(address, RequestCode.QUERY_CONSUMER_OFFSET, header, absent_ok=True)
            done = int(answer.ext_fields().get("offset", "0")) if answer.code == ResponseCode.SUCCESS else 0
            total += max(end - max(done, 0), 0)
        return total

    async def _properties(self, address: str) -> dict[str, str]:
        answer = await self._ask(address, RequestCode.GET_BROKER_CONFIG)
        try:
            return parse_java_properties(bytes(answer.body).decode())
        except (SettingsError, UnicodeDecodeError) as error:
            raise BrokerSilent(f"{address}: configuration is not understood: {error}") from error

    async def _json(self, address: str, code: RequestCode, header: Mapping[str, str] | None = None) -> dict[str, Any]:
        return _parsed(address, await self._ask(address, code, header))

    async def _maybe(self, address: str, code: RequestCode, header: Mapping[str, str]) -> dict[str, Any] | None:
        answer = await self._ask(address, code, header, absent_ok=True)
        return _parsed(address, answer) if answer.code == ResponseCode.SUCCESS else None

    async def _ask(
        self,
        address: str,
        code: RequestCode,
        header: Mapping[str, str] | None = None,
        body: Buffer = b"",
        *,
        absent_ok: bool = False,
    ) -> Command:
        try:
            answer = await self._client.invoke(address, code, header, body, timeout_ms=self._timeout_ms)
        except _FAILURES as error:
            raise BrokerSilent(str(error)) from error
        if answer.code == ResponseCode.SUCCESS or (absent_ok and answer.code in _ABSENT):
            return answer
        text = f"{address} answers {code.name}: {RemotingError(answer.code, answer.remark or '')}"
        raise BrokerSilent(text) if answer.code in _PASSING else BrokerRefused(text)


def _parsed(address: str, answer: Command) -> dict[str, Any]:
    try:
        value = javajson.loads(answer.body)
    except javajson.JavaJsonError as error:
        raise BrokerSilent(f"{address}: an answer is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise BrokerSilent(f"{address}: an answer is no object")
    return value
