"""What applications send (`Message`) and receive (`MessageView`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from rocketmq_client.compression import decompress
from rocketmq_client.errors import InvalidArgument
from rocketmq_common import names, sysflags
from rocketmq_common import properties as props
from rocketmq_common.batches import decode_batch
from rocketmq_common.light_queues import SEPARATOR
from rocketmq_common.message_ids import unpack_host
from rocketmq_common.records import StoredMessage, decode_messages
from rocketmq_remoting.bodies import MessageQueue


@dataclass(slots=True, kw_only=True)
class Message:
    """A message to be sent.

    ``keys`` are looked up by `Admin.messages_by_key`; ``tag`` is what consumers filter by. ``delay_level`` 1…18 stands for
    1s 5s 10s 30s 1m 2m 3m 4m 5m 6m 7m 8m 9m 10m 20m 30m 1h 2h unless the broker says otherwise. ``delay_ms`` is any delay from the
    moment the broker has the message, ``deliver_at_ms`` a time in ms since the epoch; one of the three at most.
    Messages of one ``sharding_key`` go to one queue, in order. ``light_queues`` names inboxes in which the message stands too
    (`LitePullConsumer.light_queues`); the broker must allow them (enableLmq, enableMultiDispatch). ``priority``, from 0, is for
    topics with message.type=PRIORITY, of which pops take the highest first.
    """

    topic: str
    body: bytes
    tag: str = ""
    keys: tuple[str, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)
    delay_level: int = 0
    delay_ms: int = 0
    deliver_at_ms: int = 0
    sharding_key: str = ""
    light_queues: tuple[str, ...] = ()
    priority: int | None = None
    flag: int = 0
    wait_store_ok: bool = True


class SendStatus(Enum):
    """How safe an accepted message is. All four mean that it is stored; the last three that an asked-for copy is missing."""

    SEND_OK = 0
    FLUSH_DISK_TIMEOUT = 10
    FLUSH_SLAVE_TIMEOUT = 12
    SLAVE_NOT_AVAILABLE = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class SendReceipt:
    """The broker's word on one sent message.

    ``message_id`` was made here (unique id); ``offset_message_id`` names the place in the broker's log. Of a batch, both are
    comma-joined and ``queue_offset`` is that of the first message.
    """

    status: SendStatus
    message_id: str
    offset_message_id: str
    queue: MessageQueue
    queue_offset: int
    transaction_id: str | None = None
    recall_handle: str | None = None
    region_id: str | None = None
    is_trace_on: bool = True


class ConsumeResult(Enum):
    """A listener's verdict. ``LATER``: deliver again, after a growing delay (concurrent) or a moment (orderly)."""

    SUCCESS = "success"
    LATER = "later"


class MessageView:
    """A received message. Properties and body are decoded when first asked for.

    Offsets: ``queue_offset`` counts messages in ``queue``, ``physical_offset`` bytes in the broker's log. Times are ms since
    the epoch. ``topic`` is the topic subscribed to, also for a retried message, whose ``queue`` is one of the retry topic.
    """

    __slots__ = ("_body", "_properties", "queue", "queue_offset", "stored", "topic")

    def __init__(self, stored: StoredMessage, queue: MessageQueue, queue_offset: int | None = None) -> None:
        self.stored = stored
        self.queue = queue
        self.queue_offset = stored.queue_offset if queue_offset is None else queue_offset
        self.topic = stored.topic
        self._properties: dict[str, str] | None = None
        self._body: bytes | None = None

    @property
    def body(self) -> bytes:
        """The application's bytes, decompressed; raises DecompressionError when they are damaged."""
        if self._body is None:
            self._body = decompress(self.stored.body, self.stored.sys_flag)
        return self._body

    @property
    def properties(self) -> dict[str, str]:
        """All properties, RocketMQ's own included."""
        if self._properties is None:
            self._properties = props.parse_properties(self.stored.properties)
        return self._properties

    @property
    def tag(self) -> str:
        """The message's tag, empty when it has none."""
        return self.properties.get(props.PROPERTY_TAGS, "")

    @property
    def keys(self) -> tuple[str, ...]:
        """The message's keys."""
        return tuple(props.split_keys(self.properties.get(props.PROPERTY_KEYS, "")))

    @property
    def message_id(self) -> str:
        """The unique id that its producer made; the offset id when there is none."""
        return self.properties.get(props.PROPERTY_UNIQUE_KEY) or self.stored.message_id

    @property
    def offset_message_id(self) -> str:
        """The id that names the place in the broker's log."""
        return self.stored.message_id

    @property
    def physical_offset(self) -> int:
        """Byte position in the broker's log."""
        return self.stored.physical_offset

    @property
    def born_timestamp_ms(self) -> int:
        """When the producer made it."""
        return self.stored.born_timestamp

    @property
    def store_timestamp_ms(self) -> int:
        """When the broker stored it."""
        return self.stored.store_timestamp

    @property
    def born_host(self) -> str:
        """``ip:port`` of the producer."""
        host, port = unpack_host(self.stored.born_host)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def store_host(self) -> str:
        """``ip:port`` of the broker."""
        return self.stored.store_address

    @property
    def reconsume_times(self) -> int:
        """How often it was delivered before."""
        return self.stored.reconsume_times

    @property
    def sharding_key(self) -> str:
        """The key by which its queue was chosen, empty when there was none."""
        return self.properties.get(props.PROPERTY_SHARDING_KEY, "")

    @property
    def size(self) -> int:
        """Bytes of the stored body, which is what flow control counts."""
        return len(self.stored.body)

    def __repr__(self) -> str:
        return (
            f"<MessageView {self.topic} {self.queue.broker_name}:{self.queue.queue_id}@{self.queue_offset} "
            f"id={self.message_id} {len(self.stored.body)} bytes>"
        )


def view_messages(body: bytes, broker_name: str, offset_delta: int = 0) -> Iterator[MessageView]:
    """The messages of a pull or query answer; a stored inner batch comes out as its single messages.

    Raises RecordError at the first bytes that are no record.
    """
    for stored in decode_messages(body):
        queue = MessageQueue(stored.topic, broker_name, stored.queue_id)
        if stored.sys_flag & sysflags.INNER_BATCH and stored.sys_flag & sysflags.NEED_UNWRAP:
            yield from _unwrap(stored, queue, offset_delta)
        else:
            yield MessageView(stored, queue, stored.queue_offset + offset_delta)


def _unwrap(stored: StoredMessage, queue: MessageQueue, offset_delta: int) -> Iterator[MessageView]:
    outer = stored.property_map()
    first = int(outer.get(props.PROPERTY_INNER_BASE, stored.queue_offset))
    for index, entry in enumerate(decode_batch(decompress(stored.body, stored.sys_flag))):
        inner = StoredMessage(
            topic=stored.topic,
            body=entry.body,
            properties=entry.properties.decode(),
            queue_id=stored.queue_id,
            flag=entry.flag,
            queue_offset=first + index,
            physical_offset=stored.physical_offset,
            sys_flag=stored.sys_flag
            & ~(sysflags.COMPRESSED | sysflags.COMPRESSION_MASK | sysflags.INNER_BATCH | sysflags.NEED_UNWRAP),
            born_timestamp=stored.born_timestamp,
            born_host=stored.born_host,
            store_timestamp=stored.store_timestamp,
            store_host=stored.store_host,
            reconsume_times=stored.reconsume_times,
        )
        yield MessageView(inner, queue, first + index + offset_delta)


def wire_properties(message: Message, unique_id: str) -> dict[str, str]:
    """The property map of a message to be sent, in Java's terms.

    Raises InvalidArgument for names that RocketMQ reserves and for keys with blanks, which separate keys on the wire.
    """
    result: dict[str, str] = {}
    for name, value in message.properties.items():
        if name in props.RESERVED_PROPERTY_NAMES:
            raise InvalidArgument(f"property {name!r} is reserved by RocketMQ", hint="choose another name")
        if not name or not value:
            raise InvalidArgument(
                f"property {name!r} has an empty name or value", hint="RocketMQ drops such properties"
            )
        result[name] = value
    if message.keys:
        for key in message.keys:
            if not key or " " in key:
                raise InvalidArgument(f"key {key!r} is empty or holds a blank", hint="blanks separate keys")
        result[props.PROPERTY_KEYS] = " ".join(message.keys)
    if message.tag:
        if "|" in message.tag:
            raise InvalidArgument(f"tag {message.tag!r} holds a '|'", hint="'||' separates tags in subscriptions")
        result[props.PROPERTY_TAGS] = message.tag
    result.update(_delay_properties(message))
    if message.sharding_key:
        result[props.PROPERTY_SHARDING_KEY] = message.sharding_key
    if message.priority is not None:
        if message.priority < 0:
            raise InvalidArgument(f"priority {message.priority} is negative", hint="0 is the least urgent")
        result[props.PROPERTY_PRIORITY] = str(message.priority)
    if message.light_queues:
        named = SEPARATOR.join(light_queue_topic(name) for name in message.light_queues)
        result[props.PROPERTY_INNER_MULTI_DISPATCH] = named
    result[props.PROPERTY_UNIQUE_KEY] = unique_id
    result[props.PROPERTY_WAIT_STORE_OK] = "true" if message.wait_store_ok else "false"
    return result


def _delay_properties(message: Message) -> dict[str, str]:
    """How long it waits, in Java's terms. Raises InvalidArgument for a negative time, or several of them."""
    found = {
        name: value
        for name, value in (
            (props.PROPERTY_DELAY_LEVEL, message.delay_level),
            (props.PROPERTY_TIMER_DELAY_MS, message.delay_ms),
            (props.PROPERTY_TIMER_DELIVER_MS, message.deliver_at_ms),
        )
        if value
    }
    if len(found) > 1:
        raise InvalidArgument(
            "a message has one delay: a level, a duration or a time of delivery", hint="give one of them"
        )
    for name, value in found.items():
        if value < 0:
            hint = "use 1 to 18" if name == props.PROPERTY_DELAY_LEVEL else "leave it out to send at once"
            raise InvalidArgument(f"the delay ({name}) is negative: {value}", hint=hint)
    return {name: str(value) for name, value in found.items()}


def light_queue_topic(name: str) -> str:
    """The name under which brokers know the light queue ``name``; raises InvalidArgument when they would not take it."""
    if SEPARATOR in name or not name:
        raise InvalidArgument(f"light queue {name!r} is empty or holds a comma", hint="commas separate light queues")
    topic = name if names.is_light_queue(name) else names.LIGHT_QUEUE_PREFIX + name
    check_topic(topic)
    return topic


def check_topic(topic: str) -> None:
    """Raise InvalidArgument when ``topic`` is no name that an application may send to."""
    problem = names.topic_name_problem(topic)
    if problem is not None:
        raise InvalidArgument(problem)
    if topic in names.TOPICS_CLOSED_TO_CLIENTS:
        raise InvalidArgument(f"topic {topic} belongs to RocketMQ itself", hint="choose another topic")


def check_batch(messages: Sequence[Message]) -> Message:
    """The first of a batch's messages, which all agree in what a batch has once; raises InvalidArgument."""
    if not messages:
        raise InvalidArgument("the batch is empty")
    first = messages[0]
    check_topic(first.topic)
    if names.is_retry_topic(first.topic):
        raise InvalidArgument("a batch cannot go to a retry topic")
    for message in messages:
        if message.topic != first.topic:
            raise InvalidArgument(f"a batch is of one topic, not {first.topic} and {message.topic}")
        if message.delay_level or message.delay_ms or message.deliver_at_ms:
            raise InvalidArgument("a batch cannot be delayed", hint="send delayed messages one by one")
        if message.light_queues:
            raise InvalidArgument("a batch cannot stand in light queues", hint="send such messages one by one")
        if message.wait_store_ok != first.wait_store_ok:
            raise InvalidArgument("wait_store_ok differs within the batch")
    return first


def as_keys(keys: str | Iterable[str] | None) -> tuple[str, ...]:
    """``keys`` as given by a user: one, several or none."""
    if keys is None:
        return ()
    return (keys,) if isinstance(keys, str) else tuple(keys)


def make_message(
    topic: str | Message,
    body: bytes | str,
    *,
    tag: str,
    keys: str | Iterable[str] | None,
    properties: Mapping[str, str] | None,
    delay_level: int = 0,
    delay_ms: int = 0,
    deliver_at_ms: int = 0,
    sharding_key: str,
) -> Message:
    """The message that the arguments of a send describe."""
    if isinstance(topic, Message):
        return topic
    return Message(
        topic=topic,
        body=body.encode() if isinstance(body, str) else body,
        tag=tag,
        keys=as_keys(keys),
        properties=properties or {},
        delay_level=delay_level,
        delay_ms=delay_ms,
        deliver_at_ms=deliver_at_ms,
        sharding_key=sharding_key,
    )


def epoch_ms(moment: datetime) -> int:
    """ms since the epoch; a moment without a zone is local time."""
    return round(moment.timestamp() * 1000)
