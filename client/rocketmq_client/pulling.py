"""One pull request and its answer (PullAPIWrapper)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rocketmq_client.errors import ClientError, refusal
from rocketmq_client.instance import ClientInstance
from rocketmq_client.messages import MessageView, view_messages
from rocketmq_client.routes import MASTER_ID
from rocketmq_client.subscriptions import is_wanted
from rocketmq_common import names, sysflags
from rocketmq_common import properties as props
from rocketmq_common.batches import BatchError
from rocketmq_common.light_queues import light_places
from rocketmq_common.namespaces import unqualified
from rocketmq_common.records import RecordError
from rocketmq_remoting.bodies import MessageQueue, SubscriptionData
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.headers.pull import PullMessageRequestHeader, PullMessageResponseHeader

PULL_COUNT = 32
PULL_BYTES = 256 * 1024
SUSPEND_MS = 15_000
PULL_TIMEOUT_MS = 30_000


class PullStatus(Enum):
    """What a pull found."""

    FOUND = "found"
    NO_NEW_MESSAGE = "no new message"
    NO_MATCHED_MESSAGE = "no matched message"
    OFFSET_ILLEGAL = "offset illegal"


_STATUSES = {
    ResponseCode.SUCCESS: PullStatus.FOUND,
    ResponseCode.PULL_NOT_FOUND: PullStatus.NO_NEW_MESSAGE,
    ResponseCode.PULL_RETRY_IMMEDIATELY: PullStatus.NO_MATCHED_MESSAGE,
    ResponseCode.PULL_OFFSET_MOVED: PullStatus.OFFSET_ILLEGAL,
}


@dataclass(frozen=True, slots=True)
class PullResult:
    """Messages in queue order, and where the next pull begins; all offsets are queue offsets."""

    status: PullStatus
    next_offset: int
    min_offset: int
    max_offset: int
    messages: list[MessageView]


class Puller:
    """Pulls for one group, from the broker of each name that brokers recommend."""

    def __init__(self, instance: ClientInstance, group: str, namespace: str = "") -> None:
        self._namespace = namespace
        self._instance = instance
        self._group = group
        self._suggested: dict[MessageQueue, int] = {}
        self._retry_topic = names.retry_topic(group)
        # Names of brokers that have no lite pull: those before 5.0.
        self._without_lite: set[str] = set()

    def forget(self, queue: MessageQueue) -> None:
        """The queue is not pulled from any more."""
        self._suggested.pop(queue, None)

    async def pull(
        self,
        queue: MessageQueue,
        offset: int,
        subscription: SubscriptionData,
        *,
        count: int = PULL_COUNT,
        bytes_max: int = PULL_BYTES,
        commit_offset: int | None = None,
        suspend_ms: int = SUSPEND_MS,
        timeout_ms: int = PULL_TIMEOUT_MS,
        send_subscription: bool = False,
        lite: bool = False,
    ) -> PullResult:
        """Ask for messages from ``offset`` on; the broker may hold the request for ``suspend_ms`` when there are none.

        ``commit_offset`` is committed by the way. Messages that the tag filter lets through by a hash collision are left out.
        Raises BrokerUnavailable, RequestTimeout, RequestRefused.
        """
        address, is_slave = self._instance.routes.for_reading(queue.broker_name, self._suggested.get(queue, MASTER_ID))
        sys_flag = sysflags.PULL_SUSPEND if suspend_ms else 0
        if commit_offset is not None and not is_slave:
            sys_flag |= sysflags.PULL_COMMIT_OFFSET
        if send_subscription:
            sys_flag |= sysflags.PULL_SUBSCRIPTION
        if lite:
            sys_flag |= sysflags.PULL_LITE
        header = PullMessageRequestHeader(
            consumer_group=self._group,
            topic=queue.topic,
            queue_id=queue.queue_id,
            queue_offset=offset,
            max_msg_nums=count,
            sys_flag=sys_flag,
            commit_offset=0 if commit_offset is None else commit_offset,
            suspend_timeout_millis=suspend_ms,
            subscription=subscription.sub_string if send_subscription else None,
            sub_version=0 if lite else subscription.sub_version,
            expression_type=subscription.expression_type,
            max_msg_bytes=bytes_max,
            request_source=-1,
        )
        lite = lite and queue.broker_name not in self._without_lite
        code = RequestCode.LITE_PULL_MESSAGE if lite else RequestCode.PULL_MESSAGE
        answer = await self._instance.call(address, code, header, broker_name=queue.broker_name, timeout_ms=timeout_ms)
        if lite and answer.code == ResponseCode.REQUEST_CODE_NOT_SUPPORTED:
            self._without_lite.add(queue.broker_name)
            answer = await self._instance.call(
                address, RequestCode.PULL_MESSAGE, header, broker_name=queue.broker_name, timeout_ms=timeout_ms
            )
        status = _STATUSES.get(answer.code)  # type: ignore[call-overload]
        if status is None:
            raise refusal(answer.code, answer.remark, f"pull of {queue.topic}:{queue.queue_id} at {queue.broker_name}")
        result = answer.header(PullMessageResponseHeader)
        self._suggested[queue] = result.suggest_which_broker_id
        messages: list[MessageView] = []
        if status is PullStatus.FOUND:
            messages = self._messages(answer.body, queue, subscription, offset, result.offset_delta or 0)
        return PullResult(status, result.next_begin_offset, result.min_offset, result.max_offset, messages)

    def _messages(
        self, body: bytes, queue: MessageQueue, subscription: SubscriptionData, offset: int, offset_delta: int
    ) -> list[MessageView]:
        messages: list[MessageView] = []
        try:
            for view in view_messages(body, queue.broker_name, offset_delta):
                view.queue = queue
                if names.is_light_queue(queue.topic):
                    # The record bears its place in the topic; that in the light queue is noted beside it.
                    places = light_places(view.stored.topic, view.stored.properties)
                    view.queue_offset = places.get(queue.topic, view.queue_offset)
                if view.queue_offset < offset:
                    continue  # the head of an inner batch that was partly consumed before
                if subscription.tags_set and not is_wanted(subscription, view.tag):
                    continue
                if view.topic == self._retry_topic:
                    view.topic = view.properties.get(props.PROPERTY_RETRY_TOPIC, view.topic)
                if self._namespace:
                    view.topic = unqualified(self._namespace, view.topic)
                messages.append(view)
        except (RecordError, BatchError, ValueError) as error:
            raise ClientError(
                f"messages of {queue.topic}:{queue.queue_id} at {queue.broker_name} from offset {offset} cannot be read: {error}",
                hint="skip them: rocketmq group seek",
            ) from error
        return messages
