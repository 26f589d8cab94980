"""Errors of the protocol. Two are kept apart: a peer that breaks it (`FrameError`), and a request that fails (`RemotingError`)."""

from __future__ import annotations

from rocketmq_remoting.codes import ResponseCode


class FrameError(Exception):
    """Bytes that are no frame or no command; the connection cannot go on. The message is the reason for the log."""


class RemotingError(Exception):
    """A request answered with a code other than success; raised by handlers, and by clients that got such an answer."""

    def __init__(self, code: int, remark: str) -> None:
        super().__init__(remark)
        self.code = code
        self.remark = remark

    def __str__(self) -> str:
        try:
            name = ResponseCode(self.code).name
        except ValueError:
            name = "UNKNOWN"
        return f"{name}({self.code}): {self.remark}"


class HeaderError(RemotingError):
    """A request whose header fields are missing or of the wrong type; answered, the connection goes on."""

    def __init__(self, remark: str) -> None:
        super().__init__(ResponseCode.SYSTEM_ERROR, remark)


class RemotingConnectError(Exception):
    """The address cannot be reached, or the connection broke before the answer came."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"connect to {address} failed: {reason}")
        self.address = address


class RemotingTimeout(Exception):
    """No answer within the time given."""

    def __init__(self, address: str, code: int, timeout_ms: float) -> None:
        super().__init__(f"no answer from {address} to request {code} within {timeout_ms:g} ms")
        self.address = address
        self.code = code


class RemotingOverloaded(Exception):
    """This side has as many requests under way, or bytes unsent, as its limits allow."""
