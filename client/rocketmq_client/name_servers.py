"""Asking name servers: one at a time, the next one when it fails. They share nothing, and each knows every broker."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from rocketmq_client.errors import InvalidArgument, NameServerUnavailable, RequestTimeout, refusal
from rocketmq_remoting.client import RemotingClient, split_address
from rocketmq_remoting.codes import ResponseCode
from rocketmq_remoting.commands import Buffer, Command, Header
from rocketmq_remoting.errors import RemotingConnectError, RemotingTimeout

ENVIRONMENT_VARIABLE = "NAMESRV_ADDR"
DEFAULT_ADDRESS = "127.0.0.1:9876"
ADDRESSES_MAX = 64


def parse_addresses(given: str | Sequence[str] | None) -> tuple[str, ...]:
    """``host:port`` separated by ``;``, comma or blank, or a sequence; ``None`` reads $NAMESRV_ADDR, else the local default.

    A scheme (``http://``) is cut off, as Java does. Raises InvalidArgument naming the part that is no address.
    """
    text = os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_ADDRESS if given is None else given
    parts = re.split(r"[;,\s]+", text) if isinstance(text, str) else list(text)
    addresses = tuple(dict.fromkeys(part.strip().partition("://")[2] or part.strip() for part in parts if part.strip()))
    if not addresses:
        raise InvalidArgument("no name server address was given", hint=f"set {ENVIRONMENT_VARIABLE}=host:9876")
    if len(addresses) > ADDRESSES_MAX:
        raise InvalidArgument(f"{len(addresses)} name server addresses, {ADDRESSES_MAX} are allowed")
    for address in addresses:
        try:
            split_address(address)
        except ValueError as error:
            raise InvalidArgument(f"name server {error}") from None
    return addresses


class NameServers:
    """The configured name servers and the one in use."""

    def __init__(self, remoting: RemotingClient, addresses: Sequence[str]) -> None:
        self.addresses = tuple(addresses)
        self._remoting = remoting
        self._current = 0

    @property
    def current(self) -> str:
        """The address asked next."""
        return self.addresses[self._current]

    async def ask(
        self,
        code: int,
        header: Header | Mapping[str, str] | None = None,
        body: Buffer = b"",
        *,
        timeout_ms: float = 3000,
    ) -> Command:
        """The answer of the first name server that gives one, whatever its code.

        ``timeout_ms`` holds for each one asked. Raises NameServerUnavailable when none answers.
        """
        failures: list[str] = []
        for _ in self.addresses:
            address = self.current
            try:
                return await self._remoting.invoke(address, code, header, body, timeout_ms=timeout_ms)
            except (RemotingConnectError, RemotingTimeout) as error:
                failures.append(str(error))
                self._current = (self._current + 1) % len(self.addresses)
        raise NameServerUnavailable(
            f"no name server answers: {'; '.join(failures)}",
            hint=f"check that one runs at {', '.join(self.addresses)}, or set {ENVIRONMENT_VARIABLE}",
        )

    async def tell_all(
        self,
        code: int,
        header: Header | Mapping[str, str] | None = None,
        body: Buffer = b"",
        *,
        timeout_ms: float = 3000,
    ) -> None:
        """Ask each of them, for changes that they do not tell each other; raises at the first that fails."""
        for address in self.addresses:
            try:
                answer = await self._remoting.invoke(address, code, header, body, timeout_ms=timeout_ms)
            except RemotingConnectError as error:
                raise NameServerUnavailable(str(error), hint="all name servers must be reachable for this") from error
            except RemotingTimeout as error:
                raise RequestTimeout(str(error)) from error
            if answer.code != ResponseCode.SUCCESS:
                raise refusal(answer.code, answer.remark, f"name server {address}")
