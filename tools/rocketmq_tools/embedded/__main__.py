"""A detached supervisor: ``python -m rocketmq_tools.embedded DIRECTORY LOCK_DESCRIPTOR``. Started by `starting.start_detached`."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import msgspec

from rocketmq_tools.embedded.directories import ClusterDirectory
from rocketmq_tools.embedded.plan import ClusterPlan
from rocketmq_tools.embedded.supervisor import Supervisor


def main(arguments: list[str]) -> int:
    """Run the plan in the directory until told to stop; the exit code of the process."""
    directory = ClusterDirectory(Path(arguments[0]))
    # The directory that `up` was called in must not be kept busy.
    os.chdir(directory.root)
    # Inherited to keep the cluster's lock for as long as this process lives; its own children must not keep it longer.
    os.set_inheritable(int(arguments[1]), False)
    plan = msgspec.json.decode(directory.plan.read_bytes(), type=ClusterPlan)

    async def supervise() -> int:
        return await Supervisor(plan, directory).run()

    return asyncio.run(supervise())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
