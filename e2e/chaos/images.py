"""Small file systems of their own on loop devices: what a power cut leaves on the disk, and a disk that is really full."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.processes import Process, wait_until

TOOLS = ("mkfs.ext4", "mount", "umount", "cp")
# Nothing may reach the disk on its own while an experiment runs: the journal commits only when something is synced.
OPTIONS = "loop,noatime,commit=300"


def why_not() -> str:
    """Why no image can be mounted on this machine; empty when it can."""
    if os.geteuid() != 0:
        return "mounting a file system needs root"
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return f"{', '.join(missing)} not found"
    if not Path("/dev/loop-control").exists():
        return "the kernel has no loop devices"
    return ""


def make(image: Path, size: int) -> None:
    """A fresh ext4 file system of ``size`` bytes in a file."""
    with image.open("wb") as file:
        file.truncate(size)
    _run("mkfs.ext4", "-q", "-F", str(image))


@contextmanager
def mounted(image: Path, place: Path) -> Iterator[Path]:
    """The file system of an image at ``place``, unmounted afterwards."""
    place.mkdir()
    _run("mount", "-o", OPTIONS, str(image), str(place))
    try:
        yield place
    finally:
        try:
            _run("umount", str(place))
        except subprocess.CalledProcessError:
            _run("umount", "--lazy", str(place))


def cut_power(process: Process, image: Path, copy: Path) -> None:
    """Copy what the disk has at a moment when the process is frozen, as a power cut would leave it; the process stays frozen.

    A call that the kernel is in the middle of is let finish first, so that the copy is of one moment.
    """
    os.kill(process.pid, signal.SIGSTOP)
    wait_until(lambda: _are_stopped(process.pid), "every thread of the broker stands still", 30, 0.001)
    _run("cp", "--sparse=always", str(image), str(copy))


def _are_stopped(pid: int) -> bool:
    states = [path.read_text().rpartition(")")[2].split()[0] for path in Path(f"/proc/{pid}/task").glob("*/stat")]
    return all(state in "tT" for state in states)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=60)
