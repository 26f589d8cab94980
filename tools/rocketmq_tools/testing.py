"""A real name server and broker for tests, in a thread of the test process: no Java, no container, ready in a fraction of a second.

`rocketmq_tools.pytest_plugin` wraps it in fixtures; other test frameworks use it directly:

```python
with LocalServer() as server:
    subprocess.run(["java", "-jar", "app.jar"], env={"NAMESRV_ADDR": server.name_server})
```
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from rocketmq_broker.app import Broker
from rocketmq_broker.settings import load_settings
from rocketmq_namesrv.app import NameServer
from rocketmq_namesrv.settings import NamesrvSettings

START_TIMEOUT_S: Final = 60.0
STOP_TIMEOUT_S: Final = 30.0
HOST: Final = "127.0.0.1"
# Small files and short delays: tests store little and do not want to wait. Whoever tests delays says so.
SETTINGS: Final[Mapping[str, str]] = {
    "brokerClusterName": "TestCluster",
    "brokerName": "broker-a",
    "brokerIP1": HOST,
    "bindAddress": HOST,
    "listenPort": "0",
    "httpPort": "0",
    "mappedFileSizeCommitLog": str(16 << 20),
    "mappedFileSizeConsumeQueue": str(20 * 10_000),
    "maxHashSlotNum": "10000",
    "maxIndexNum": "40000",
    "autoCreateTopicEnable": "true",
    "enablePropertyFilter": "true",
}


class LocalServer:
    """One name server and one broker on ports that the system chooses, with data in a directory of its own that ends with it.

    ``settings`` are keys of broker.conf over `SETTINGS`. ``name_server`` is the address for clients.
    """

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._settings = {**SETTINGS, **(settings or {})}
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rocketmq server", daemon=True)
        self.name_server = ""
        self.broker_address = ""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Return when clients can send. Raises what kept the servers from starting."""
        self._thread.start()
        if not self._ready.wait(START_TIMEOUT_S):
            raise TimeoutError(f"name server and broker are not ready after {START_TIMEOUT_S:g} s")
        if self._error is not None:
            self._thread.join(STOP_TIMEOUT_S)
            raise self._error

    def stop(self) -> None:
        """Stop both and remove their data; raises what made a server end before."""
        loop, stopping = self._loop, self._stopping
        if loop is not None and stopping is not None and self._thread.is_alive():
            loop.call_soon_threadsafe(stopping.set)
        self._thread.join(STOP_TIMEOUT_S)
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _run(self) -> None:
        directory = tempfile.mkdtemp(prefix="rocketmq-test-")
        try:
            asyncio.run(self._serve(Path(directory)))
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits, see start and stop
            self._error = error
        finally:
            self._ready.set()
            shutil.rmtree(directory, ignore_errors=True)

    async def _serve(self, directory: Path) -> None:
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        names = NameServer(
            NamesrvSettings(
                kv_config_path=str(directory / "kvConfig.json"),
                config_store_path=str(directory / "namesrv.properties"),
                listen_port=0,
                bind_address=HOST,
                http_port=-1,
            )
        )
        await names.start()
        try:
            self.name_server = f"{HOST}:{names.port}"
            values = {"storePathRootDir": str(directory / "store"), **self._settings, "namesrvAddr": self.name_server}
            broker = Broker(load_settings(None, {}, (), values), fatal=self._fatal)
            await broker.start()
            try:
                self.broker_address = broker.identity.address
                self._ready.set()
                await self._stopping.wait()
            finally:
                await broker.stop()
        finally:
            await names.stop()

    def _fatal(self, error: BaseException) -> None:
        self._error = error
        if self._stopping is not None:
            self._stopping.set()
