"""``python -m e2e.chaos.failing_broker FILE N ARGUMENTS``: its N-th sync since FILE exists fails, and all later ones."""

from __future__ import annotations

import errno
import os
import sys
from typing import Any

from rocketmq_broker import __main__ as broker
from rocketmq_common import files


class FailingSyncs:
    """Stands in for ``os`` in `rocketmq_common.files`."""

    def __init__(self, trigger: str, number: int) -> None:
        self._trigger = trigger
        self._left = number

    def __getattr__(self, name: str) -> Any:
        return self._sync if name in ("fsync", "fdatasync") else getattr(os, name)

    def _sync(self, descriptor: int) -> None:
        self._left -= os.path.exists(self._trigger)
        if self._left <= 0:
            raise OSError(errno.EIO, "sync fails as planned")
        os.fdatasync(descriptor)


if __name__ == "__main__":
    vars(files)["os"] = FailingSyncs(sys.argv[1], int(sys.argv[2]))
    sys.exit(broker.main(sys.argv[3:]))
