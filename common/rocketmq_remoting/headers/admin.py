"""Administration of a broker. A number that tools send as typed text arrives as text and is converted."""

from __future__ import annotations

from rocketmq_remoting.commands import Header


class CreateTopicRequestHeader(Header):
    """Code 17. ``attributes`` is ``+key=value,-key``; ``perm`` a bit set."""

    topic: str
    read_queue_nums: int
    write_queue_nums: int
    perm: int
    default_topic: str | None = None
    topic_filter_type: str = "SINGLE_TAG"
    topic_sys_flag: int | None = None
    order: bool = False
    attributes: str | None = None
    force: bool = False


class TopicHeader(Header):
    """Codes 215, 202, 300 and 351: one topic."""

    topic: str


class GetAllTopicConfigRequestHeader(Header):
    """Code 21. Without ``topic_seq`` everything is wanted at once, else a page that starts there."""

    topic_seq: int | None = None
    max_topic_num: int | None = None
    data_version: str | None = None


class GetAllTopicConfigResponseHeader(Header):
    """Answer to 21: how many there are altogether."""

    total_topic_num: int


class GetBrokerConfigResponseHeader(Header):
    """Answer to 26: the version of the configuration, as JSON."""

    version: str


class DeleteSubscriptionGroupRequestHeader(Header):
    """Code 207."""

    group_name: str
    clean_offset: bool = False


class GetAllSubscriptionGroupRequestHeader(Header):
    """Code 201, paged as code 21."""

    group_seq: int | None = None
    max_group_num: int | None = None
    data_version: str | None = None


class GetAllSubscriptionGroupResponseHeader(Header):
    """Answer to 201: how many there are altogether."""

    total_group_num: int


class GroupHeader(Header):
    """Codes 343 and 352: one consumer group."""

    group: str


class GroupTopicHeader(Header):
    """Codes 303 and 345: one consumer group and one topic."""

    group: str
    topic: str


class GroupForbiddenRequestHeader(Header):
    """Code 353; without ``readable`` nothing is changed."""

    group: str
    topic: str
    readable: bool | None = None


class GetConsumeStatsRequestHeader(Header):
    """Code 208; ``topic_list`` holds names separated by ``;``."""

    consumer_group: str
    topic: str | None = None
    topic_list: str | None = None


class GetBrokerConsumeStatsRequestHeader(Header):
    """Code 317."""

    is_order: bool = False


class CloneGroupOffsetRequestHeader(Header):
    """Code 314."""

    src_group: str
    dest_group: str
    topic: str | None = None
    offline: bool = False


class QueryCorrectionOffsetRequestHeader(Header):
    """Code 308; ``filter_groups`` holds names separated by ``,``."""

    compare_group: str
    topic: str
    filter_groups: str | None = None


class ViewBrokerStatsDataRequestHeader(Header):
    """Code 315."""

    stats_name: str
    stats_key: str


class QueryConsumeQueueRequestHeader(Header):
    """Code 321; ``index`` is a queue offset."""

    topic: str
    queue_id: int
    index: int
    count: int
    consumer_group: str | None = None
