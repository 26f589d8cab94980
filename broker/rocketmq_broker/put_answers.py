"""From the store's put statuses to response codes (SendMessageProcessor.handlePutMessageResult)."""

from __future__ import annotations

from typing import Final

from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import Command, Response
from rocketmq_remoting.connection import Connection
from rocketmq_remoting.errors import RemotingError
from rocketmq_store.statuses import PutStatus

RESPONSE_CODES: Final = {
    PutStatus.PUT_OK: ResponseCode.SUCCESS,
    PutStatus.FLUSH_DISK_TIMEOUT: ResponseCode.FLUSH_DISK_TIMEOUT,
    PutStatus.FLUSH_SLAVE_TIMEOUT: ResponseCode.FLUSH_SLAVE_TIMEOUT,
    PutStatus.SLAVE_NOT_AVAILABLE: ResponseCode.SLAVE_NOT_AVAILABLE,
    PutStatus.IN_SYNC_REPLICAS_NOT_ENOUGH: ResponseCode.SYSTEM_ERROR,
    PutStatus.CREATE_MAPPED_FILE_FAILED: ResponseCode.SYSTEM_ERROR,
    PutStatus.MESSAGE_ILLEGAL: ResponseCode.MESSAGE_ILLEGAL,
    PutStatus.PROPERTIES_SIZE_EXCEEDED: ResponseCode.MESSAGE_ILLEGAL,
    PutStatus.SERVICE_NOT_AVAILABLE: ResponseCode.SERVICE_NOT_AVAILABLE,
    PutStatus.OS_PAGE_CACHE_BUSY: ResponseCode.SYSTEM_BUSY,
    PutStatus.UNKNOWN_ERROR: ResponseCode.SYSTEM_ERROR,
    PutStatus.LMQ_CONSUME_QUEUE_NUM_EXCEEDED: ResponseCode.SYSTEM_ERROR,
}

_REMARKS: Final = {
    PutStatus.IN_SYNC_REPLICAS_NOT_ENOUGH: "in-sync replicas not enough",
    PutStatus.CREATE_MAPPED_FILE_FAILED: "create mapped file failed, server is busy or broken.",
    PutStatus.MESSAGE_ILLEGAL: "the message is illegal",
    PutStatus.PROPERTIES_SIZE_EXCEEDED: "the properties of the message are too large",
    PutStatus.SERVICE_NOT_AVAILABLE: "service not available now",
    PutStatus.OS_PAGE_CACHE_BUSY: "[PC_SYNCHRONIZED]broker busy, start flow control for a while",
    PutStatus.UNKNOWN_ERROR: "UNKNOWN_ERROR",
}


def refusal(status: PutStatus, reason: str) -> RemotingError:
    """The error that answers an append which stored nothing."""
    remark = _REMARKS.get(status, status.name)
    return RemotingError(
        RESPONSE_CODES.get(status, ResponseCode.SYSTEM_ERROR), f"{remark}: {reason}" if reason else remark
    )


def answer_kept(connection: Connection, command: Command, ext: bytes, status: PutStatus) -> None:
    """The flush and the replicas that a message waited for ended: its place is told in any case, the code says how safe it is."""
    if status is PutStatus.PUT_OK:
        connection.respond(command, Response(0, ext))
    else:
        connection.respond(command, Response(RESPONSE_CODES.get(status, ResponseCode.SYSTEM_ERROR), ext, status.name))
