"""The seam's real implementation on the official client, ``kubernetes.aio``.

Objects stay plain JSON: typed models would cost memory, and drop fields that they do not know.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from rocketmq_operator.kube.api import FIELD_MANAGER, ApiError, NotFound, Object, Objects, WatchEvent, kind_error
from rocketmq_operator.kube.resources import BY_KIND, PODS, Resource

REQUEST_TIMEOUT_SECONDS = 15.0
WATCH_TIMEOUT_SECONDS = 240
PAGE_SIZE = 500
LIST_PAGES_MAX = 200
MESSAGE_LENGTH_MAX = 2000
CONNECTIONS_MAX = 32

_APPLY = "application/apply-patch+yaml"
_MERGE = "application/merge-patch+json"
_JSON = "application/json"


async def connect(kubeconfig: str | None = None) -> KubernetesApi:
    """By the Pod's service account, or else by a kubeconfig (argument, ``KUBECONFIG``, the usual file).

    Raises kubernetes' ConfigException when there is none.
    """
    configuration = Configuration()
    if kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
        load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
    else:
        await load_kube_config(config_file=kubeconfig, client_configuration=configuration)  # type: ignore[no-untyped-call]
    configuration.connection_pool_maxsize = CONNECTIONS_MAX
    # Repeating is the work queue's business, with its own back-off.
    configuration.retries = None
    return KubernetesApi(ApiClient(configuration))


class KubernetesApi:
    """See `rocketmq_operator.kube.api.Api`. ``request_counts`` is by (verb, kind), for metrics."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.request_counts: dict[tuple[str, str], int] = {}
        self.error_counts: dict[int, int] = {}

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def list(self, resource: Resource, namespace: str | None, selector: str = "") -> Objects:
        """See the seam."""
        return (await self.list_at(resource, namespace, selector))[0]

    async def list_at(self, resource: Resource, namespace: str | None, selector: str = "") -> tuple[Objects, str]:
        """Like `list`, and the resourceVersion to watch from."""
        query = {"limit": str(PAGE_SIZE)}
        if selector:
            query["labelSelector"] = selector
        items: Objects = []
        for _ in range(LIST_PAGES_MAX):
            page = await self._request("list", resource, "GET", resource.path(namespace), query)
            for item in page.get("items") or ():
                item.setdefault("apiVersion", resource.api_version)
                item.setdefault("kind", resource.kind)
                items.append(item)
            metadata = page.get("metadata", {})
            if not metadata.get("continue"):
                return items, metadata.get("resourceVersion", "")
            query["continue"] = metadata["continue"]
        raise ApiError(0, "TooManyObjects", f"more than {LIST_PAGES_MAX * PAGE_SIZE} {resource.plural}")

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Object | None:
        """See the seam."""
        try:
            return await self._request("get", resource, "GET", resource.path(namespace, name))
        except NotFound:
            return None

    async def apply(self, manifest: Object, *, manager: str = FIELD_MANAGER, subresource: str = "") -> Object:
        """See the seam."""
        resource = BY_KIND[manifest["kind"]]
        metadata = manifest["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        query = {"fieldManager": manager, "force": "true"}
        return await self._request("patch", resource, "PATCH", path, query, manifest, _APPLY)

    async def create(self, resource: Resource, body: Object) -> Object:
        """See the seam."""
        path = resource.path(body["metadata"].get("namespace"))
        return await self._request("create", resource, "POST", path, {"fieldManager": FIELD_MANAGER}, body, _JSON)

    async def replace(self, resource: Resource, body: Object) -> Object:
        """See the seam."""
        path = resource.path(body["metadata"].get("namespace"), body["metadata"]["name"])
        return await self._request("update", resource, "PUT", path, {"fieldManager": FIELD_MANAGER}, body, _JSON)

    async def merge(self, resource: Resource, namespace: str, name: str, patch: Object) -> Object:
        """See the seam."""
        path = resource.path(namespace, name)
        return await self._request("patch", resource, "PATCH", path, {"fieldManager": FIELD_MANAGER}, patch, _MERGE)

    async def delete(self, resource: Resource, namespace: str, name: str, *, uid: str, orphan: bool = False) -> None:
        """See the seam."""
        body = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": uid},
            "propagationPolicy": "Orphan" if orphan else "Background",
        }
        try:
            await self._request("delete", resource, "DELETE", resource.path(namespace, name), None, body, _JSON)
        except NotFound:
            return

    async def evict(self, namespace: str, pod: str, *, uid: str) -> None:
        """See the seam."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        try:
            await self._request("evict", PODS, "POST", PODS.path(namespace, pod, "eviction"), None, body, _JSON)
        except NotFound:
            return

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[WatchEvent]:
        """See the seam."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_TIMEOUT_SECONDS),
            **({"labelSelector": selector} if selector else {}),
        }
        timeout = aiohttp.ClientTimeout(total=WATCH_TIMEOUT_SECONDS + 30, sock_read=WATCH_TIMEOUT_SECONDS + 15)
        response = await self._send("watch", resource, "GET", resource.path(namespace), query, None, _JSON, timeout)
        try:
            if response.status >= 300:
                raise _refused(response.status, await response.read())
            async for line in response.response.content:
                if not line.strip():
                    continue
                event = json.loads(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise kind_error(status.get("code", 0), status.get("reason", ""), status.get("message", ""))
                yield WatchEvent(event["type"], event["object"])
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "Unreachable", f"watch of {resource.plural}: {error or type(error).__name__}") from error
        finally:
            response.response.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _request(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Object | None = None,
        content_type: str = _JSON,
    ) -> Object:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS)
        response = await self._send(verb, resource, method, path, query, body, content_type, timeout)
        try:
            data = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiError(0, "Unreachable", f"{verb} {path}: {error or type(error).__name__}") from error
        finally:
            response.response.release()
        if response.status >= 300:
            self.error_counts[response.status] = self.error_counts.get(response.status, 0) + 1
            raise _refused(response.status, data)
        result: Object = json.loads(data)
        return result

    async def _send(
        self,
        verb: str,
        resource: Resource,
        method: str,
        path: str,
        query: dict[str, str] | None,
        body: Object | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> Any:
        key = (verb, resource.kind)
        self.request_counts[key] = self.request_counts.get(key, 0) + 1
        headers = {"Content-Type": content_type, "Accept": _JSON}
        request = await self._client.param_serialize(
            method=method,
            resource_path=path,
            query_params=list((query or {}).items()),
            header_params=headers,
            auth_settings=["BearerToken"],
        )
        method, url, headers, _, _ = request
        try:
            return await self._client.call_api(method, url, headers, body, _request_timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self.error_counts[0] = self.error_counts.get(0, 0) + 1
            raise ApiError(0, "Unreachable", f"{verb} {path}: {error or type(error).__name__}") from error


def _refused(status: int, data: bytes) -> ApiError:
    try:
        details = json.loads(data)
        reason, message = str(details.get("reason", "")), str(details.get("message", ""))
    except (ValueError, AttributeError):
        reason, message = "", data[:MESSAGE_LENGTH_MAX].decode(errors="replace")
    return kind_error(status, reason, message[:MESSAGE_LENGTH_MAX])
