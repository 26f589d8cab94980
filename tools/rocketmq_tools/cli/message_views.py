"""How received messages are printed."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from rocketmq_tools.cli.values import iso

if TYPE_CHECKING:
    from rocketmq_client import MessageView

COLUMNS = ("STORED", "TOPIC", "QUEUE", "OFFSET", "TAG", "KEYS", "BODY")
BODY_WIDTH = 80
FORMAT_HELP = r"""%t topic, %B broker, %q queue id, %o offset, %k keys, %g tag, %b body, %i message id, %I offset id,
%s store time, %c creation time, %r deliveries before, %p properties, %% percent sign; \n \t \0 as in C."""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "\\": "\\"}


def as_data(view: MessageView) -> dict[str, Any]:
    """The JSON form; a body that is no UTF-8 text stands in ``body_base64`` instead of ``body``."""
    data: dict[str, Any] = {
        "topic": view.topic,
        "broker": view.queue.broker_name,
        "queue_id": view.queue.queue_id,
        "queue_offset": view.queue_offset,
        "message_id": view.message_id,
        "offset_message_id": view.offset_message_id,
        "tag": view.tag,
        "keys": list(view.keys),
        "born_timestamp_ms": view.born_timestamp_ms,
        "store_timestamp_ms": view.store_timestamp_ms,
        "born_host": view.born_host,
        "store_host": view.store_host,
        "reconsume_times": view.reconsume_times,
        "properties": view.properties,
    }
    try:
        data["body"] = view.body.decode()
    except UnicodeDecodeError:
        data["body_base64"] = base64.b64encode(view.body).decode()
    return data


def as_row(view: MessageView) -> list[Any]:
    """One row under `COLUMNS`."""
    return [
        iso(view.store_timestamp_ms),
        view.topic,
        f"{view.queue.broker_name}:{view.queue.queue_id}",
        view.queue_offset,
        view.tag,
        " ".join(view.keys),
        shortened(body_text(view)),
    ]


def as_line(view: MessageView) -> str:
    """One line for a stream, whose widths cannot be known beforehand."""
    row = [("-" if cell in ("", None) else str(cell)) for cell in as_row(view)[2:6]]
    return f"{iso(view.store_timestamp_ms)}  {view.topic}  {row[0]}@{row[1]}  {row[2]}  {row[3]}  {body_text(view)}"


def body_text(view: MessageView) -> str:
    """The body on one line; bytes that are no text as ``\\xff``."""
    return view.body.decode("utf-8", "backslashreplace").replace("\r", "\\r").replace("\n", "\\n")


def shortened(text: str) -> str:
    """``text`` as far as a cell of a table has room."""
    return text if len(text) <= BODY_WIDTH else text[: BODY_WIDTH - 1] + "…"


def as_bytes(view: MessageView, layout: str) -> bytes:
    """``layout`` with its verbs filled in (`FORMAT_HELP`); the body as it is. Raises ValueError for an unknown verb."""
    out = bytearray()
    position = 0
    while position < len(layout):
        char = layout[position]
        following = layout[position + 1 : position + 2]
        if char == "\\" and following in _ESCAPES:
            out += _ESCAPES[following].encode()
            position += 2
        elif char == "%":
            out += _verb(view, following)
            position += 2
        else:
            out += char.encode()
            position += 1
    return bytes(out)


def _verb(view: MessageView, verb: str) -> bytes:
    if verb == "b":
        return view.body
    values: dict[str, Any] = {
        "t": view.topic,
        "B": view.queue.broker_name,
        "q": view.queue.queue_id,
        "o": view.queue_offset,
        "k": " ".join(view.keys),
        "g": view.tag,
        "i": view.message_id,
        "I": view.offset_message_id,
        "s": iso(view.store_timestamp_ms) or "",
        "c": iso(view.born_timestamp_ms) or "",
        "r": view.reconsume_times,
        "p": ",".join(f"{name}={value}" for name, value in sorted(view.properties.items())),
        "%": "%",
    }
    if verb not in values or not verb:
        raise ValueError(
            f"%{verb} is no verb of a format; known are {', '.join('%' + v for v in sorted([*values, 'b']))}"
        )
    return str(values[verb]).encode()
