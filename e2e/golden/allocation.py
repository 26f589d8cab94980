"""Record what Apache's allocation strategies do: ``python -m e2e.golden.allocation`` (needs Java and Maven).

Writes ``client/rocketmq_client/tests/golden/allocation.json``, which guards `rocketmq_client.allocation`: members of one group
in two languages must come to the same shares.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from e2e import toolchain

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCE = REPOSITORY / "e2e/java/allocation/AllocationVectors.java"
TARGET = REPOSITORY / "client/rocketmq_client/tests/golden/allocation.json"
TIMEOUT_SECONDS = 120


def main() -> None:
    peer = toolchain.apache()
    command = [toolchain.tool("java"), "-Dfile.encoding=UTF-8", "-cp", peer.classpath, str(SOURCE)]
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_SECONDS, check=True)
    # The client's logging writes to standard output too; the vectors begin with the first brace of a line.
    text = done.stdout.decode()
    vectors = json.loads(text[text.index('{"allocations"') :])
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    TARGET.write_text(json.dumps(vectors, separators=(",", ":"), ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main()
