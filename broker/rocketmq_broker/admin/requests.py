"""What the administration handlers have in common: reading bodies, paging, refusing."""

from __future__ import annotations

from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from rocketmq_common import javajson
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.errors import RemotingError

# An answer must stay well below the 16 MiB that a frame may have; an entry of the largest kind takes some 200 bytes.
ENTRIES_MAX: Final = 50_000

V = TypeVar("V")


def body_of(command: Command) -> Any:
    """The request's body as plain values; raises RemotingError when it is no JSON of any dialect."""
    try:
        return javajson.loads(command.body)
    except javajson.JavaJsonError as error:
        raise invalid(f"body of request {command.code}: {error}") from error


def object_body(command: Command) -> dict[str, Any]:
    """As `body_of`, when an object is needed."""
    value = body_of(command)
    if not isinstance(value, dict):
        raise invalid(f"body of request {command.code}: an object is needed")
    return value


def list_in(value: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The list of objects under ``name``; raises RemotingError naming it."""
    found = value.get(name)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise invalid(f"{name}: a list of objects is needed")
    return found


def converted(error: msgspec.ValidationError, what: str) -> RemotingError:
    """The refusal for a value that does not fit its field; msgspec's message names the field."""
    return invalid(f"{what}: {error}")


def invalid(remark: str) -> RemotingError:
    """INVALID_PARAMETER."""
    return RemotingError(ResponseCode.INVALID_PARAMETER, remark)


def no_topic(topic: str) -> RemotingError:
    """TOPIC_NOT_EXIST."""
    return RemotingError(ResponseCode.TOPIC_NOT_EXIST, f"topic[{topic}] not exist")


def no_group(group: str) -> RemotingError:
    """SUBSCRIPTION_GROUP_NOT_EXIST."""
    return RemotingError(ResponseCode.SUBSCRIPTION_GROUP_NOT_EXIST, f"No group in this broker. group: {group}")


def page(table: dict[str, V], start: int | None, count: int | None) -> dict[str, V]:
    """Entries ``start`` to ``start + count`` of ``table``; all of it when no page was asked for.

    Raises RemotingError when that is more than one answer may carry: the caller must ask page by page.
    """
    if start is None:
        if len(table) > ENTRIES_MAX:
            raise RemotingError(
                ResponseCode.SYSTEM_ERROR, f"{len(table)} entries are too many for one answer: ask for pages"
            )
        return table
    if start < 0:
        raise invalid(f"page begins at {start}: 0 or more is needed")
    size = ENTRIES_MAX if count is None or count <= 0 else min(count, ENTRIES_MAX)
    return dict(islice(table.items(), start, start + size))
