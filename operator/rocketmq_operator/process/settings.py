"""How the operator is run: environment of its Deployment, overridden by flags."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

HTTP_PORT = 8080
WORKERS = 8
WORKERS_MAX = 64
RESYNC_SECONDS = 60
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


class OperatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """``watch_namespaces`` empty means all. ``identity`` names this replica in the Lease."""

    watch_namespaces: tuple[str, ...] = ()
    namespace: str = "default"
    lease_name: str = "rocketmq-operator"
    identity: str = ""
    http_host: str = "0.0.0.0"
    http_port: int = HTTP_PORT
    workers: int = WORKERS
    resync_seconds: int = RESYNC_SECONDS
    kubeconfig: str | None = None
    log_level: str = "INFO"


def parse(argv: Sequence[str], environment: Mapping[str, str] = os.environ) -> OperatorSettings:
    """Settings of a command line; ends the process with a usage message when it is wrong."""
    parser = argparse.ArgumentParser(prog="rocketmq operator", description="Reconcile RocketMQ clusters in Kubernetes.")
    parser.add_argument(
        "--watch-namespaces",
        default=environment.get("WATCH_NAMESPACES", ""),
        help="namespaces to look after, separated by commas; empty: all (WATCH_NAMESPACES)",
    )
    parser.add_argument(
        "--namespace",
        default=environment.get("POD_NAMESPACE") or _own_namespace(),
        help="where the leader's Lease is (POD_NAMESPACE)",
    )
    parser.add_argument("--lease-name", default=environment.get("LEASE_NAME", "rocketmq-operator"))
    parser.add_argument("--identity", default=environment.get("POD_NAME") or f"{socket.gethostname()}-{os.getpid()}")
    parser.add_argument("--http-host", default="0.0.0.0")
    parser.add_argument("--http-port", type=int, default=HTTP_PORT, help="health and metrics; 0 lets the system choose")
    parser.add_argument("--workers", type=int, default=WORKERS, help="objects reconciled at once")
    parser.add_argument("--resync-seconds", type=int, default=RESYNC_SECONDS)
    parser.add_argument(
        "--kubeconfig", default=None, help="default: the Pod's service account, KUBECONFIG, the usual file"
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    arguments = parser.parse_args(argv)
    if not 1 <= arguments.workers <= WORKERS_MAX:
        parser.error(f"--workers {arguments.workers}: 1 to {WORKERS_MAX} are allowed")
    if arguments.resync_seconds < 5:
        parser.error(f"--resync-seconds {arguments.resync_seconds}: 5 or more is needed")
    names = tuple(filter(None, (name.strip() for name in arguments.watch_namespaces.split(","))))
    return OperatorSettings(**{**vars(arguments), "watch_namespaces": names})


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip() or "default"
    except OSError:
        return "default"
