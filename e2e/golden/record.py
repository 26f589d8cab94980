"""Record every golden vector anew: ``python -m e2e.golden.record`` (needs Java, Maven and a few minutes).

Writes ``common/rocketmq_remoting/tests/golden/`` (vectors of Apache's classes, frames of a real session) and
``broker/rocketmq_store/tests/golden/`` (stores). Ids, times and ports differ from run to run: tests read the values from the files.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from e2e import toolchain
from e2e.golden.session import record_session
from e2e.golden.stores import record_store

REPOSITORY = Path(__file__).resolve().parents[2]
REMOTING_GOLDEN = REPOSITORY / "common/rocketmq_remoting/tests/golden"
STORE_GOLDEN = REPOSITORY / "broker/rocketmq_store/tests/golden"
RECORDER_TIMEOUT_SECONDS = 120
PARTS = ("vectors", "session", "stores")
REMOTING_NOTE = """# Golden vectors of Apache RocketMQ 5.5.0

`vectors.json`: made by Apache's own classes from fixed inputs (`e2e/java/recorder/GoldenRecorder.java`): frames in both
serializations, odd header texts and what Java decodes from them, stored records, batch bodies, compressed bodies, property strings,
ids, String.hashCode, JSON bodies.

`session.json`: frames of a real session between the 4.9.8 and 5.5.0 clients, mqadmin 5.5.0, a 5.5.0 broker and name
server, taken by a recording proxy (`e2e/golden/session.py`): one request and response for each sender and request code.

Record again with `python -m e2e.golden.record`.
"""
STORE_NOTE = """# Stores written by Apache's broker 5.5.0

`apache-5.5-clean.tar.gz` (ended by SIGTERM) and `apache-5.5-killed.tar.gz` (ended by SIGKILL, so with the file `abort`),
each with a `.json`: the settings, what was sent, what Apache's own consumer received, queue bounds, hits by key, the files.
Segments are small: commit log 64 KiB, consume queue 32 entries, index 500 slots and 2000 entries. `lock` is left out.

Recorded by `e2e/golden/stores.py`; again with `python -m e2e.golden.record`.
"""


def record_vectors() -> dict[str, Any]:
    """Run the Java recorder and return its vectors."""
    peer = toolchain.golden_recorder()
    with tempfile.TemporaryDirectory() as home:
        command = [
            toolchain.tool("java"),
            *toolchain.JAVA_OPEN_OPTIONS,
            f"-Duser.home={home}",
            "-cp",
            peer.classpath,
            "GoldenRecorder",
        ]
        done = subprocess.run(command, capture_output=True, timeout=RECORDER_TIMEOUT_SECONDS, check=True)
    vectors: dict[str, Any] = json.loads(done.stdout)
    for vector in vectors["headers"]:
        if '"opaque"' not in vector["header"] and "opaque:" not in vector["header"]:
            vector.pop("opaque", None)  # Java takes the next number of its own counter there
    return vectors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=PARTS, choices=PARTS)
    parts = parser.parse_args().parts
    for directory in (REMOTING_GOLDEN, STORE_GOLDEN):
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        if "vectors" in parts:
            write(REMOTING_GOLDEN / "vectors.json", record_vectors())
        if "session" in parts:
            write(REMOTING_GOLDEN / "session.json", record_session(Path(temporary) / "session"))
        if "stores" in parts:
            for name, is_killed in (("clean", False), ("killed", True)):
                record_store(Path(temporary) / name, STORE_GOLDEN / f"apache-5.5-{name}.tar.gz", is_killed=is_killed)
    (REMOTING_GOLDEN / "README.md").write_text(REMOTING_NOTE)
    (STORE_GOLDEN / "README.md").write_text(STORE_NOTE)


def write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
