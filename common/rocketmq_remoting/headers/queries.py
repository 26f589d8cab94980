"""Looking up messages."""

from __future__ import annotations

from rocketmq_remoting.commands import Header


class QueryMessageRequestHeader(Header):
    """Code 12; times are ms. The free field ``_UNIQUE_KEY_QUERY`` marks a look-up by unique key."""

    topic: str
    key: str
    max_num: int
    begin_timestamp: int
    end_timestamp: int
    index_type: str | None = None
    last_key: str | None = None


class QueryMessageResponseHeader(Header):
    """What the index covers: time in ms and commit log offset."""

    index_last_update_timestamp: int
    index_last_update_phyoffset: int


class ViewMessageRequestHeader(Header):
    """Code 33; ``offset`` is the commit log offset."""

    offset: int
    topic: str | None = None
