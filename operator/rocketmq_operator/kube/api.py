"""The seam to the API server: the few calls that the operator makes, and how they fail."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, NamedTuple, Protocol

from rocketmq_operator.kube.resources import Resource

Object = dict[str, Any]
Objects = list[Object]  # `list` is a method of the seam

FIELD_MANAGER = "rocketmq-operator"
STATUS_MANAGER = "rocketmq-operator-status"


class ApiError(Exception):
    """The API server refused, or did not answer (``status`` 0). ``reason`` is Kubernetes' word, such as ``Conflict``."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{reason or status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message

    @property
    def is_refusal(self) -> bool:
        """The object itself is not acceptable: trying again without a change cannot help."""
        return self.status in (400, 403, 405, 413, 422)


class NotFound(ApiError):
    """404."""


class Conflict(ApiError):
    """409: someone else was faster, or the object exists."""


class TooManyRequests(ApiError):
    """429: too fast, or an eviction that a disruption budget forbids now."""


class WatchEvent(NamedTuple):
    """One change: ``type`` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object


class Api(Protocol):
    """What the operator asks of an API server. Every call raises ApiError or one of its kinds."""

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> Objects:
        """All objects, as they are now (no stale cache), with apiVersion and kind filled in."""
        ...

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """One object, or None."""
        ...

    async def apply(self, manifest: Object, *, manager: str = FIELD_MANAGER, subresource: str = "") -> Object:
        """Server-side apply with force; returns the object as it is then."""
        ...

    async def create(self, resource: Resource, body: Object) -> Object:
        """Create; raises Conflict when it exists."""
        ...

    async def replace(self, resource: Resource, body: Object) -> Object:
        """Write the whole object; raises Conflict unless its resourceVersion is the current one."""
        ...

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """A merge patch; with ``metadata.resourceVersion`` in it raises Conflict unless that is the current one."""
        ...

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str, orphan: bool = False) -> None:
        """Delete exactly the object with this uid; an absent one is no error. ``orphan`` leaves dependents alone."""
        ...

    async def evict(self, namespace: str, pod: str, *, uid: str) -> None:
        """Delete a Pod with its disruption budget's consent; raises TooManyRequests without it."""
        ...

    def watch(
        self, resource: Resource, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[WatchEvent]:
        """Changes after ``version``, until the server ends the stream; raises ApiError 410 when ``version`` is too old."""
        ...


def kind_error(status: int, reason: str, message: str) -> ApiError:
    """The error class that fits a status."""
    kinds = {404: NotFound, 409: Conflict, 429: TooManyRequests}
    return kinds.get(status, ApiError)(status, reason, message)
