"""A Kubernetes and a RocketMQ in memory, moved on by `World.tick`: StatefulSets make Pods, Pods become ready, claims grow, brokers
take configuration, name servers keep write permissions. It checks at each tick what must never happen."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from rocketmq_common.clock import ManualClock
from rocketmq_common.settings import parse_java_properties
from rocketmq_operator import labels
from rocketmq_operator.admin.access import BrokerRefused, BrokerSilent, Fields
from rocketmq_operator.config import BROKER_CONF, RUNTIME_KEYS
from rocketmq_operator.crd import API_VERSION, KIND
from rocketmq_operator.documents import validate_object
from rocketmq_operator.kube.api import Object
from rocketmq_operator.kube.events import EventRecorder
from rocketmq_operator.reconcile.observed import BrokerFacts, DrainFacts
from rocketmq_operator.reconcile.reconciler import Reconciler
from rocketmq_operator.tests.simulated_api import Killed, SimulatedApi, is_ready

PASSES_MAX = 400
PASS_MS = 6000
QUIET_PASSES = 3


class SimulatedBrokers:
    """The seam to brokers, answered from the Pods of the simulated Kubernetes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.closed: set[str] = set()
        self.unregistered: set[str] = set()
        self.refused_keys: set[str] = set()
        self.silent: set[str] = set()
        self.unconsumed: dict[str, dict[str, int]] = {}
        self.tables: dict[str, tuple[dict[str, Fields], dict[str, Fields]]] = {}
        self.log: list[tuple[str, str]] = []

    def _pod(self, address: str) -> Object:
        ip = address.rpartition(":")[0]
        for (kind, _, name), pod in self._world.api.objects.items():
            if kind == "Pod" and pod["status"].get("podIP") == ip and is_ready(pod) and name not in self.silent:
                return pod
        raise BrokerSilent(f"{address}: connection refused")

    def tables_of(self, address: str) -> tuple[dict[str, Fields], dict[str, Fields]]:
        group = self._pod(address)["metadata"]["labels"][labels.BROKER_GROUP]
        return self.tables.setdefault(group, ({}, {}))

    async def facts(self, address: str) -> BrokerFacts:
        pod = self._pod(address)
        group, index = pod["metadata"]["labels"][labels.BROKER_GROUP], pod["metadata"]["labels"][labels.POD_INDEX]
        peers = self._world.api.select("Pod", pod["metadata"]["namespace"], {labels.BROKER_GROUP: group})
        return BrokerFacts(
            is_master=index == "0",
            version="V5_5_0",
            config=dict(pod["running"]),
            in_sync_slaves=sum(is_ready(p) for p in peers) - 1 if index == "0" else 0,
            log_end_offset=1000,
            puts_per_second=0.0,
            lag_bytes=0,
        )

    async def drain_facts(self, leaving: str, staying: Sequence[str]) -> DrainFacts:
        pod = self._pod(leaving)
        group = pod["metadata"]["labels"][labels.BROKER_GROUP]
        topics, groups = self.tables_of(leaving)
        lacking_topics: dict[str, Fields] = {}
        lacking_groups: dict[str, Fields] = {}
        for address in staying:
            known = self.tables_of(address)
            lacking_topics |= {n: c for n, c in topics.items() if n not in known[0]}
            lacking_groups |= {n: c for n, c in groups.items() if n not in known[1]}
        return DrainFacts(
            log_end_offset=1000,
            puts_per_second=0.0,
            unconsumed=self.unconsumed.get(group, {}),
            delayed=0,
            half=0,
            missing_topics=tuple(lacking_topics.values()),
            missing_groups=tuple(lacking_groups.values()),
        )

    async def configure(self, address: str, values: Mapping[str, str]) -> None:
        pod = self._pod(address)
        if self.refused_keys & values.keys():
            raise BrokerRefused(f"{address}: {sorted(self.refused_keys & values.keys())} can not be changed")
        pod["running"].update(values)
        self.log.append(("configure", pod["metadata"]["name"]))
        self._world.api.counted()

    async def set_writes(self, group: str, name_servers: Sequence[str], *, is_open: bool) -> None:
        if is_open:
            self.closed.discard(group)
        else:
            self.closed.add(group)
        self.log.append(("open" if is_open else "close", group))
        self._world.api.counted()

    async def unregister(
        self, cluster: str, group: str, brokers: Sequence[tuple[int, str]], name_servers: Sequence[str]
    ) -> None:
        self.unregistered.add(group)
        self._world.api.counted()

    async def topic(self, address: str, topic: str) -> Fields | None:
        return self.tables_of(address)[0].get(topic)

    async def put_topic(self, address: str, config: Fields) -> None:
        self.tables_of(address)[0][config["topicName"]] = dict(config)
        self.log.append(("topic", config["topicName"]))
        self._world.api.counted()

    async def delete_topic(self, address: str, topic: str) -> None:
        self.tables_of(address)[0].pop(topic, None)
        self._world.api.counted()

    async def forget_topic(self, name_server: str, topic: str) -> None:
        self.log.append(("forget", topic))

    async def queue_backlog(self, address: str, topic: str, from_queue: int) -> int:
        group = self._pod(address)["metadata"]["labels"][labels.BROKER_GROUP]
        return self.unconsumed.get(group, {}).get(topic, 0)

    async def group(self, address: str, group: str) -> Fields | None:
        return self.tables_of(address)[1].get(group)

    async def put_group(self, address: str, config: Fields) -> None:
        self.tables_of(address)[1][config["groupName"]] = dict(config)
        self._world.api.counted()

    async def delete_group(self, address: str, group: str) -> None:
        self.tables_of(address)[1].pop(group, None)
        self._world.api.counted()

    async def group_progress(self, address: str, group: str) -> tuple[int, int]:
        name = self._pod(address)["metadata"]["labels"][labels.BROKER_GROUP]
        return sum(self.unconsumed.get(name, {}).values()), 0


class World:
    """One namespace ``mq`` of a Kubernetes, and a clock."""

    def __init__(self) -> None:
        self.api = SimulatedApi()
        self.clock = ManualClock()
        self.brokers = SimulatedBrokers(self)
        self.problems: list[str] = []
        self.kills = 0
        self._was_whole: set[str] = set()
        self._next_ip = 1
        self.start_operator()

    def start_operator(self) -> None:
        """A new operator process: it remembers nothing."""
        events = EventRecorder(self.api, self.clock, "operator-0")
        self.operator = Reconciler(self.api, self.brokers, self.clock, events)

    def apply_cluster(self, name: str = "orders", uid: str = "", **spec: Any) -> None:
        """Apply a RocketMQCluster as a person does."""
        document = {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "metadata": {"name": name, "namespace": "mq"},
            "spec": spec,
        }
        before = self.api.objects.get((KIND, "mq", name))
        defaulted = validate_object(document).defaulted
        item = {**(copy.deepcopy(before) if before else defaulted), "spec": defaulted["spec"]}
        if uid and not before:
            item["metadata"]["uid"] = uid
        self.api.put(item)

    def cluster(self, name: str = "orders") -> Object:
        """The cluster as it is stored."""
        return self.api.objects[(KIND, "mq", name)]

    def conditions(self, name: str = "orders") -> dict[str, str]:
        """Type → status."""
        told = self.cluster(name).get("status", {}).get("conditions", ())
        return {c["type"]: c["status"] for c in told}

    def message(self, kind: str, name: str = "orders") -> str:
        """The message of one condition."""
        return str(next(c["message"] for c in self.cluster(name)["status"]["conditions"] if c["type"] == kind))

    async def step(self, name: str = "orders") -> None:
        """One pass of the operator (again from the start if it was killed), then the world moves on."""
        try:
            await self.operator.reconcile("mq", name)
        except Killed:
            self.kills += 1
            self.start_operator()
        self.tick()
        self.clock.advance(PASS_MS)

    async def settle(self, *names: str) -> int:
        """Until nothing changes any more; how many passes that took."""
        quiet = 0
        for count in range(PASSES_MAX):
            before = self._version()
            for name in names or ("orders",):
                await self.step(name)
            waiting = [
                n
                for n in names or ("orders",)
                if (KIND, "mq", n) in self.api.objects
                and (
                    self.cluster(n).get("status", {}).get("operation")
                    or self.conditions(n).get("Progressing") != "False"
                )
            ]
            quiet = quiet + 1 if self._version() == before and not waiting else 0
            if quiet == QUIET_PASSES:
                return count + 1
        raise AssertionError(f"not settled in {PASSES_MAX} passes: {self.cluster()['status']}")

    def tick(self) -> None:
        """Controllers and kubelets do what is due; then what must never happen is looked for."""
        for (kind, namespace, _), item in list(self.api.objects.items()):
            if kind == "StatefulSet":
                self._run_stateful_set(namespace, item)
            elif kind == "PersistentVolumeClaim":
                size = item["spec"]["resources"]["requests"]["storage"]
                self.api.edit(kind, namespace, item["metadata"]["name"], {"status": {"capacity": {"storage": size}}})
        self._check()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _version(self) -> str:
        return json.dumps([item["metadata"]["resourceVersion"] for item in self.api.objects.values()
                           if item["kind"] != "Event"])  # fmt: skip

    def _run_stateful_set(self, namespace: str, item: Object) -> None:
        spec, name = item["spec"], item["metadata"]["name"]
        revision = hashlib.sha256(json.dumps(spec["template"], sort_keys=True).encode()).hexdigest()[:8]
        pods = {index: self.api.objects.get(("Pod", namespace, f"{name}-{index}")) for index in range(spec["replicas"])}
        for index, pod in pods.items():
            if pod is None:
                self._start_pod(namespace, item, index, revision)
            elif not is_ready(pod) and "bad" not in pod["spec"]["containers"][0]["image"]:
                self._make_ready(namespace, pod)
        index = spec["replicas"]
        while ("Pod", namespace, f"{name}-{index}") in self.api.objects:
            self.api.remove("Pod", namespace, f"{name}-{index}")
            index += 1
        current = [pod for pod in pods.values() if pod is not None]
        old = [p for p in current if p["metadata"]["labels"]["controller-revision-hash"] != revision]
        if (
            spec["updateStrategy"]["type"] == "RollingUpdate"
            and old
            and all(p is not None and is_ready(p) for p in pods.values())
        ):
            self.api.remove("Pod", namespace, old[-1]["metadata"]["name"])
        status = {"observedGeneration": item["metadata"]["generation"], "updateRevision": revision}
        self.api.edit("StatefulSet", namespace, name, {"status": status})

    def _start_pod(self, namespace: str, item: Object, index: int, revision: str) -> None:
        name = f"{item['metadata']['name']}-{index}"
        template = item["spec"]["template"]
        own = {
            **template["metadata"]["labels"],
            labels.POD_INDEX: str(index),
            labels.POD_NAME: name,
            "controller-revision-hash": revision,
        }
        for claim in item["spec"].get("volumeClaimTemplates", ()):
            claim_name = f"{claim['metadata']['name']}-{name}"
            if ("PersistentVolumeClaim", namespace, claim_name) not in self.api.objects:
                metadata = {"name": claim_name, "namespace": namespace, "labels": claim["metadata"]["labels"]}
                self.api.put({**copy.deepcopy(claim), "metadata": metadata})
        ip, self._next_ip = f"10.0.0.{self._next_ip}", self._next_ip + 1
        owner = [{"kind": "StatefulSet", "uid": item["metadata"]["uid"], "controller": True}]
        waiting = (
            {"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}]}
            if "bad" in template["spec"]["containers"][0]["image"]
            else {}
        )
        self.api.put(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": name, "namespace": namespace, "labels": own, "ownerReferences": owner},
                "spec": copy.deepcopy(template["spec"]),
                "status": {"podIP": ip, "conditions": [{"type": "Ready", "status": "False"}], **waiting},
            }
        )

    def _make_ready(self, namespace: str, pod: Object) -> None:
        group = pod["metadata"]["labels"].get(labels.BROKER_GROUP)
        if group:
            text = self.api.objects[("ConfigMap", namespace, group)]["data"][BROKER_CONF]
            values = {"brokerPermission": "6", "fileReservedTime": "72", **parse_java_properties(text)}
            pod["running"] = {key: value for key, value in values.items() if key in RUNTIME_KEYS}
            if pod["metadata"]["labels"][labels.POD_INDEX] == "0":
                self.brokers.closed.discard(group)  # registering anew gives write permission back
        self.api.edit(
            "Pod", namespace, pod["metadata"]["name"], {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
        )

    def _check(self) -> None:
        self.problems += [f"claim {name} deleted" for kind, name in self.api.deleted if kind == "PersistentVolumeClaim"]
        for (kind, namespace, name), item in self.api.objects.items():
            if kind != "StatefulSet" or item["metadata"]["labels"][labels.COMPONENT] != labels.BROKER:
                continue
            pods = self.api.select("Pod", namespace, {labels.BROKER_GROUP: name})
            down = item["spec"]["replicas"] - sum(map(is_ready, pods))
            if down == 0:
                self._was_whole.add(name)
            elif down > 1 and name in self._was_whole and len(pods) >= item["spec"]["replicas"]:
                self.problems.append(f"{down} replicas of {name} are down together")
