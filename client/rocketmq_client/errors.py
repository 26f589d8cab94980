"""What can go wrong for a user of this library, one class per remedy. Every message says what happened and what to try."""

from __future__ import annotations

from rocketmq_remoting.codes import ResponseCode


class ClientError(Exception):
    """Base of all errors of this library. ``hint`` is what to try, in words for the user; empty when nothing is known."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint

    def __str__(self) -> str:
        text = super().__str__()
        return f"{text} ({self.hint})" if self.hint else text

    @property
    def what(self) -> str:
        """The message without the hint."""
        return super().__str__()


class ClientClosed(ClientError):
    """The producer, consumer or admin was used before ``start`` or after ``close``."""


class InvalidArgument(ClientError, ValueError):
    """A message, name or setting that no broker would take; found before anything was sent."""


class MessageTooLarge(InvalidArgument):
    """The body is larger than the client's or the broker's limit."""


class Unreachable(ClientError):
    """No connection could be made; nothing was processed unless the error is raised by a send that had begun."""


class NameServerUnavailable(Unreachable):
    """None of the name servers answered."""


class BrokerUnavailable(Unreachable):
    """The brokers that could serve the request cannot be reached, or the route names none."""


class RequestTimeout(ClientError, TimeoutError):
    """No answer in time; whether the broker processed the request is unknown."""


class RequestRefused(ClientError):
    """A broker or name server answered with an error ``code`` (`ResponseCode`) and its ``remark``."""

    def __init__(self, code: int, remark: str, *, context: str = "", hint: str = "") -> None:
        try:
            name = ResponseCode(code).name
        except ValueError:
            name = f"code {code}"
        where = f"{context}: " if context else ""
        super().__init__(f"{where}{name}: {remark}" if remark else f"{where}{name}", hint=hint)
        self.code = code
        self.remark = remark


class NotFound(RequestRefused):
    """What was asked for does not exist."""


class TopicNotFound(NotFound):
    """The topic has no route or is unknown to the broker."""


class GroupNotFound(NotFound):
    """The consumer group is unknown to the broker."""


class MessageNotFound(NotFound):
    """No message has this id, key or offset."""


class NobodyOnline(NotFound):
    """No consumer or producer of the group is connected."""


class PermissionDenied(RequestRefused):
    """The topic, group or broker forbids it, or the credentials do."""


class BrokerBusy(RequestRefused):
    """The broker protects itself; it may succeed a little later."""


_HINTS: dict[int, tuple[type[RequestRefused], str]] = {
    ResponseCode.TOPIC_NOT_EXIST: (TopicNotFound, "create it, for example: rocketmq topic create NAME"),
    ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST: (GroupNotFound, "create it, for example: rocketmq group create NAME"),
    ResponseCode.QUERY_NOT_FOUND: (NotFound, ""),
    ResponseCode.CONSUMER_NOT_ONLINE: (NobodyOnline, "start a consumer of the group"),
    ResponseCode.NO_PERMISSION: (
        PermissionDenied,
        "check the permission of topic, group and broker, and the credentials",
    ),
    ResponseCode.USER_NOT_EXIST: (PermissionDenied, "check the user name"),
    ResponseCode.SYSTEM_BUSY: (BrokerBusy, "send slower or try again"),
    ResponseCode.FLOW_CONTROL: (BrokerBusy, "send slower or try again"),
    ResponseCode.SERVICE_NOT_AVAILABLE: (BrokerBusy, "look at the broker: disk full, shutting down or read only"),
    ResponseCode.SUBSCRIPTION_PARSE_FAILED: (RequestRefused, "correct the tag or SQL expression"),
    ResponseCode.REQUEST_CODE_NOT_SUPPORTED: (RequestRefused, "this server version does not offer it"),
}


def refusal(code: int, remark: str | None, context: str = "") -> RequestRefused:
    """The error for an answer with ``code``; ``context`` says what was asked of whom."""
    kind, hint = _HINTS.get(code, (RequestRefused, ""))
    return kind(code, remark or "", context=context, hint=hint)
