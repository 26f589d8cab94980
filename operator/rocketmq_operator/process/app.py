"""Composition: the only place that constructs the operator's parts, and knows in which order they start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator

from rocketmq_common.clock import Clock, SystemClock
from rocketmq_common.exposition import Family
from rocketmq_common.tasks import TaskRegistry
from rocketmq_operator.admin.access import BrokerAccess
from rocketmq_operator.companions.groups import GroupReconciler
from rocketmq_operator.companions.topics import TopicReconciler
from rocketmq_operator.kube.api import ApiError
from rocketmq_operator.kube.client import KubernetesApi
from rocketmq_operator.kube.events import EventRecorder
from rocketmq_operator.kube.leadership import Leadership
from rocketmq_operator.kube.resources import CLUSTERS, CONSUMER_GROUPS, TOPICS
from rocketmq_operator.kube.watches import WATCHED, ChildWatch
from rocketmq_operator.process.event_source import watch_own_kinds
from rocketmq_operator.process.metrics import ReconcileMetrics, gauge, labelled
from rocketmq_operator.process.settings import OperatorSettings
from rocketmq_operator.process.web import WebServer
from rocketmq_operator.process.work_queue import Key, WorkQueue
from rocketmq_operator.reconcile.reconciler import Reconciler

logger = logging.getLogger(__name__)

# Silence longer than this means a watch that will not speak again, or workers that hang: a restart is the cure.
WATCH_SILENCE_SECONDS_MAX = 900.0
QUEUE_AGE_SECONDS_MAX = 300.0
STOP_WORKERS_SECONDS = 5.0

Work = Callable[[str, str], Awaitable[float | None]]


class Operator:
    """The whole operator. `run` returns when it should end; ``failure`` says why if that was not asked for."""

    def __init__(
        self, settings: OperatorSettings, api: KubernetesApi, brokers: BrokerAccess, clock: Clock | None = None
    ) -> None:
        self._settings = settings
        self._api = api
        self._clock = clock or SystemClock()
        self.queue = WorkQueue()
        self._tasks = TaskRegistry(fatal=self._fatal)
        self._stop = asyncio.Event()
        self._ready = asyncio.Event()
        self.failure = ""
        events = EventRecorder(api, self._clock, settings.identity)
        self.clusters = Reconciler(api, brokers, self._clock, events)
        topics = TopicReconciler(api, brokers, self._clock, events)
        groups = GroupReconciler(api, brokers, self._clock, events)
        self._work: dict[str, Work] = {
            CLUSTERS.kind: self.clusters.reconcile,
            TOPICS.kind: topics.reconcile,
            CONSUMER_GROUPS.kind: groups.reconcile,
        }
        self.leadership = Leadership(
            api, self._clock, settings.namespace, settings.lease_name, settings.identity, self._leadership_lost
        )
        self.metrics = ReconcileMetrics()
        self._own_kinds_seen = self._clock.monotonic()
        self._watches = [
            ChildWatch(api, resource, namespace, self._wake_cluster, self._clock.monotonic)
            for resource in WATCHED
            for namespace in (settings.watch_namespaces or (None,))
        ]
        self.web = WebServer(self._dead, self._unready, self._families)

    async def run(self) -> None:
        """Until a signal, `stop`, or a failure."""
        await self.web.start(self._settings.http_host, self._settings.http_port)
        self._tasks.start(self.leadership.run(), "leader election", critical=True)
        for watch in self._watches:
            self._tasks.start(watch.run(), f"watch of {watch.resource.plural}", critical=True)
        self._tasks.start(self._resync(), "resync", critical=True)
        workers = [
            self._tasks.start(self._worker(), f"worker {number}", critical=True)
            for number in range(self._settings.workers)
        ]
        try:
            await watch_own_kinds(self._settings, self.queue.add, self._saw_own_kind, self._stop, self._ready)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.wait(workers, timeout=STOP_WORKERS_SECONDS)
            await self._tasks.stop()
            await self.leadership.release()
            await self.web.stop()

    def stop(self) -> None:
        """Ask `run` to return."""
        self._stop.set()

    # -- inside ------------------------------------------------------------------------------------------------------

    async def _worker(self) -> None:
        while True:
            await self.leadership.wait()
            key = await self.queue.take()
            if not self.leadership.is_leader:
                self.queue.done(key, 0.0)
                await asyncio.sleep(0.1)
                continue
            started = self._clock.monotonic()
            try:
                again = await self._work[key.kind](key.namespace, key.name)
            except ApiError as error:
                pause = self.queue.failed(key)
                logger.warning("%s %s/%s: %s; again in %.1f s", *key, error, pause)
                self.metrics.observe(key.kind, "error", self._clock.monotonic() - started)
            except asyncio.CancelledError:
                raise
            except Exception:
                pause = self.queue.failed(key)
                logger.exception("%s %s/%s: again in %.1f s", *key, pause)
                self.metrics.observe(key.kind, "error", self._clock.monotonic() - started)
            else:
                self.queue.done(key, again)
                self.metrics.observe(key.kind, "success", self._clock.monotonic() - started)

    async def _resync(self) -> None:
        while True:
            await asyncio.sleep(self._settings.resync_seconds)
            for resource in (CLUSTERS, TOPICS, CONSUMER_GROUPS):
                for namespace in self._settings.watch_namespaces or (None,):
                    try:
                        items = await self._api.list(resource, namespace)
                    except ApiError as error:
                        logger.warning("resync of %s: %s", resource.plural, error)
                        continue
                    self._saw_own_kind()
                    for item in items:
                        metadata = item["metadata"]
                        self.queue.add(Key(resource.kind, metadata.get("namespace", ""), metadata["name"]))

    def _wake_cluster(self, namespace: str, name: str) -> None:
        self.queue.add(Key(CLUSTERS.kind, namespace, name))

    def _saw_own_kind(self) -> None:
        self._own_kinds_seen = self._clock.monotonic()

    def _leadership_lost(self) -> None:
        self.failure = "leadership was lost"
        self._stop.set()

    def _fatal(self, error: BaseException) -> None:
        self.failure = f"a part of the operator died: {error!r}"
        self._stop.set()

    def _silence(self) -> float:
        seen = [watch.last_seen for watch in self._watches]
        return self._clock.monotonic() - min([self._own_kinds_seen, *seen])

    def _dead(self) -> str:
        if self._silence() > WATCH_SILENCE_SECONDS_MAX:
            return f"a watch has been silent for {self._silence():.0f} s"
        if self.leadership.is_leader and self.queue.oldest_age > QUEUE_AGE_SECONDS_MAX:
            return f"work has been waiting for {self.queue.oldest_age:.0f} s"
        return ""

    def _unready(self) -> str:
        return self._dead() or ("" if self._ready.is_set() else "the first lists are not there yet")

    def _families(self) -> Iterator[Family]:
        yield from self.metrics.families()
        yield gauge("queue_depth", "Objects that wait to be looked at.", len(self.queue))
        yield gauge("queue_oldest_age_seconds", "How long the oldest of them has been due.", self.queue.oldest_age)
        yield gauge("leader", "1 when this replica works.", int(self.leadership.is_leader))
        yield gauge("watch_silence_seconds", "Since the last event of the most silent watch.", self._silence())
        steps = self.clusters.step_counts
        yield labelled("steps_total", "Steps carried out.", ("step", "reason"), steps.items())
        yield labelled(
            "api_requests_total", "Requests to the API server.", ("verb", "kind"), self._api.request_counts.items()
        )
        refused = {(str(status),): count for status, count in self._api.error_counts.items()}
        yield labelled("api_errors_total", "Refused requests by status; 0: no answer.", ("status",), refused.items())
        yield gauge("status_writes_total", "Statuses written.", self.clusters.status_writes)
