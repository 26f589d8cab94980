"""How much memory this process may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

# A control group says "no limit" by a word (version 2) or by a number beyond every machine (version 1).
LIMIT_FILES: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def memory_limit_bytes(limit_files: tuple[Path, ...] = LIMIT_FILES) -> int:
    """Bytes of the container's limit, else of the machine."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for path in limit_files:
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        return min(int(text), machine) if text.isdigit() else machine
    return machine
