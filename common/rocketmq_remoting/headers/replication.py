"""Between the brokers of one group."""

from __future__ import annotations

from rocketmq_remoting.commands import Header


class ExchangeHaInfoHeader(Header):
    """Code 906, request and answer. A request that names a master tells the receiving slave to follow it; else it asks for them."""

    master_ha_address: str | None = None
    master_address: str | None = None
    master_flush_offset: int | None = None


class ResetMasterFlushOffsetHeader(Header):
    """Code 908."""

    master_flush_offset: int
