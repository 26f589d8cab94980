"""Events: what the operator did to a cluster and why, for people who ask ``kubectl describe``.

The same words about the same object are written once in `REPEAT_SECONDS`: a condition says what lasts, an Event what happened.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from datetime import UTC, datetime

from rocketmq_common.clock import Clock
from rocketmq_operator.kube.api import Api, ApiError, Conflict, Object
from rocketmq_operator.kube.resources import EVENTS

logger = logging.getLogger(__name__)

REPEAT_SECONDS = 600.0
REMEMBERED_MAX = 5000
NOTE_LENGTH_MAX = 1000
CONTROLLER = "rocketmqkube.dev/operator"


class EventRecorder:
    """Writes Events; a failure to is logged, never raised: nothing depends on them."""

    def __init__(self, api: Api, clock: Clock, instance: str) -> None:
        self._api = api
        self._clock = clock
        self._instance = instance[:128]
        self._written: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    async def record(self, regarding: Object, reason: str, action: str, note: str, *, warning: bool = False) -> None:
        """One Event about ``regarding`` (apiVersion, kind, metadata); ``reason`` and ``action`` are UpperCamelCase words."""
        metadata = regarding["metadata"]
        key = (metadata.get("uid", ""), reason, note)
        now = self._clock.monotonic()
        last = self._written.get(key)
        if last is not None and now - last < REPEAT_SECONDS:
            return
        self._written[key] = now
        self._written.move_to_end(key)
        while len(self._written) > REMEMBERED_MAX:
            self._written.popitem(last=False)
        stamp = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        unique = hashlib.sha256(f"{key}{stamp}".encode()).hexdigest()[:16]
        body = {
            "apiVersion": EVENTS.api_version,
            "kind": EVENTS.kind,
            "metadata": {
                "name": f"{metadata['name']}.{unique}",
                "namespace": metadata.get("namespace", "default"),
            },
            "eventTime": stamp,
            "reportingController": CONTROLLER,
            "reportingInstance": self._instance,
            "reason": reason,
            "action": action,
            "note": note[:NOTE_LENGTH_MAX],
            "type": "Warning" if warning else "Normal",
            "regarding": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "name": metadata["name"],
                "namespace": metadata.get("namespace", "default"),
                "uid": metadata.get("uid", ""),
            },
        }
        try:
            await self._api.create(EVENTS, body)
        except Conflict:
            return
        except ApiError as error:
            logger.warning("event %s about %s is lost: %s", reason, metadata["name"], error)
