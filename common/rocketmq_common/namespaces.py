"""Namespaces of instances: a prefix ``<namespace>%`` of topics and groups, which users inside do not see (NamespaceUtil).

``orders`` of namespace ``shop`` is ``shop%orders`` at brokers, its group's retry topic ``%RETRY%shop%billing``. RocketMQ's own
topics and groups have no prefix. To servers these are names like others.
"""

from __future__ import annotations

from rocketmq_common import names

SEPARATOR = "%"


def qualified(namespace: str, name: str) -> str:
    """The name at brokers of a topic or group called ``name`` within ``namespace``; one that has the prefix keeps it."""
    kind, bare = _parted(name)
    is_own = names.is_system_topic(bare) or names.is_system_group(bare)
    if not namespace or not bare or is_own or bare.startswith(namespace + SEPARATOR):
        return name
    return f"{kind}{namespace}{SEPARATOR}{bare}"


def unqualified(namespace: str, name: str) -> str:
    """Undo `qualified`; a name of another namespace stays as it is."""
    kind, bare = _parted(name)
    return kind + bare.removeprefix(namespace + SEPARATOR) if namespace else name


def _parted(name: str) -> tuple[str, str]:
    for prefix in (names.RETRY_TOPIC_PREFIX, names.DLQ_TOPIC_PREFIX):
        if name.startswith(prefix):
            return prefix, name[len(prefix) :]
    return "", name
