"""The program that a manifest's command stands for on this machine, tied to its supervisor.

Run as a script, this is the tie itself: it asks the kernel for SIGTERM when the supervisor dies, however that happens, and becomes
the real program in the same process, so nothing of it stays in memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1
SIGTERM = 15

ProgramOf = Callable[[Sequence[str]], list[str]]

ROLE_PROGRAMS = {"namesrv": "rocketmq_namesrv", "broker": "rocketmq_broker"}


def program_of(command: Sequence[str]) -> list[str]:
    """``rocketmq namesrv|broker …`` as a module of this interpreter; raises ValueError for any other command."""
    if len(command) < 2 or command[0] != "rocketmq" or command[1] not in ROLE_PROGRAMS:
        raise ValueError(f"no program for the command {' '.join(command)!r}")
    return [sys.executable, "-m", ROLE_PROGRAMS[command[1]], *command[2:]]


def tied(program: Sequence[str], supervisor_pid: int) -> list[str]:
    """``program`` as a command that ends when the process ``supervisor_pid`` ends."""
    if sys.platform != "linux":
        return list(program)
    return [sys.executable, "-I", "-S", __file__, str(supervisor_pid), *program]


def _become(supervisor_pid: int, program: list[str]) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0) != 0:
        sys.exit(f"prctl failed: {os.strerror(ctypes.get_errno())}")
    # The supervisor may have died before the call above: nobody would ever end this process.
    if os.getppid() != supervisor_pid:
        sys.exit("the supervisor is gone")
    os.execv(program[0], program)


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
