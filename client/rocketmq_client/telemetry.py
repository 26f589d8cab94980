"""What producers and consumers tell whoever measures them: `rocketmq_client.otel`, or the application itself."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from rocketmq_client.messages import Message, MessageView, SendReceipt


class Sending(Protocol):
    """A send under way."""

    @property
    def messages(self) -> Sequence[Message]:
        """The messages to be sent instead, most likely with the sender's context in their properties."""
        ...

    def sent(self, receipt: SendReceipt) -> None:
        """It succeeded; an exception leaves through the context manager."""
        ...


class Telemetry(Protocol):
    """Wraps each send with all its attempts, and each call of a listener."""

    def sending(self, group: str, messages: Sequence[Message]) -> AbstractContextManager[Sending]:
        """Around a send of one message, or of several as one batch."""
        ...

    def processing(self, group: str, message: MessageView) -> AbstractContextManager[None]:
        """Around a listener's work on a message; an exception that leaves it is a failure."""
        ...
