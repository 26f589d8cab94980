"""Listeners: ports through which clients come that reach brokers under other addresses, because they are elsewhere.

A broker registers, besides its address, one for each listener (``listeners`` in its registration's header; Apache's name server
ignores it, Apache's brokers send none). A client that asks through a listener's port is told those, and not of brokers that have
none there.
"""

from __future__ import annotations

import re
from typing import Final

from rocketmq_common.settings import SettingsError

LISTENERS_MAX: Final = 8
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


def parse_ports(text: str) -> dict[str, int]:
    """``name:port`` joined by ``;`` as ports by name; raises SettingsError."""
    found: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in text.split(";"))):
        name, _, port = entry.partition(":")
        if not _NAME.fullmatch(name) or not port.isdecimal() or int(port) > 65535 or name in found:
            raise SettingsError(f"listeners={text}: write name:port, joined by ; and each name once")
        found[name] = int(port)
    if len(found) > LISTENERS_MAX:
        raise SettingsError(f"listeners={text}: at most {LISTENERS_MAX} are allowed")
    return found


def parse_addresses(text: str) -> dict[str, str]:
    """``name=host:port`` joined by ``;`` as addresses by listener; what is not of this form is left out."""
    entries = (part.partition("=") for part in text.split(";"))
    return {name.strip(): address.strip() for name, _, address in entries if name.strip() and ":" in address}
