"""Java, Maven, Go and pip: what is here, and the peers built with it.

Peers are resolved by name with the ordinary clients of their registries into a cache directory outside git
(``ROCKETMQ_E2E_CACHE``, default ``.cache`` in the repository) and compiled once per content of their sources. A tool that is
absent skips the tests that need it and says how to get it; with ``ROCKETMQ_REQUIRE_PEERS=1`` (CI) it fails them instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

E2E = Path(__file__).resolve().parent
RESOLVE_TIMEOUT_SECONDS = 900
# What Apache's own start scripts pass on Java 9 and newer: its mapped-file cleaner and netty reach into the JDK.
JAVA_OPEN_OPTIONS = (
    "--add-exports=java.base/jdk.internal.ref=ALL-UNNAMED",
    "--add-exports=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
)
HOW_TO_GET = {
    "java": "a Java 11 or newer runtime (Debian: apt-get install default-jdk-headless)",
    "javac": "a Java 11 or newer compiler (Debian: apt-get install default-jdk-headless)",
    "mvn": "Maven 3 (Debian: apt-get install maven)",
    "go": "Go 1.21 or newer (Debian: apt-get install golang-go)",
}


class ToolMissing(Exception):
    """A tool of the tool chain is absent, or a peer could not be resolved with it."""


@dataclass(frozen=True, slots=True)
class JavaPeer:
    """One resolved and compiled Java peer: ``classpath`` is ready for ``java -cp``."""

    name: str
    version: str
    classpath: str
    commands: tuple[str, ...] = ()


def cache_directory() -> Path:
    """The directory that holds jars, compiled classes and binaries; made when absent."""
    root = Path(os.environ.get("ROCKETMQ_E2E_CACHE") or E2E.parent / ".cache")
    root.mkdir(parents=True, exist_ok=True)
    return root


def tool(name: str) -> str:
    """Path of an executable, or ``ToolMissing`` with the way to get it."""
    found = shutil.which(name)
    if found is None:
        raise ToolMissing(f"{name} is not installed: get {HOW_TO_GET[name]}")
    return found


def apache() -> JavaPeer:
    """Apache RocketMQ 5.5.0 with the driver and mqadmin: broker, name server and client from one class path."""
    return _java_peer("apache-5.5", "5.5.0", ("java/src", "java/admin"), ("AdminCommands", "PopCommands"))


def apache_client_4() -> JavaPeer:
    """The 4.9 client with the driver."""
    return _java_peer("apache-4.9", "4.9.8", ("java/src",), ())


def apache_4() -> JavaPeer:
    """Name server and broker of 4.9, the last of the line that many clusters still run."""
    return _java_peer("apache-4.9-server", "4.9.7", (), ())


def golden_recorder() -> JavaPeer:
    """Apache's 5.5.0 classes with the program that writes the golden vectors."""
    return _java_peer("apache-5.5", "5.5.0", ("java/src", "java/recorder"), ())


def filter_judge() -> JavaPeer:
    """Apache's 5.5.0 filter classes with the program that answers for them."""
    return _java_peer("apache-5.5", "5.5.0", ("peers/filter_differential/java",), ())


def go_peer() -> Path:
    """The compiled Go program which uses Apache's Go client."""
    go = tool("go")
    sources = sorted((E2E / "go").iterdir())
    target = cache_directory() / "go" / f"peer-{_digest(sources)}"
    with _building(target) as needed:
        if needed:
            part = target.with_suffix(".part")
            _run([go, "build", "-o", str(part), "."], E2E / "go", "building the Go peer")
            part.replace(target)
    return target


def python_peer() -> Path:
    """The directory which holds the Python package ``rocketmq``, with Apache's C++ client inside; for x86-64 only."""
    requirements = E2E / "python/requirements.txt"
    target = cache_directory() / "python" / f"packages-{_digest([requirements])}"
    with _building(target) as needed:
        if needed:
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
            command += ["--only-binary=:all:", "--require-hashes", "--target", str(part), "-r", str(requirements)]
            _run(command, E2E, "installing the Python peer")
            part.replace(target)
    return target


def _java_peer(name: str, version: str, source_directories: tuple[str, ...], commands: tuple[str, ...]) -> JavaPeer:
    tool("java")
    jars = _jars(name)
    sources = [path for directory in source_directories for path in sorted((E2E / directory).glob("*.java"))]
    pom = E2E / "java" / name / "pom.xml"
    target = cache_directory() / "java" / name / f"classes-{_digest([pom, *sources])}"
    with _building(target) as needed:
        if needed:
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            command = [
                tool("javac"),
                "-nowarn",
                "-Xlint:none",
                "-encoding",
                "UTF-8",
                "-d",
                str(part),
                "-cp",
                f"{jars}/*",
            ]
            if sources:
                _run(command + [str(path) for path in sources], E2E, f"compiling the {name} peer")
            part.mkdir(exist_ok=True)
            part.replace(target)
    return JavaPeer(name, version, f"{target}{os.pathsep}{jars}/*", commands)


def _jars(name: str) -> Path:
    pom = E2E / "java" / name / "pom.xml"
    target = cache_directory() / "java" / name / f"jars-{_digest([pom])}"
    with _building(target) as needed:
        if needed:
            part = target.with_suffix(".part")
            shutil.rmtree(part, ignore_errors=True)
            command = [
                tool("mvn"),
                "-q",
                "-B",
                "-f",
                str(pom),
                "dependency:copy-dependencies",
                f"-DoutputDirectory={part}",
            ]
            _run(command, E2E, f"resolving the jars of {name}")
            part.replace(target)
    return target


@contextmanager
def _building(target: Path) -> Iterator[bool]:
    """Yield whether ``target`` must be built; one process of this machine builds at a time."""
    if target.exists():
        yield False
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not target.exists()


def _digest(paths: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _run(command: list[str], directory: Path, purpose: str) -> None:
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=RESOLVE_TIMEOUT_SECONDS, check=False
    )
    if done.returncode != 0:
        lines = (done.stdout + done.stderr).strip().splitlines()
        raise ToolMissing(f"{purpose} failed ({command[0]} ended with {done.returncode}): " + " | ".join(lines[-5:]))
