"""A control plane on loopback: etcd and kube-apiserver, and the controller manager if Pods are wanted. No kubelet, no scheduler."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path

from e2e.kubernetes.binaries import program
from e2e.toolchain import ToolMissing

START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 10
ADMIN_TOKEN = "admin-of-a-test-on-loopback"
OPERATOR_TOKEN = "operator-of-a-test-on-loopback"
AUDIT_POLICY = """apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata}
"""


class ControlPlane:
    """One control plane with its files under ``root``; a context manager."""

    def __init__(self, root: Path, *, with_controllers: bool = False) -> None:
        self.root = root
        self._with_controllers = with_controllers
        self._processes: list[subprocess.Popen[bytes]] = []
        self._stack = ExitStack()
        self.port = 0
        root.mkdir(parents=True, exist_ok=True)

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.root / "kubeconfig"

    @property
    def audit_log(self) -> Path:
        """One JSON object per request."""
        return self.root / "audit.log"

    def __enter__(self) -> ControlPlane:
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End every process, the last started first."""
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(STOP_TIMEOUT_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()
        self._stack.close()

    def write_kubeconfig(self, path: Path, token: str) -> Path:
        """A kubeconfig that authenticates by ``token``."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [
                {
                    "name": "test",
                    "cluster": {"server": f"https://127.0.0.1:{self.port}", "insecure-skip-tls-verify": True},
                }
            ],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "default"}}],
        }
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    # -- inside ------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        etcd_port, peer_port, self.port = free_ports(3)
        key = self._service_account_key()
        tokens = f'{ADMIN_TOKEN},admin,admin,"system:masters"\n{OPERATOR_TOKEN},operator,operator\n'
        (self.root / "tokens.csv").write_text(tokens, encoding="utf-8")
        (self.root / "audit.yaml").write_text(AUDIT_POLICY, encoding="utf-8")
        etcd = f"http://127.0.0.1:{etcd_port}"
        peer = f"http://127.0.0.1:{peer_port}"
        self._run(
            "etcd",
            [
                f"--data-dir={self.root / 'etcd'}",
                f"--listen-client-urls={etcd}",
                f"--advertise-client-urls={etcd}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
                "--unsafe-no-fsync",
                "--log-level=error",
            ],
        )
        self._run(
            "kube-apiserver",
            [
                f"--etcd-servers={etcd}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.port}",
                f"--cert-dir={self.root / 'certificates'}",
                f"--service-account-key-file={key}",
                f"--service-account-signing-key-file={key}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--token-auth-file={self.root / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--endpoint-reconciler-type=none",
                "--disable-admission-plugins=ServiceAccount",
                f"--audit-policy-file={self.root / 'audit.yaml'}",
                f"--audit-log-path={self.audit_log}",
            ],
        )
        self._wait_ready()
        self.write_kubeconfig(self.kubeconfig, ADMIN_TOKEN)
        if self._with_controllers:
            self._run(
                "kube-controller-manager",
                [
                    f"--kubeconfig={self.kubeconfig}",
                    "--leader-elect=false",
                    "--secure-port=0",
                    f"--service-account-private-key-file={key}",
                    "--controllers=statefulset,disruption,garbagecollector,namespace",
                    "--concurrent-statefulset-syncs=5",
                    "--kube-api-qps=500",
                    "--kube-api-burst=500",
                ],
            )

    def _service_account_key(self) -> Path:
        openssl = shutil.which("openssl")
        if openssl is None:
            raise ToolMissing("openssl is not installed: Debian: apt-get install openssl")
        key = self.root / "service-account.key"
        subprocess.run([openssl, "genrsa", "-out", str(key), "2048"], check=True, capture_output=True, timeout=60)
        return key

    def _run(self, name: str, arguments: list[str]) -> None:
        log = self._stack.enter_context((self.root / f"{name}.log").open("wb"))
        environment = {key: value for key, value in os.environ.items() if key in ("PATH", "HOME", "TMPDIR")}
        self._processes.append(
            subprocess.Popen([program(name), *arguments], stdout=log, stderr=log, env=environment, cwd=self.root)
        )

    def _wait_ready(self) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.port}/readyz", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
        )
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        problem = ""
        while time.monotonic() < deadline:
            for process in self._processes:
                if process.poll() is not None:
                    raise RuntimeError(f"{process.args} ended with {process.returncode}:\n{self._logs()}")
            try:
                with urllib.request.urlopen(request, timeout=2, context=context) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError) as error:
                problem = str(error)
            time.sleep(0.1)
        raise RuntimeError(f"kube-apiserver is not ready after {START_TIMEOUT_SECONDS} s: {problem}\n{self._logs()}")

    def _logs(self) -> str:
        return "\n".join(
            line
            for path in sorted(self.root.glob("*.log"))
            if path.name != "audit.log"
            for line in path.read_text(errors="replace").splitlines()[-10:]
        )


def free_ports(count: int) -> list[int]:
    """Ports of loopback that are free now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
