"""Pulling: PullMessageRequestHeader (codes 11 and 361) and its answer."""

from __future__ import annotations

from rocketmq_remoting.commands import Header


class PullMessageRequestHeader(Header):
    """``sys_flag`` holds the PULL_* bits of `rocketmq_common.sysflags`; offsets are queue offsets, times ms."""

    consumer_group: str
    topic: str
    queue_id: int
    queue_offset: int
    max_msg_nums: int
    sys_flag: int
    commit_offset: int = 0
    suspend_timeout_millis: int = 0
    subscription: str | None = None
    sub_version: int = 0
    expression_type: str | None = None
    max_msg_bytes: int | None = None
    request_source: int | None = None
    proxy_froward_client_id: str | None = None


class PullMessageResponseHeader(Header):
    """All but the last three are required by Java's client, whatever the response code."""

    suggest_which_broker_id: int
    next_begin_offset: int
    min_offset: int
    max_offset: int
    offset_delta: int | None = None
    topic_sys_flag: int | None = None
    group_sys_flag: int | None = None
    forbidden_type: int | None = None
