"""Request-reply: how a broker hands a reply to the client that asked."""

from __future__ import annotations

from rocketmq_remoting.commands import Header


class PushReplyMessageRequestHeader(Header):
    """Code 326. Hosts are ``ip:port``, timestamps ms; the body is the reply's, compressed where ``sys_flag`` says so."""

    producer_group: str
    topic: str
    default_topic: str
    default_topic_queue_nums: int
    queue_id: int
    sys_flag: int
    born_timestamp: int
    flag: int
    born_host: str
    store_host: str
    store_timestamp: int
    properties: str = ""
    reconsume_times: int | None = None
    unit_mode: bool = False
