"""Consumer groups: members, what they subscribe to, and telling them when that changes.

Members rebalance among themselves from the list that the broker gives them; a prompt notice, to the newcomer too, is what makes a
takeover a matter of milliseconds instead of the clients' 20 s timer. Notices of one turn of the loop are sent once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable

from rocketmq_broker.clients.members import EXPIRY_MS, GROUPS_PER_CONNECTION_MAX, MEMBERS_MAX, Member, Wish
from rocketmq_broker.filters.errors import ExpressionError
from rocketmq_broker.filters.subscriptions import MessageFilter, filter_for
from rocketmq_common import names
from rocketmq_common.clock import Clock
from rocketmq_remoting.bodies import BROADCASTING, CONSUME_PASSIVELY, EXPRESSION_TAG, ConsumerData, SubscriptionData
from rocketmq_remoting.codes import RequestCode
from rocketmq_remoting.connection import Connection
from rocketmq_remoting.headers.clients import ConsumerGroupHeader

logger = logging.getLogger(__name__)

SUBSCRIPTIONS_MAX = 4096
# Of a log line about members that differ: clients choose how many there are and how long each is.
WISHES_SHOWN = 3
WISH_LENGTH_MAX = 300


class ConsumerGroup:
    """State of one group while it has members."""

    def __init__(self, name: str, consume_type: str, message_model: str, consume_from_where: str) -> None:
        self.name = name
        self.consume_type = consume_type
        self.message_model = message_model
        self.consume_from_where = consume_from_where
        self.members: dict[Connection, Member] = {}
        self.subscriptions: dict[str, SubscriptionData] = {}
        self._wishes: Counter[Wish] = Counter()
        # Made when first pulled with, and made anew when the subscription is another one.
        self._filters: dict[str, tuple[SubscriptionData, MessageFilter]] = {}

    @property
    def is_broadcasting(self) -> bool:
        """Every member reads all queues; nobody shares."""
        return self.message_model == BROADCASTING

    def filter_for(self, subscription: SubscriptionData) -> MessageFilter:
        """The filter of one of `subscriptions`. Raises ExpressionError."""
        made = self._filters.get(subscription.topic)
        if made is not None and made[0] is subscription:
            return made[1]
        wanted = filter_for(subscription)
        self._filters[subscription.topic] = subscription, wanted
        return wanted

    def filter_of_topic(self, topic: str) -> MessageFilter | None:
        """The filter of what the group wants of ``topic``; ``None`` when it wants nothing, or cannot be understood."""
        subscription = self.subscriptions.get(topic)
        if subscription is None:
            return None
        try:
            return self.filter_for(subscription)
        except ExpressionError:
            return None

    def client_ids(self) -> list[str]:
        """Distinct client ids in the order of arrival."""
        return list(dict.fromkeys(member.client_id for member in self.members.values()))

    @property
    def is_inconsistent(self) -> bool:
        """Whether members want different things. The broker serves all of them by what the latest one said: messages get lost."""
        return len(self._wishes) > 1

    def note_wish(self, member: Member, wish: Wish | None) -> None:
        """Take what ``member`` wants now (``None``: it left), and say in the log when members begin or cease to differ."""
        if wish == member.wish:
            return
        was_inconsistent = self.is_inconsistent
        if member.wish is not None:
            self._wishes[member.wish] -= 1
            self._wishes += Counter()  # drops zeros
        if wish is not None:
            self._wishes[wish] += 1
        member.wish = wish
        if self.is_inconsistent and not was_inconsistent:
            logger.warning(
                "members of group %s subscribe differently, so some messages reach nobody: %s; see: rocketmq group diagnose %s",
                self.name, " / ".join(describe(wish) for wish in list(self._wishes)[:WISHES_SHOWN]), self.name,
            )  # fmt: skip
        elif was_inconsistent and not self.is_inconsistent:
            logger.info("members of group %s subscribe alike again", self.name)

    def find(self, client_id: str) -> Member | None:
        """The member with this client id."""
        for member in self.members.values():
            if member.client_id == client_id:
                return member
        return None

    def update_subscriptions(self, wanted: Iterable[SubscriptionData]) -> bool:
        """Take a member's subscriptions; return whether the set of topics changed.

        A newer version replaces an older one, topics that the latest member does not name are removed: members that disagree
        overwrite each other, as with Apache's broker.
        """
        changed = False
        topics = set()
        for subscription in wanted:
            topics.add(subscription.topic)
            known = self.subscriptions.get(subscription.topic)
            if known is None:
                if len(self.subscriptions) >= SUBSCRIPTIONS_MAX:
                    continue
                self.subscriptions[subscription.topic] = subscription
                changed = True
            elif subscription.sub_version > known.sub_version:
                self.subscriptions[subscription.topic] = subscription
        for topic in [topic for topic in self.subscriptions if topic not in topics]:
            del self.subscriptions[topic]
            self._filters.pop(topic, None)
            changed = True
        return changed


class Consumers:
    """All consumer groups. ``is_notified`` says whether a group's configuration wants notices."""

    def __init__(self, clock: Clock, is_notified: Callable[[str], bool] = lambda group: True) -> None:
        self._clock = clock
        self._is_notified = is_notified
        self.groups: dict[str, ConsumerGroup] = {}
        self._groups_of: dict[Connection, set[str]] = {}
        self._changed: set[str] = set()
        # Groups that pull without ever sending a heartbeat (tools): what they said of themselves in the pull.
        self.on_group_gone: list[Callable[[str], None]] = []

    def get(self, group: str) -> ConsumerGroup | None:
        """The group, if it has members."""
        return self.groups.get(group)

    def subscription(self, group: str, topic: str) -> SubscriptionData | None:
        """What the members want of ``topic``."""
        state = self.groups.get(group)
        return None if state is None else state.subscriptions.get(topic)

    def register(
        self,
        data: ConsumerData,
        connection: Connection,
        client_id: str,
        language: str,
        version: int,
        *,
        keep_subscriptions: bool = False,
    ) -> bool:
        """Take a heartbeat's word on one group; return whether members or subscribed topics changed."""
        group = self.groups.get(data.group_name)
        if group is None:
            group = self.groups[data.group_name] = ConsumerGroup(
                data.group_name, data.consume_type, data.message_model, data.consume_from_where
            )
        group.consume_type = data.consume_type or CONSUME_PASSIVELY
        group.message_model = data.message_model
        group.consume_from_where = data.consume_from_where
        now = self._clock.monotonic()
        member = group.members.get(connection)
        changed = False
        if member is None:
            groups = self._groups_of.setdefault(connection, set())
            if len(group.members) >= MEMBERS_MAX or len(groups) >= GROUPS_PER_CONNECTION_MAX:
                return False
            member = group.members[connection] = Member(connection, client_id, language, version, now)
            groups.add(data.group_name)
            changed = True
        else:
            changed = member.client_id != client_id
            member.client_id = client_id
            member.last_heartbeat = now
        if not keep_subscriptions:
            group.note_wish(member, wish_of(data))
            changed |= group.update_subscriptions(data.subscription_data_set)
        if changed:
            self._note_change(group)
        return changed

    def unregister(self, group_name: str, connection: Connection) -> None:
        """The client left the group; the others are told."""
        group = self.groups.get(group_name)
        member = None if group is None else group.members.pop(connection, None)
        if group is None or member is None:
            return
        group.note_wish(member, None)
        groups = self._groups_of.get(connection)
        if groups is not None:
            groups.discard(group_name)
            if not groups:
                del self._groups_of[connection]
        if group.members:
            self._note_change(group)
        else:
            del self.groups[group_name]
            for callback in self.on_group_gone:
                callback(group_name)

    def drop(self, connection: Connection) -> None:
        """The connection closed: its client left all its groups."""
        for group in list(self._groups_of.get(connection, ())):
            self.unregister(group, connection)

    def expired(self) -> list[Member]:
        """Members without heartbeat for `EXPIRY_MS`."""
        before = self._clock.monotonic() - EXPIRY_MS / 1000
        return [m for group in self.groups.values() for m in group.members.values() if m.last_heartbeat < before]

    def groups_of_topic(self, topic: str) -> list[str]:
        """Groups whose members subscribe to ``topic``."""
        return [name for name, group in self.groups.items() if topic in group.subscriptions]

    def _note_change(self, group: ConsumerGroup) -> None:
        if group.is_broadcasting or not self._is_notified(group.name):
            return
        if not self._changed:
            asyncio.get_running_loop().call_soon(self._notify)
        self._changed.add(group.name)

    def _notify(self) -> None:
        changed, self._changed = self._changed, set()
        for name in changed:
            group = self.groups.get(name)
            if group is not None:
                header = ConsumerGroupHeader(consumer_group=name)
                for connection in group.members:
                    connection.notify(RequestCode.NOTIFY_CONSUMER_IDS_CHANGED, header)


def wish_of(data: ConsumerData) -> Wish:
    """What a heartbeat says of one group, the retry topic aside, to which not every kind of client subscribes."""
    return Wish(
        data.message_model,
        frozenset(
            (s.topic, s.expression_type or EXPRESSION_TAG, s.sub_string)
            for s in data.subscription_data_set
            if not names.is_retry_topic(s.topic)
        ),
    )


def describe(wish: Wish) -> str:
    """A wish in words, for the log."""
    wanted = ", ".join(f"{topic} {kind} {expression!r}" for topic, kind, expression in sorted(wish.subscriptions))
    text = f"{wish.message_model} {wanted or 'nothing'}"
    return text if len(text) <= WISH_LENGTH_MAX else text[: WISH_LENGTH_MAX - 1] + "…"
