"""Leader election by one Lease: all replicas keep their watches warm, one works.

A lease is taken over only after its record did not change for its whole duration by the observer's own monotonic clock, so clocks
of different machines are never compared. A leader that could not renew for `RENEW_DEADLINE_SECONDS`, counted from when the last
successful renewal was *sent*, stops before anyone else may begin.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from rocketmq_common.clock import Clock
from rocketmq_operator.kube.api import Api, ApiError, Conflict, Object
from rocketmq_operator.kube.resources import LEASES

logger = logging.getLogger(__name__)

DURATION_SECONDS = 15
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0


class Leadership:
    """One candidate. ``on_lost`` is called once when leadership ends without having been given up."""

    def __init__(
        self, api: Api, clock: Clock, namespace: str, name: str, identity: str, on_lost: Callable[[], None]
    ) -> None:
        self._api = api
        self._clock = clock
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._on_lost = on_lost
        self._observed: tuple[str, str, int] | None = None
        self._observed_at = 0.0
        self._renewed_at: float | None = None
        self._elected = asyncio.Event()

    @property
    def is_leader(self) -> bool:
        """Whether work may be done now."""
        return self._renewed_at is not None and self._clock.monotonic() - self._renewed_at < RENEW_DEADLINE_SECONDS

    async def wait(self) -> None:
        """Until this candidate leads."""
        await self._elected.wait()

    async def run(self) -> None:
        """Stand for election and renew until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(RETRY_SECONDS)

    async def step(self) -> None:
        """One attempt to acquire or renew."""
        led = self._renewed_at is not None
        sent_at = self._clock.monotonic()
        try:
            if await self._attempt(sent_at):
                self._renewed_at = sent_at
                if not led:
                    logger.info("%s leads", self._identity)
                self._elected.set()
            elif led:
                self._lose("another replica holds the lease")
        except ApiError as error:
            logger.warning("lease %s/%s: %s", self._namespace, self._name, error)
            if led and not self.is_leader:
                self._lose(f"not renewed for {RENEW_DEADLINE_SECONDS:g} s")

    async def release(self) -> None:
        """Give the lease back, so that a successor need not wait."""
        if self._renewed_at is None:
            return
        self._renewed_at = None
        self._elected.clear()
        try:
            lease = await self._api.get(LEASES, self._namespace, self._name)
            if lease is not None and lease["spec"].get("holderIdentity") == self._identity:
                lease["spec"]["holderIdentity"] = ""
                lease["spec"]["leaseDurationSeconds"] = 1
                await self._api.replace(LEASES, lease)
        except ApiError as error:
            logger.warning("lease %s/%s is not released: %s", self._namespace, self._name, error)

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _attempt(self, sent_at: float) -> bool:
        lease = await self._api.get(LEASES, self._namespace, self._name)
        try:
            if lease is None:
                await self._api.create(LEASES, self._record(None))
                return True
            if not self._may_take(lease, sent_at):
                return False
            await self._api.replace(LEASES, self._record(lease))
        except Conflict:
            return False
        return True

    def _may_take(self, lease: Object, now: float) -> bool:
        spec = lease.get("spec", {})
        holder = spec.get("holderIdentity") or ""
        if holder in ("", self._identity):
            return True
        seen = (holder, str(spec.get("renewTime")), int(spec.get("leaseTransitions") or 0))
        if seen != self._observed:
            self._observed, self._observed_at = seen, now
            return False
        return now - self._observed_at > int(spec.get("leaseDurationSeconds") or DURATION_SECONDS)

    def _record(self, lease: Object | None) -> Object:
        now = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        old = (lease or {}).get("spec", {})
        same = old.get("holderIdentity") == self._identity
        transitions = int(old.get("leaseTransitions") or 0)
        metadata = lease["metadata"] if lease else {"name": self._name, "namespace": self._namespace}
        return {
            "apiVersion": LEASES.api_version,
            "kind": LEASES.kind,
            "metadata": metadata,
            "spec": {
                "holderIdentity": self._identity,
                "leaseDurationSeconds": DURATION_SECONDS,
                "acquireTime": old.get("acquireTime", now) if same else now,
                "renewTime": now,
                "leaseTransitions": transitions if same or lease is None else transitions + 1,
            },
        }

    def _lose(self, why: str) -> None:
        logger.error("%s leads no more: %s", self._identity, why)
        self._renewed_at = None
        self._elected.clear()
        self._on_lost()
