"""etcd, kube-apiserver and kube-controller-manager: where they are, and how they are built.

``python -m e2e.kubernetes.binaries`` builds the two of Kubernetes from their Go module, by name, into the cache outside git (some
minutes, 3 GB of disk); etcd is Debian's etcd-server. Tests never build: they skip, saying what is missing and how to get it.
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
MODULE = Path(__file__).resolve().parent / "controlplane"
PROGRAMS = ("kube-apiserver", "kube-controller-manager")
BUILD_TIMEOUT_SECONDS = 3600
HOW_TO_BUILD = "python -m e2e.kubernetes.binaries builds it (needs Go 1.25; some minutes)"


def directory() -> Path:
    """Where the programs of this version of the module lie."""
    digest = hashlib.sha256((MODULE / "go.mod").read_bytes() + (MODULE / "go.sum").read_bytes()).hexdigest()[:16]
    return cache_directory() / "kubernetes" / f"{VERSION}-{digest}"


def program(name: str) -> str:
    """Path of a program; raises ToolMissing with the way to get it."""
    built = directory() / name
    if built.is_file():
        return str(built)
    found = shutil.which(name)
    if found is not None:
        return found
    hint = "Debian: apt-get install etcd-server" if name == "etcd" else HOW_TO_BUILD
    raise ToolMissing(f"{name} is not here: {hint}")


def build() -> Path:
    """Build what is missing; raises ToolMissing when Go is, CalledProcessError when building fails."""
    go = shutil.which("go")
    if go is None:
        raise ToolMissing("go is not installed: get Go 1.25 or newer")
    target = directory()
    if all((target / name).is_file() for name in PROGRAMS):
        return target
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    part.mkdir(parents=True)
    major, minor = VERSION.removeprefix("v").split(".")[:2]
    # Without these the API server calls itself v0.0.0.
    values = {
        "k8s.io/component-base/version.gitVersion": VERSION,
        "k8s.io/component-base/version.gitMajor": major,
        "k8s.io/component-base/version.gitMinor": minor,
        "k8s.io/client-go/pkg/version.gitVersion": VERSION,
    }
    flags = " ".join(["-s", "-w", *(f"-X {key}={value}" for key, value in values.items())])
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in PROGRAMS]
    command = [go, "build", "-ldflags", flags, "-o", f"{part}{os.sep}", *packages]
    subprocess.run(command, cwd=MODULE, check=True, timeout=BUILD_TIMEOUT_SECONDS)
    part.replace(target)
    return target


if __name__ == "__main__":
    try:
        print(build())
    except ToolMissing as missing:
        sys.exit(str(missing))
