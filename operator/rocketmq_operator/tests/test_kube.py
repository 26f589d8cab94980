"""Events and watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from rocketmq_common.clock import ManualClock
from rocketmq_operator import labels
from rocketmq_operator.kube.api import ApiError, Object, Objects, WatchEvent
from rocketmq_operator.kube.events import NOTE_LENGTH_MAX, REPEAT_SECONDS, EventRecorder
from rocketmq_operator.kube.resources import SERVICES, Resource
from rocketmq_operator.kube.watches import ChildWatch
from rocketmq_operator.tests.simulated_api import SimulatedApi

CLUSTER: Object = {
    "apiVersion": "rocketmqkube.dev/v1alpha1",
    "kind": "RocketMQCluster",
    "metadata": {"name": "orders", "namespace": "mq", "uid": "u"},
}


def events(api: SimulatedApi) -> list[Object]:
    return [item for (kind, _, _), item in api.objects.items() if kind == "Event"]


async def test_the_same_words_are_written_once_in_a_while() -> None:
    api, clock = SimulatedApi(), ManualClock()
    recorder = EventRecorder(api, clock, "operator-0")
    for _ in range(3):
        await recorder.record(CLUSTER, "Created", "ApplyObject", "Service a is created")
    await recorder.record(CLUSTER, "Created", "ApplyObject", "Service b is created")
    assert len(events(api)) == 2
    clock.advance(int(REPEAT_SECONDS * 1000))
    await recorder.record(CLUSTER, "Created", "ApplyObject", "Service a is created")
    assert len(events(api)) == 3


async def test_an_event_names_its_object_and_fits_the_limits() -> None:
    api = SimulatedApi()
    await EventRecorder(api, ManualClock(), "o" * 300).record(CLUSTER, "Refused", "Reconcile", "x" * 5000, warning=True)
    (event,) = events(api)
    assert event["regarding"]["uid"] == "u"
    assert (event["type"], len(event["note"]), len(event["reportingInstance"])) == ("Warning", NOTE_LENGTH_MAX, 128)


async def test_a_lost_event_stops_nothing() -> None:
    class Full(SimulatedApi):
        async def create(self, resource: Resource, body: Object) -> Object:
            raise ApiError(429, "TooManyRequests", "later")

    await EventRecorder(Full(), ManualClock(), "operator-0").record(CLUSTER, "Created", "ApplyObject", "x")


class Streams:
    """An API whose watch plays a script: each stream ends with its last event, or with an error."""

    def __init__(self, streams: list[list[WatchEvent | ApiError]]) -> None:
        self._streams = streams
        self.lists = 0
        self.versions: list[str] = []
        self.exhausted = asyncio.Event()

    async def list_at(self, resource: Resource, namespace: str | None, selector: str = "") -> tuple[Objects, str]:
        self.lists += 1
        return [item("listed")], "10"

    async def watch(
        self, resource: Resource, namespace: str | None, selector: str, version: str
    ) -> AsyncIterator[WatchEvent]:
        self.versions.append(version)
        if not self._streams:
            self.exhausted.set()
            await asyncio.Event().wait()
        for event in self._streams.pop(0):
            if isinstance(event, ApiError):
                raise event
            yield event


def item(cluster: str, version: str = "11") -> Object:
    return {"metadata": {"namespace": "mq", "labels": {labels.CLUSTER: cluster}, "resourceVersion": version}}


async def watched(streams: list[list[WatchEvent | ApiError]]) -> tuple[list[str], Streams]:
    api, woken = Streams(streams), list[str]()
    watch = ChildWatch(api, SERVICES, None, lambda _, cluster: woken.append(cluster), ManualClock().monotonic)  # type: ignore[arg-type]
    task = asyncio.create_task(watch.run())
    await asyncio.wait_for(api.exhausted.wait(), 10)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return woken, api


async def test_every_listed_and_changed_object_wakes_its_cluster() -> None:
    woken, api = await watched([[WatchEvent("ADDED", item("a")), WatchEvent("DELETED", item("b"))]])
    assert (woken, api.lists) == (["listed", "a", "b"], 1)


async def test_a_watch_goes_on_where_its_stream_ended() -> None:
    _, api = await watched([[WatchEvent("BOOKMARK", item("", "42"))]])
    assert api.versions == ["10", "42"]


async def test_a_version_that_is_too_old_means_a_new_list_so_that_nothing_is_missed() -> None:
    woken, api = await watched([[ApiError(410, "Expired", "too old")]])
    assert (woken, api.lists) == (["listed", "listed"], 2)


async def test_an_unreachable_server_is_asked_again() -> None:
    woken, api = await watched([[ApiError(0, "Unreachable", "refused")], [WatchEvent("MODIFIED", item("c"))]])
    assert woken == ["listed", "listed", "c"]
    assert api.lists == 2
