"""etcd, kube-apiserver, kube-controller-manager and Helm: where they are, and how they are built.

``python -m e2e.kubernetes.binaries`` builds those of Kubernetes, and Helm, from their Go modules, by name, into the cache outside
git (some minutes, 3 GB of disk); etcd is Debian's etcd-server. Tests never build: they skip, saying what is missing and how to
get it.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from e2e.toolchain import ToolMissing, cache_directory

VERSION = "v1.34.4"
HERE = Path(__file__).resolve().parent
PROGRAMS = {
    "kube-apiserver": ("controlplane", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("controlplane", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "helm": ("helm", "helm.sh/helm/v3/cmd/helm"),
}
BUILD_TIMEOUT_SECONDS = 3600
HOW_TO_BUILD = "python -m e2e.kubernetes.binaries builds it (needs Go 1.25; some minutes)"


def directory(module: str) -> Path:
    """Where the programs of this version of a module lie."""
    root = HERE / module
    digest = hashlib.sha256((root / "go.mod").read_bytes() + (root / "go.sum").read_bytes()).hexdigest()[:16]
    return cache_directory() / "kubernetes" / f"{module}-{digest}"


def program(name: str) -> str:
    """Path of a program; raises ToolMissing with the way to get it."""
    if name in PROGRAMS:
        built = directory(PROGRAMS[name][0]) / name
        if built.is_file():
            return str(built)
    found = shutil.which(name)
    if found is not None:
        return found
    hint = "Debian: apt-get install etcd-server" if name == "etcd" else HOW_TO_BUILD
    raise ToolMissing(f"{name} is not here: {hint}")


def build() -> list[Path]:
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
    built = []
    for name, (module, package) in PROGRAMS.items():
        target = directory(module) / name
        if not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            part = target.with_name(f"{name}.{os.getpid()}.part")
            command = [go, "build", "-ldflags", flags, "-o", str(part), package]
            subprocess.run(command, cwd=HERE / module, check=True, timeout=BUILD_TIMEOUT_SECONDS)
            part.replace(target)
        built.append(target)
    return built


if __name__ == "__main__":
    try:
        print("\n".join(map(str, build())))
    except ToolMissing as missing:
        sys.exit(str(missing))
