"""The settings in force: read by every part, changed at run time through the allow-list, kept in the file."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from rocketmq_common.files import FileSystem
from rocketmq_common.settings import SettingsError, format_java_properties, parse_java_properties
from rocketmq_namesrv import settings as namesrv_settings
from rocketmq_namesrv.settings import NamesrvSettings
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.errors import RemotingError

logger = logging.getLogger(__name__)


class Configuration:
    """``settings`` is replaced as a whole by `update`; ``values`` are those that somebody set, in their text form."""

    def __init__(self, settings: NamesrvSettings, values: dict[str, str], files: FileSystem) -> None:
        self.settings = settings
        self._values = dict(values)
        self._files = files
        self._lock = asyncio.Lock()

    def text(self) -> bytes:
        """All keys as a properties file."""
        return format_java_properties(namesrv_settings.as_properties(self.settings)).encode()

    async def update(self, body: bytes, who: str) -> None:
        """Apply the properties in ``body`` and write them to ``configStorePath``.

        Raises RemotingError naming the first key that is refused; nothing is changed then.
        """
        try:
            changes = parse_java_properties(body.decode())
            if not changes:
                raise SettingsError("string2Properties error: no key=value in the body")
            async with self._lock:
                changed = namesrv_settings.changed(self.settings, changes)
                if changed == self.settings:
                    return
                self.settings = changed
                self._values.update({key: value.strip() for key, value in changes.items()})
                logger.info("%s changed the configuration: %s", who, changes)
                await self._store()
        except UnicodeDecodeError as error:
            raise RemotingError(ResponseCode.SYSTEM_ERROR, f"UnsupportedEncodingException {error}") from error
        except PermissionError as error:
            raise RemotingError(ResponseCode.NO_PERMISSION, str(error)) from error
        except SettingsError as error:
            raise RemotingError(ResponseCode.INVALID_PARAMETER, str(error)) from error

    async def _store(self) -> None:
        path = Path(self.settings.config_store_path)
        document = format_java_properties(self._values).encode()
        try:
            await asyncio.to_thread(self._write, path, document)
        except OSError as error:
            # A mounted ConfigMap is read-only: the change holds until the restart that a new ConfigMap causes anyway.
            logger.warning("configuration change is not kept over a restart: %s: %s", path, error.strerror)

    def _write(self, path: Path, document: bytes) -> None:
        self._files.make_directory(path.parent)
        self._files.replace(path, document)
