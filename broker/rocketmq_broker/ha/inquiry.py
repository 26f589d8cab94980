"""Asking a master over remoting what its log spans: the HA stream has no words for it."""

from __future__ import annotations

from rocketmq_broker.ha.origin import MasterLog, MasterSilent
from rocketmq_common import javajson
from rocketmq_common.settings import SettingsError, parse_java_properties
from rocketmq_remoting.client import RemotingClient
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.commands import Command
from rocketmq_remoting.errors import RemotingConnectError, RemotingError, RemotingOverloaded, RemotingTimeout

ASK_TIMEOUT_MS = 3000
FAILURES = (RemotingConnectError, RemotingTimeout, RemotingOverloaded, RemotingError)


class MasterInquiry:
    """Uses runtime info (28) and configuration (26), which every Apache broker answers."""

    def __init__(self, client: RemotingClient) -> None:
        self._client = client
        # The segment size of the master asked last; it cannot change while that one runs.
        self._segment_size: tuple[str, int] | None = None

    async def ask(self, address: str) -> MasterLog:
        """The span of the log of the broker at ``address``. Raises MasterSilent."""
        try:
            table = javajson.loads((await self._invoke(address, RequestCode.GET_BROKER_RUNTIME_INFO)).body)["table"]
            min_offset, end_offset = int(table["commitLogMinOffset"]), int(table["commitLogMaxOffset"])
        except (javajson.JavaJsonError, KeyError, TypeError, ValueError) as error:
            raise MasterSilent(f"runtime info of {address} does not tell what its log spans: {error!r}") from error
        return MasterLog(min_offset, end_offset, await self._find_segment_size(address))

    async def _find_segment_size(self, address: str) -> int | None:
        if self._segment_size is not None and self._segment_size[0] == address:
            return self._segment_size[1]
        try:
            answer = await self._invoke(address, RequestCode.GET_BROKER_CONFIG)
            values = parse_java_properties(bytes(answer.body).decode())
            found = int(values["mappedFileSizeCommitLog"])
        except (MasterSilent, SettingsError, KeyError, ValueError):
            # Not told: then the stream itself shows a difference, at the first segment's end.
            return None
        self._segment_size = (address, found)
        return found

    async def _invoke(self, address: str, code: int) -> Command:
        try:
            answer = await self._client.invoke(address, code, timeout_ms=ASK_TIMEOUT_MS)
        except FAILURES as error:
            raise MasterSilent(str(error)) from error
        if answer.code != ResponseCode.SUCCESS:
            raise MasterSilent(f"{address} answered request {code} with {answer.code}: {answer.remark}")
        return answer
