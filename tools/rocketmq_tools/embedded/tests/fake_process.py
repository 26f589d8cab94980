"""Stands in for a name server or broker: a readiness endpoint and misbehaviour on demand, from the same configuration file.

Keys that start with ``fake`` decide: fakeExit (leave at once with that code), fakeNeverReady, fakeDeaf (ignore SIGTERM),
fakeJournal (append what happens to `journal` of the cluster). A file ``crash`` in the working volume makes it end itself, ``hang``
makes its probes fail.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path


def main() -> None:
    role, conf = sys.argv[1], sys.argv[sys.argv.index("-c") + 1]
    values = dict(line.split("=", 1) for line in Path(conf).read_text(encoding="utf-8").splitlines())
    data = Path(values.get("storePathRootDir") or values["kvConfigPath"]).parent

    def journal(event: str) -> None:
        if "fakeJournal" in values:
            root = next(p for p in data.parents if (p / "plan.json").exists())
            with open(root / "journal", "a", encoding="utf-8") as file:
                file.write(f"{role} {event}\n")

    def stop(_number: int, _frame: object) -> None:
        journal("stopped")
        sys.exit(0)

    print(f"{role} hello from {os.getpid()}", flush=True)
    if "fakeExit" in values:
        print("cannot go on", flush=True)
        sys.exit(int(values["fakeExit"]))
    signal.signal(signal.SIGTERM, signal.SIG_IGN if "fakeDeaf" in values else stop)
    servers = []
    for key in ("listenPort", "httpPort"):
        server = socket.create_server((values["httpBindAddress"], int(values[key])))
        servers.append(server)
    (data / "environment").write_text("\n".join(f"{k}={v}" for k, v in os.environ.items()), encoding="utf-8")
    journal("started")
    servers[1].settimeout(0.02)
    while True:
        if (data / "crash").exists():
            (data / "crash").unlink()
            os._exit(9)
        try:
            connection, _ = servers[1].accept()
        except TimeoutError:
            continue
        with connection:
            request = connection.recv(4096)
            broken = (data / "hang").exists() or ("fakeNeverReady" in values and b"/readyz" in request)
            connection.sendall(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % (b"503 no" if broken else b"200 OK"))


main()
