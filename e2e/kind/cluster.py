"""A cluster of one control plane and two workers for the tests: kind's, ended with its context, or one that exists already."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import yaml

from e2e.kind import images
from e2e.kind.engine import CommandFailed, Engine, run
from e2e.kind.node_image import node_image
from e2e.kubernetes.binaries import CLUSTER_TOOLS, PROGRAMS, program
from e2e.processes import wait_until
from e2e.toolchain import cache_directory

KUBECONFIG = (
    "ROCKETMQ_E2E_KUBECONFIG"  # environment: a cluster that exists; its nodes must have, or be able to pull, the images
)
NODE_IMAGE = "ROCKETMQ_E2E_NODE_IMAGE"  # environment: a stock node image to pull instead of building one
CREATE_TIMEOUT_SECONDS = 600.0
READY_TIMEOUT_SECONDS = 300.0
SHARED = "shared"  # storage class whose volumes follow their Pod to another node; only in nodes of our own making
SETTINGS = """kind: ClusterConfiguration
etcd: {local: {extraArgs: {unsafe-no-fsync: "true"}}}
controllerManager: {extraArgs: {node-monitor-grace-period: 12s}}
"""


class Kubernetes:
    """A cluster that a kubeconfig leads to."""

    name = ""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def __enter__(self) -> Self:
        for name in ("kubectl", "helm"):
            program(name)
        return self

    def __exit__(self, *_: object) -> None:
        return

    def kubectl(self, *arguments: str, data: str | None = None, timeout_seconds: float = 300.0) -> str:
        """Run kubectl as the administrator and return what it printed."""
        command = [program("kubectl"), "--kubeconfig", str(self.kubeconfig), *arguments]
        return run(command, data=None if data is None else data.encode(), timeout_seconds=timeout_seconds)

    def helm(self, *arguments: str, timeout_seconds: float = 300.0) -> str:
        """Run Helm as the administrator."""
        return run([program("helm"), "--kubeconfig", str(self.kubeconfig), *arguments], timeout_seconds=timeout_seconds)

    def objects(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that ``kubectl get`` finds."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        items: list[dict[str, Any]] = found.get("items", [found])
        return items

    def has_storage_class(self, name: str) -> bool:
        """Whether volumes of a class can be had."""
        return any(one["metadata"]["name"] == name for one in self.objects("storageclasses"))

    def keep_evidence(self, directory: Path) -> None:
        """Write what explains a failure below ``directory``: objects, events, logs."""
        directory.mkdir(parents=True, exist_ok=True)
        for name, arguments in {
            "objects.txt": (
                "get",
                "all,pvc,pv,cm,leases,pdb,nodes,rocketmqclusters,rocketmqtopics",
                "-A",
                "-o",
                "wide",
            ),
            "events.txt": ("get", "events", "-A", "--sort-by=.metadata.creationTimestamp"),
            "clusters.yaml": ("get", "rocketmqclusters", "-A", "-o", "yaml"),
            "pods.txt": ("describe", "pods", "-A"),
        }.items():
            (directory / name).write_text(self._said(*arguments), encoding="utf-8")
        for pod in self._said(
            "get", "pods", "-A", "-o", "jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name} {end}"
        ).split():
            namespace, _, name = pod.partition("/")
            for suffix, options in {"": (), ".previous": ("--previous",)}.items():
                text = self._said("logs", "-n", namespace, name, "--all-containers", "--prefix", *options)
                if suffix == "" or " not found" not in text:
                    (directory / f"{namespace}.{name}{suffix}.log").write_text(text, encoding="utf-8")

    def _said(self, *arguments: str) -> str:
        try:
            return self.kubectl(*arguments, timeout_seconds=60)
        except (CommandFailed, subprocess.TimeoutExpired) as problem:
            return str(problem)


class KindCluster(Kubernetes):
    """A cluster of kind's, in an engine of its own unless this machine has one."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._root = Path(tempfile.mkdtemp(prefix="rmq-kind-"))
        self._stack.callback(shutil.rmtree, self._root, ignore_errors=True)
        super().__init__(self._root / "kubeconfig")
        self.name = f"rmq-{os.getpid()}"
        self.engine = Engine()

    def __enter__(self) -> Self:
        try:
            stock = os.environ.get(NODE_IMAGE)
            for name in CLUSTER_TOOLS if stock else PROGRAMS:
                program(name)
            self._stack.enter_context(self.engine)
            node = stock or node_image(self.engine)
            images.build(self.engine)
            self._create(node)
            self.load(*images.project_images())
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def workers(self) -> list[str]:
        """Names of the worker nodes, which are also those of their containers."""
        return [f"{self.name}-worker", f"{self.name}-worker2"]

    def kind(self, *arguments: str, timeout_seconds: float = CREATE_TIMEOUT_SECONDS) -> str:
        """Run kind."""
        return run([program("kind"), *arguments], timeout_seconds=timeout_seconds, environment=self.engine.environment)

    def load(self, *names: str) -> None:
        """Put images of the engine onto every node."""
        self.kind("load", "docker-image", *names, "--name", self.name)

    def on_node(self, node: str, *command: str) -> str:
        """Run a command on a node."""
        return self.engine.docker("exec", node, *command)

    def keep_evidence(self, directory: Path) -> None:
        """See `Kubernetes.keep_evidence`; the nodes' own logs too."""
        super().keep_evidence(directory)
        try:
            self.kind("export", "logs", str(directory / "nodes"), "--name", self.name)
        except (CommandFailed, subprocess.TimeoutExpired) as problem:
            (directory / "nodes.txt").write_text(str(problem), encoding="utf-8")

    def _create(self, node: str) -> None:
        shared = self._root / SHARED
        shared.mkdir()
        shared.chmod(0o777)
        self._root.chmod(0o755)
        mounts = [{"hostPath": str(shared), "containerPath": f"/{SHARED}"}]
        document = {
            "kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "kubeadmConfigPatches": [SETTINGS],
            "nodes": [{"role": role, "extraMounts": mounts} for role in ("control-plane", "worker", "worker")],
        }  # fmt: skip
        config = self._root / "kind.yaml"
        config.write_text(yaml.safe_dump(document), encoding="utf-8")
        self._stack.callback(self.kind, "delete", "cluster", "--name", self.name, "--kubeconfig", str(self.kubeconfig))
        try:
            self.kind(
                "create", "cluster", "--name", self.name, "--image", node, "--config", str(config),
                "--kubeconfig", str(self.kubeconfig), "--wait", "180s", "--retain", "-q",
            )  # fmt: skip
            # kind waits for the control plane only.
            self.kubectl("wait", "--for=condition=Ready", "nodes", "--all", f"--timeout={READY_TIMEOUT_SECONDS:.0f}s")
            for namespace, deployment in (("kube-system", "coredns"), ("local-path-storage", "local-path-provisioner")):
                self.kubectl("rollout", "status", f"deployment/{deployment}", "-n", namespace, "--timeout=300s")
        except BaseException:
            self.keep_evidence(evidence_directory() / "create")
            raise

    def node_is_ready(self, node: str) -> bool:
        """Whether the control plane hears of a node."""
        (found,) = self.objects("node", node)
        return any(c["type"] == "Ready" and c["status"] == "True" for c in found["status"]["conditions"])

    def wait_node(self, node: str, *, ready: bool) -> None:
        """Wait until the control plane knows that a node is well, or that it is not."""
        wait_until(
            lambda: self.node_is_ready(node) is ready,
            f"{node} is {'' if ready else 'not '}ready",
            180,
            poll_seconds=0.5,
        )


def evidence_directory() -> Path:
    """Where failures leave what explains them."""
    return cache_directory() / "kind" / "evidence"


def provider() -> Kubernetes:
    """What the environment asks for: a cluster that exists, or one of kind's."""
    existing = os.environ.get(KUBECONFIG)
    return Kubernetes(Path(existing)) if existing else KindCluster()
