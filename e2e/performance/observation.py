"""What a broker process costs: CPU time and memory, read from /proc."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
ANONYMOUS = re.compile(r"^Anonymous:\s+(\d+) kB", re.MULTILINE)
RESIDENT = re.compile(r"^Rss:\s+(\d+) kB", re.MULTILINE)


def cpu_seconds(pid: int) -> float:
    """User and system time of the whole process, ended threads included; a resolution of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_SECOND


def precise_cpu_seconds(pid: int) -> float:
    """Time on a core of the threads that live now, to the nanosecond: for an idle process, whose threads stay."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total += int((task / "schedstat").read_text().split()[0])
        except FileNotFoundError:
            continue  # the thread ended meanwhile
    return total / 1e9


@dataclass(frozen=True, slots=True)
class Memory:
    """MiB of a process: ``private`` is what only it has and no file backs, ``resident`` counts mapped log pages too."""

    private_mib: float
    resident_mib: float


def memory(pid: int) -> Memory:
    """Private_Clean plus Private_Dirty less the file-backed part is the anonymous memory of a process without children."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    private, resident = ANONYMOUS.search(text), RESIDENT.search(text)
    assert private is not None
    assert resident is not None
    return Memory(int(private.group(1)) / 1024, int(resident.group(1)) / 1024)


@dataclass(slots=True)
class CpuMeter:
    """CPU between ``start`` and ``stop``; hand both to the generator."""

    pid: int
    started: float = 0.0
    seconds: float = 0.0
    wall_started: float = 0.0
    wall_seconds: float = 0.0

    def start(self) -> None:
        self.wall_started, self.started = time.monotonic(), cpu_seconds(self.pid)

    def stop(self) -> None:
        self.wall_seconds, self.seconds = time.monotonic() - self.wall_started, cpu_seconds(self.pid) - self.started

    def us_per_message(self, messages: int) -> float:
        return self.seconds / messages * 1e6 if messages else float("nan")


def busy_seconds() -> float:
    """Seconds that all cores of the machine together have been busy since boot, whoever kept them so."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return (sum(fields[:8]) - fields[3] - fields[4]) / TICKS_PER_SECOND


class Neighbours:
    """How many cores others took while a scenario ran: what was busy less what the broker, its slave and the generator used."""

    def __init__(self, pid: int, slave_pid: int | None = None) -> None:
        self._pid = pid
        self._slave_pid = slave_pid
        self._start = (busy_seconds(), cpu_seconds(pid) + self._of_slave(), time.process_time(), time.monotonic())

    def cores(self, pid_now: int) -> float:
        """``pid_now`` is the broker's process at the end: a scenario may have replaced it."""
        busy, broker, own, wall = self._start
        of_broker = cpu_seconds(pid_now) + self._of_slave() - (broker if pid_now == self._pid else 0.0)
        others = busy_seconds() - busy - of_broker - (time.process_time() - own)
        return max(0.0, others / (time.monotonic() - wall))

    def _of_slave(self) -> float:
        return cpu_seconds(self._slave_pid) if self._slave_pid is not None else 0.0
