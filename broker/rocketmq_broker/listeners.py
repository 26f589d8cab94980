"""Where clients of a listener reach this broker: for those that cannot use the address it registers.

One configuration serves all replicas of a group, so an entry may say whose it is, by that broker's ``brokerIP1``:
``[brokerIP1/]listener=[host]:port``, joined by ``;``. Without a host it is ``listenerHost``: on Kubernetes, the node's.
"""

from __future__ import annotations

import re

from rocketmq_common.settings import SettingsError

_ENTRY = re.compile(r"(?:([^/=;\s]+)/)?([a-z](?:[-a-z0-9]*[a-z0-9])?)=([^:/=;\s]*|\[[0-9a-fA-F:.]+\]):(\d{1,5})")


def advertised(text: str, broker_ip1: str, listener_host: str) -> str:
    """What this broker registers: ``listener=host:port`` joined by ``;``, in the order of ``text``.

    An entry whose host nobody knows is left out. Raises SettingsError when ``text`` has another form.
    """
    found = {}
    for owner, listener, host, port in _entries(text):
        if owner in ("", broker_ip1) and (host or listener_host):
            found[listener] = f"{host or listener_host}:{port}"
    return ";".join(f"{listener}={address}" for listener, address in found.items())


def check(text: str) -> None:
    """Raise SettingsError unless ``text`` is a value of ``listenerAddresses``."""
    _entries(text)


def _entries(text: str) -> list[tuple[str, str, str, str]]:
    entries = []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        match = _ENTRY.fullmatch(part)
        if match is None or int(match[4]) > 65535:
            raise SettingsError(f"listenerAddresses={part}: write [brokerIP1/]listener=[host]:port, joined by ;")
        entries.append((match[1] or "", match[2], match[3], match[4]))
    return entries
