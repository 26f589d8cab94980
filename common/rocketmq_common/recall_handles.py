"""Recall handles: what a sender of a timer message gets to take it back with (RecallMessageHandle, version 1).

URL-safe base64, with padding, of ``v1 topic broker-name due-time-ms unique-key``, separated by blanks.
"""

from __future__ import annotations

import base64
import binascii
from typing import Final, NamedTuple

_VERSION: Final = "v1"
HANDLE_LENGTH_MAX: Final = 4096


class RecallHandle(NamedTuple):
    """Which message: where it is going, the broker where it waits, when it is due (ms), its unique key."""

    topic: str
    broker_name: str
    due_ms: int
    unique_key: str

    def encode(self) -> str:
        """The text that a client keeps."""
        text = f"{_VERSION} {self.topic} {self.broker_name} {self.due_ms} {self.unique_key}"
        return base64.urlsafe_b64encode(text.encode()).decode()


def decode_recall_handle(text: str) -> RecallHandle:
    """Read a handle. Raises ValueError saying what is wrong with it."""
    if len(text) > HANDLE_LENGTH_MAX:
        raise ValueError(f"recall handle is invalid: {len(text)} characters, {HANDLE_LENGTH_MAX} at most")
    try:
        raw = base64.b64decode(text.encode(), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError) as error:
        raise ValueError(f"recall handle is invalid: {error}") from error
    version, *parts = raw.split(" ")
    if version != _VERSION or len(parts) != 4:
        raise ValueError("recall handle is invalid: it does not name topic, broker, time and message")
    topic, broker_name, due, unique_key = parts
    if not due.isdecimal() or len(due) > 19:
        raise ValueError(f"recall handle is invalid: {due!r} is no time in ms")
    return RecallHandle(topic, broker_name, int(due), unique_key)
