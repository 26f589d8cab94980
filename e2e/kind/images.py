"""Images: the base made of this machine's own packages where none can be pulled, the project's, and a Java client's.

``python -m e2e.kind.images`` builds the project's images with the engine of this machine, or with one of its own.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from e2e import toolchain
from e2e.kind import machine
from e2e.kind.engine import COMMAND_TIMEOUT_SECONDS, Engine, run

REPOSITORY = toolchain.E2E.parent
BASE_IMAGE = "BASE_IMAGE"  # environment: the base to build on instead of one that is made here
BASE = "rocketmq-e2e/base:1"
BUILD_BASE = "rocketmq-e2e/build-base:1"
JAVA_CLIENT = "rocketmq-e2e/java-client:1"
FOLDERS = {"rocketmq-kube": "broker", "rocketmq-kube-namesrv": "namesrv", "rocketmq-kube-operator": "operator"}
# What a container never reads; the folders of man pages stay, because packages of Java insist on them.
TRIMMED = ("usr/share/doc", "usr/share/man", "usr/share/info", "usr/share/locale", "var/cache/apt", "var/lib/apt/lists")
APT_INSTALL = "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends"
CLEAN = "rm -rf /var/lib/apt/lists/* /var/cache/apt/* /usr/share/doc/*"


def version() -> str:
    """Of the package, which is the images' tag."""
    match = re.search(r'^version = "(.+)"$', (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert match is not None
    return match[1]


def project_images() -> tuple[str, ...]:
    """Names of the images which a cluster runs."""
    return f"rocketmq-kube:{version()}", f"rocketmq-kube-operator:{version()}"


def base(engine: Engine) -> str:
    """The image to build on: the named one, or Debian with Python from this machine's archive."""
    named = os.environ.get(BASE_IMAGE)
    if named or not engine.is_own:
        return named or "debian:bookworm-slim"
    if not engine.has_image(BASE):
        machine.require(["debootstrap"])
        _, suite = machine.release()
        with tempfile.TemporaryDirectory(prefix="rmq-base-") as directory:
            root = Path(directory) / "root"
            run(
                [
                    "debootstrap",
                    "--variant=minbase",
                    "--include=python3,ca-certificates",
                    suite,
                    str(root),
                    machine.archive(suite),
                ]
            )
            for path in TRIMMED:
                run(["find", str(root / path), "-type", "f", "-delete"])
            _import(engine, root)
    return BASE


def _import(engine: Engine, root: Path) -> None:
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as archive:
        subprocess.run(
            ["docker", "import", "-", BASE],
            stdin=archive.stdout, check=True, capture_output=True, timeout=COMMAND_TIMEOUT_SECONDS,
            env=os.environ | engine.environment,
        )  # fmt: skip
    if archive.returncode:
        raise RuntimeError(f"tar ended with {archive.returncode}")


def build_base(engine: Engine) -> str:
    """The base of build stages: with pip, and this machine's way to a Python index."""
    on = base(engine)
    if on != BASE:
        return on
    if not engine.has_image(BUILD_BASE):
        files: dict[str, Path | bytes] = {"pip.conf": machine.pip_configuration().encode()}
        dockerfile = f"FROM {on}\nRUN {APT_INSTALL} python3-pip python3-venv && {CLEAN}\nCOPY pip.conf /etc/pip.conf\n"
        if machine.CERTIFICATES.exists():
            files["ca-certificates.crt"] = machine.CERTIFICATES.read_bytes()
            dockerfile += f"COPY ca-certificates.crt {machine.CERTIFICATES}\n"
        engine.build(BUILD_BASE, dockerfile, files)
    return BUILD_BASE


def build(engine: Engine) -> list[str]:
    """Build the images of name server, broker and operator by their Dockerfiles; their names."""
    arguments = [
        "--network=host",
        "--build-arg",
        f"BASE_IMAGE={base(engine)}",
        "--build-arg",
        f"BUILD_IMAGE={build_base(engine)}",
    ]
    names = []
    for name, folder in FOLDERS.items():
        command = ["build", "-q", *arguments, *machine.proxy_arguments(), "-f", str(REPOSITORY / folder / "Dockerfile")]
        # Named, so that its layers outlive the removal of what is old.
        engine.docker(*command, "--target", "build", "-t", f"rocketmq-e2e/{folder}-build:latest", str(REPOSITORY))
        names.append(f"{name}:{version()}")
        engine.docker(*command, "-t", names[-1], "-t", f"{name}:latest", str(REPOSITORY))
    if engine.is_own:
        engine.docker("image", "prune", "-f")
    return names


def build_java_client(engine: Engine) -> str:
    """An image with Apache's Java client and the driver program of the peer tests."""
    peer = toolchain.apache()
    classes, jars = peer.classpath.removesuffix("/*").split(os.pathsep)
    files: dict[str, Path | bytes] = {"peer/classes": Path(classes), "peer/jars": Path(jars)}
    dockerfile = (
        f"FROM {base(engine)}\nRUN {APT_INSTALL} openjdk-17-jre-headless && {CLEAN}\n"
        "COPY peer /opt/peer\nUSER 3000:3000\nWORKDIR /tmp\n"
    )
    engine.build(JAVA_CLIENT, dockerfile, files)
    return JAVA_CLIENT


if __name__ == "__main__":
    try:
        with Engine() as running:
            for built in build(running):
                size = int(running.docker("image", "inspect", "--format", "{{.Size}}", built))
                print(f"{built:40} {size / 1e6:6.0f} MB")
    except toolchain.ToolMissing as missing:
        sys.exit(str(missing))
