"""A kubelet for Pods that run nothing: it gives each an address and says that it is ready, unless its image is called bad."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from rocketmq_operator.kube.api import ApiError, Object
from rocketmq_operator.kube.client import KubernetesApi
from rocketmq_operator.kube.resources import CLAIMS, PODS

PERIOD_SECONDS = 0.1


class SimulatedKubelet:
    """An async context manager. Addresses are of loopback, where nobody listens."""

    def __init__(self, api: KubernetesApi) -> None:
        self._api = api
        self._addresses = (f"127.77.{n // 250}.{n % 250 + 1}" for n in itertools.count())
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> SimulatedKubelet:
        self._task = asyncio.create_task(self._run(), name="simulated kubelet")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(ApiError):
                for pod in await self._api.list(PODS, None):
                    if not pod.get("status", {}).get("podIP"):
                        await self._start(pod)
                for claim in await self._api.list(CLAIMS, None):
                    wanted = claim["spec"]["resources"]["requests"]["storage"]
                    if (claim.get("status", {}).get("capacity") or {}).get("storage") != wanted:
                        await self._say(claim, {"phase": "Bound", "capacity": {"storage": wanted}})
            await asyncio.sleep(PERIOD_SECONDS)

    async def _start(self, pod: Object) -> None:
        container = pod["spec"]["containers"][0]
        address = next(self._addresses)
        if "bad" in container["image"]:
            waiting = {"reason": "ImagePullBackOff", "message": f"no image {container['image']}"}
            state = {"state": {"waiting": waiting}, "ready": False}
        else:
            state = {"state": {"running": {}}, "ready": True}
        ready = "True" if state["ready"] else "False"
        await self._say(
            pod,
            {
                "phase": "Running" if state["ready"] else "Pending",
                "podIP": address,
                "podIPs": [{"ip": address}],
                "conditions": [{"type": kind, "status": ready} for kind in ("Ready", "ContainersReady")],
                "containerStatuses": [
                    {"name": container["name"], "image": container["image"], "imageID": "", "restartCount": 0, **state}
                ],
            },
        )

    async def _say(self, item: Object, status: Object) -> None:
        metadata = {"name": item["metadata"]["name"], "namespace": item["metadata"]["namespace"]}
        body = {"apiVersion": "v1", "kind": item["kind"], "metadata": metadata, "status": status}
        with contextlib.suppress(ApiError):
            await self._api.apply(body, manager="kubelet", subresource="status")
