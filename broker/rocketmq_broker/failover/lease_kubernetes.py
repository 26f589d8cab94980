"""Leases of ``coordination.k8s.io/v1``: a client for this one resource, because the whole Kubernetes client costs 50 MB a broker.

Holder, duration and times are in the spec, as tools expect them; the rest is in annotations. Each write is conditional on the
resourceVersion and keeps whatever else stands in the object.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from rocketmq_broker.failover.lease import NO_LEASE, LeaseConflict, LeaseRecord, LeaseUnavailable, Observed
from rocketmq_common.clock import Clock
from rocketmq_common.settings import SettingsError

ANNOTATION_PREFIX = "rocketmqkube.dev/"
API_VERSION = "coordination.k8s.io/v1"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REQUEST_TIMEOUT_S = 2.0
HTTP_NOT_FOUND = 404
HTTP_CONFLICT = 409
_PLAIN = {"epoch": int, "renewals": int, "target": str, "unclean": str, "address": str, "haAddress": str}
_STRUCTURED = ("inSync", "offsets", "suspects")


class KubernetesLeaseStore:
    """The Lease ``name`` in ``namespace``. ``base_url`` and ``credentials`` (token, ``ca.crt``) are the Pod's unless given."""

    def __init__(
        self, base_url: str, namespace: str, name: str, clock: Clock, credentials: Path = SERVICE_ACCOUNT
    ) -> None:
        self._collection = f"{base_url}/apis/{API_VERSION}/namespaces/{namespace}/leases"
        self._url = f"{self._collection}/{name}"
        self._namespace = namespace
        self._name = name
        self._clock = clock
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None
        # The object that was read or written last, to write back what is not ours.
        self._object: dict[str, Any] = {}

    async def read(self) -> Observed:
        """See `LeaseStore.read`."""
        status, answer = await self._request("GET", self._url)
        if status == HTTP_NOT_FOUND:
            self._object = {}
            return NO_LEASE
        return self._take(answer)

    async def write(self, record: LeaseRecord, version: str, duration_ms: int) -> Observed:
        """See `LeaseStore.write`."""
        body = self._encode(record, version, duration_ms)
        if version:
            _, answer = await self._request("PUT", self._url, body)
        else:
            _, answer = await self._request("POST", self._collection, body)
        return self._take(answer)

    async def close(self) -> None:
        """Close the connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _request(
        self, method: str, url: str, body: Mapping[str, Any] | None = None
    ) -> tuple[int, dict[str, Any]]:
        try:
            if self._session is None:
                self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S))
            headers = {"Accept": "application/json", "Content-Type": "application/json"}
            tls: ssl.SSLContext | bool = True
            if url.startswith("https:"):
                # Read each time: the kubelet renews the token in place.
                headers["Authorization"] = f"Bearer {(self._credentials / 'token').read_text().strip()}"
                tls = ssl.create_default_context(cafile=str(self._credentials / "ca.crt"))
            data = None if body is None else msgspec.json.encode(body)
            async with self._session.request(method, url, data=data, headers=headers, ssl=tls) as response:
                content = await response.read()
        except (OSError, aiohttp.ClientError) as error:
            raise LeaseUnavailable(f"{method} {url}: {error or type(error).__name__}") from error
        if response.status == HTTP_CONFLICT:
            raise LeaseConflict(f"{url} has changed")
        if response.status == HTTP_NOT_FOUND and method == "GET":
            return response.status, {}
        if response.status >= 300:
            raise LeaseUnavailable(f"{method} {url}: {response.status} {content[:200].decode(errors='replace')}")
        try:
            return response.status, msgspec.json.decode(content, type=dict[str, Any])
        except msgspec.MsgspecError as error:
            raise LeaseUnavailable(f"{method} {url}: {error}") from error

    def _take(self, answer: dict[str, Any]) -> Observed:
        try:
            observed = Observed(record_of(answer), answer["metadata"]["resourceVersion"])
        except (msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
            raise LeaseUnavailable(f"Lease {self._name} cannot be understood: {error}") from error
        self._object = answer
        return observed

    def _encode(self, record: LeaseRecord, version: str, duration_ms: int) -> dict[str, Any]:
        metadata = dict(self._object.get("metadata", {})) or {"name": self._name, "namespace": self._namespace}
        metadata.pop("managedFields", None)
        if version:
            metadata["resourceVersion"] = version
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **_annotations(record)}
        before = self._object.get("spec") or {}
        now = _micro_time(self._clock.now_ms())
        is_new = before.get("holderIdentity") != record.holder
        spec: dict[str, Any] = {
            **before,
            "holderIdentity": record.holder,
            "leaseDurationSeconds": max(1, duration_ms // 1000),
            "renewTime": now,
        }
        if is_new:
            spec["acquireTime"] = now
            spec["leaseTransitions"] = int(before.get("leaseTransitions") or 0) + bool(record.holder)
        return {"apiVersion": API_VERSION, "kind": "Lease", "metadata": metadata, "spec": spec}


def record_of(lease: Mapping[str, Any]) -> LeaseRecord:
    """The record of a Lease object. Raises ValueError or msgspec.MsgspecError when annotations of ours cannot be read."""
    annotations = lease["metadata"].get("annotations") or {}
    values: dict[str, Any] = {"holder": (lease.get("spec") or {}).get("holderIdentity") or ""}
    for key, kind in _PLAIN.items():
        if text := annotations.get(ANNOTATION_PREFIX + _dashed(key)):
            values[key] = kind(text)
    for key in _STRUCTURED:
        if text := annotations.get(ANNOTATION_PREFIX + _dashed(key)):
            values[key] = msgspec.json.decode(text)
    return msgspec.convert(values, LeaseRecord)


def _annotations(record: LeaseRecord) -> dict[str, str]:
    values = msgspec.to_builtins(record)
    return {
        **{ANNOTATION_PREFIX + _dashed(key): str(values[key]) for key in _PLAIN},
        **{ANNOTATION_PREFIX + _dashed(key): msgspec.json.encode(values[key]).decode() for key in _STRUCTURED},
    }


def _dashed(key: str) -> str:
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in key)


def _micro_time(now_ms: int) -> str:
    return datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def in_cluster_url(environment: Mapping[str, str]) -> str:
    """Where the Pod reaches the API server. Raises SettingsError outside a Pod."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SettingsError(
            "failoverMode needs leaseDirectory outside a Kubernetes cluster: name a directory for leases"
        )
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
