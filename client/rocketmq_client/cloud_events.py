"""CloudEvents as messages (extra ``cloudevents``), in the binary mode that the CloudEvents SDK for Java uses with RocketMQ.

Attributes and extensions are properties ``CE_<name>``; only the content type of the data is called ``CE_contenttype``. The
body is the data. A message whose ``CE_contenttype`` is ``application/cloudevents+json`` holds a whole event (structured mode)
and is read too. Extensions that Java wrote without prefix cannot be told from other properties and are not read.

```python
from cloudevents.core.v1.event import CloudEvent
from rocketmq_client.cloud_events import event_of, message_of

event = CloudEvent({"type": "order.created", "source": "/shop", "id": "1"}, {"total": 7})
await producer.send(message_of("orders", event))
```
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

try:
    from cloudevents.core.base import BaseCloudEvent  # type: ignore[import-not-found,unused-ignore]
    from cloudevents.core.formats.json import JSONFormat  # type: ignore[import-not-found,unused-ignore]
    from cloudevents.core.v1.event import CloudEvent  # type: ignore[import-not-found,unused-ignore]
except ModuleNotFoundError as error:
    raise ImportError(
        "rocketmq_client.cloud_events needs the package cloudevents: pip install 'rocketmq-kube[cloudevents]'"
    ) from error

from rocketmq_client.errors import InvalidArgument
from rocketmq_client.messages import Message, MessageView

PREFIX: Final = "CE_"
CONTENT_TYPE: Final = "CE_contenttype"
STRUCTURED: Final = "application/cloudevents"
STRUCTURED_JSON: Final = "application/cloudevents+json"
_CONTENT_TYPE_ATTRIBUTE: Final = "datacontenttype"


def message_of(
    topic: str, event: BaseCloudEvent, *, structured: bool = False, tag: str = "", keys: tuple[str, ...] = ()
) -> Message:
    """The message that carries ``event``; without ``keys`` it is found by the event's id.

    An extension ``partitionkey`` becomes the sharding key, so that events of one key stay in order.
    """
    format_ = JSONFormat()
    attributes = event.get_attributes()
    sharding_key = str(event.get_extension("partitionkey") or "")
    event_id = event.get_id()
    found_keys = keys or ((event_id,) if event_id and " " not in event_id else ())
    if structured:
        properties = {CONTENT_TYPE: STRUCTURED_JSON}
        body: bytes = format_.write(event)
    else:
        properties = {_property(name): _text(value) for name, value in attributes.items() if value is not None}
        body = format_.write_data(event.get_data(), attributes.get(_CONTENT_TYPE_ATTRIBUTE))
    return Message(
        topic=topic,
        body=body,
        tag=tag,
        keys=found_keys,
        properties=properties,
        sharding_key=sharding_key,
    )


def event_of(message: MessageView) -> CloudEvent:
    """The event in ``message``; raises InvalidArgument when it holds none, or one with wrong attributes."""
    format_ = JSONFormat()
    properties = message.properties
    content_type = properties.get(CONTENT_TYPE)
    try:
        if content_type is not None and content_type.startswith(STRUCTURED):
            if not content_type.startswith(STRUCTURED_JSON):
                raise InvalidArgument(f"events in the format {content_type} are not understood")
            whole = format_.read(CloudEvent, message.body)
            assert isinstance(whole, CloudEvent)
            return whole
        attributes: dict[str, Any] = {
            name.removeprefix(PREFIX): value
            for name, value in properties.items()
            if name.startswith(PREFIX) and name != CONTENT_TYPE
        }
        if "specversion" not in attributes:
            raise InvalidArgument(f"message {message.message_id} is no CloudEvent: it has no {PREFIX}specversion")
        if content_type is not None:
            attributes[_CONTENT_TYPE_ATTRIBUTE] = content_type
        if "time" in attributes:
            attributes["time"] = datetime.fromisoformat(attributes["time"])
        return CloudEvent(attributes, format_.read_data(message.body, content_type))
    except InvalidArgument:
        raise
    except Exception as error:
        # The package raises groups of errors of its own, and ValueError for what is no JSON.
        raise InvalidArgument(f"message {message.message_id} holds no valid CloudEvent: {error}") from error


def _property(name: str) -> str:
    return CONTENT_TYPE if name == _CONTENT_TYPE_ATTRIBUTE else PREFIX + name


def _text(value: Any) -> str:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
