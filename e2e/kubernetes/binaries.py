"""Programs of Kubernetes and around it: where they are, and how they are built.

``python -m e2e.kubernetes.binaries`` builds those that the API-server rung needs from their Go modules, by name, into the cache
outside git (some minutes, 3 GB of disk); ``--kind`` builds those of the kind rung as well. The API-server rung takes Debian's
etcd-server unless etcd was built. Tests never build: they skip, saying what is missing and how to get it.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

from e2e.toolchain import E2E, ToolMissing, cache_directory

VERSION = "v1.34.4"
CONTROL_PLANE = "kubernetes/controlplane"
MODULES = "kind/modules"
# Program: (folder of its module under e2e/, package).
PROGRAMS = {
    "kube-apiserver": (CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": (CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "helm": ("kubernetes/helm", "helm.sh/helm/v3/cmd/helm"),
    "kube-scheduler": (CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-scheduler"),
    "kube-proxy": (CONTROL_PLANE, "k8s.io/kubernetes/cmd/kube-proxy"),
    "kubelet": (CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubelet"),
    "kubeadm": (CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubeadm"),
    "kubectl": (CONTROL_PLANE, "k8s.io/kubernetes/cmd/kubectl"),
    "kind": (f"{MODULES}/kind", "sigs.k8s.io/kind"),
    "etcd": (f"{MODULES}/etcd", "go.etcd.io/etcd/server/v3"),
    "coredns": (f"{MODULES}/coredns", "rocketmqkube.dev/e2e/coredns"),
    "local-path-provisioner": (
        f"{MODULES}/local-path-provisioner",
        "github.com/rancher/local-path-provisioner",
    ),
}
API_SERVER_RUNG = ("kube-apiserver", "kube-controller-manager", "helm")
# Where node images can be pulled, or the cluster exists already, these do.
CLUSTER_TOOLS = ("kind", "kubectl", "helm")
BUILD_TIMEOUT_SECONDS = 3600
HOW_TO_BUILD = "python -m e2e.kubernetes.binaries [--kind] builds it (needs Go 1.25; some minutes)"


def directory(module: str) -> Path:
    """Where the programs of this version of a module lie."""
    root = E2E / module
    sources = [root / "go.mod", root / "go.sum", *sorted(root.glob("*.go"))]
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    return cache_directory() / "kubernetes" / f"{root.name}-{digest}"


def program(name: str) -> str:
    """Path of a program; raises ToolMissing with the way to get it."""
    if name in PROGRAMS:
        built = directory(PROGRAMS[name][0]) / name
        if built.is_file():
            return str(built)
    found = shutil.which(name)
    if found is not None:
        return found
    hint = f"Debian: apt-get install etcd-server, or {HOW_TO_BUILD}" if name == "etcd" else HOW_TO_BUILD
    raise ToolMissing(f"{name} is not here: {hint}")


def build(names: Iterable[str] = API_SERVER_RUNG) -> list[Path]:
    """Build what is missing; raises ToolMissing when Go is, CalledProcessError when building fails."""
    go = shutil.which("go")
    if go is None:
        raise ToolMissing("go is not installed: get Go 1.25 or newer")
    major, minor = VERSION.removeprefix("v").split(".")[:2]
    # Without these the API server calls itself v0.0.0.
    values = {
        "k8s.io/component-base/version.gitVersion": VERSION,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": VERSION,
    }
    flags = " ".join(["-s", "-w", *(f"-X {key}={value}" for key, value in values.items())])
    missing: dict[str, list[str]] = {}
    for name in names:
        module = PROGRAMS[name][0]
        if not (directory(module) / name).is_file():
            missing.setdefault(module, []).append(name)
    for module, wanted in missing.items():
        _build_module(go, module, wanted, flags)
    return [directory(PROGRAMS[name][0]) / name for name in names]


def _build_module(go: str, module: str, names: list[str], flags: str) -> None:
    """Build programs of one module together, so that one is linked while another compiles; each appears whole or not at all."""
    target = directory(module)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="part-", dir=target) as part:
        # Several programs go to a folder, under the last part of their package; of a single one that part may be a version.
        output = f"{part}/" if len(names) > 1 else f"{part}/{names[0]}"
        command = [go, "build", "-ldflags", flags, "-o", output, *(PROGRAMS[name][1] for name in names)]
        subprocess.run(command, cwd=E2E / module, check=True, timeout=BUILD_TIMEOUT_SECONDS)
        for name in names:
            (Path(part) / name).replace(target / name)


if __name__ == "__main__":
    try:
        print("\n".join(map(str, build(PROGRAMS if "--kind" in sys.argv[1:] else API_SERVER_RUNG))))
    except ToolMissing as missing:
        sys.exit(str(missing))
