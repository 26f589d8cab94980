"""Who is connected."""

from __future__ import annotations

import msgspec

from rocketmq_remoting.bodies import SubscriptionData


class ClientConnection(msgspec.Struct, rename="camel", frozen=True):
    """One connected client; ``version`` is the ordinal of `rocketmq_common.versions`."""

    client_id: str = ""
    client_addr: str = ""
    language: str = ""
    version: int = 0


class ConnectionsBody(msgspec.Struct, rename="camel"):
    """Body of the answers to GET_PRODUCER_CONNECTION_LIST."""

    connection_set: list[ClientConnection] = []


class ConsumerConnections(msgspec.Struct, rename="camel"):
    """The members of a consumer group, how they consume, and what they subscribe to (by topic)."""

    connection_set: list[ClientConnection] = []
    consume_type: str = ""
    message_model: str = ""
    consume_from_where: str = ""
    subscription_table: dict[str, SubscriptionData] = {}
