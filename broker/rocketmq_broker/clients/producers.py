"""Producer groups: whom the broker may ask (transaction checks) or answer (request-reply), and what tools list."""

from __future__ import annotations

from rocketmq_broker.clients.members import EXPIRY_MS, MEMBERS_MAX, Member
from rocketmq_common.clock import Clock
from rocketmq_remoting.connection import Connection


class Producers:
    """Group → connection → member."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.groups: dict[str, dict[Connection, Member]] = {}
        self._groups_of: dict[Connection, set[str]] = {}
        self._turn = 0
        # Answers of `find`; each is checked before it is given again.
        self._found: dict[str, Member] = {}

    def register(self, group: str, connection: Connection, client_id: str, language: str, version: int) -> None:
        """A heartbeat names this group; beyond `MEMBERS_MAX` members newcomers are not listed (sending needs no registration)."""
        members = self.groups.setdefault(group, {})
        now = self._clock.monotonic()
        member = members.get(connection)
        if member is None:
            if len(members) < MEMBERS_MAX:
                members[connection] = Member(connection, client_id, language, version, now)
                self._groups_of.setdefault(connection, set()).add(group)
        else:
            member.client_id = client_id
            member.last_heartbeat = now

    def unregister(self, group: str, connection: Connection) -> None:
        """The client left the group."""
        members = self.groups.get(group)
        if members is not None and members.pop(connection, None) is not None and not members:
            del self.groups[group]
        groups = self._groups_of.get(connection)
        if groups is not None:
            groups.discard(group)
            if not groups:
                del self._groups_of[connection]

    def drop(self, connection: Connection) -> None:
        """The connection closed."""
        for group in self._groups_of.pop(connection, ()):
            members = self.groups.get(group)
            if members is not None:
                members.pop(connection, None)
                if not members:
                    del self.groups[group]

    def expired(self) -> list[Member]:
        """Members without heartbeat for `EXPIRY_MS`."""
        before = self._clock.monotonic() - EXPIRY_MS / 1000
        return [m for members in self.groups.values() for m in members.values() if m.last_heartbeat < before]

    def members(self, group: str) -> list[Member]:
        """The members of ``group``."""
        return list(self.groups.get(group, {}).values())

    def next_member(self, group: str) -> Member | None:
        """A connected member of ``group``, another one each time; ``None`` when there is none."""
        members = [member for member in self.groups.get(group, {}).values() if not member.connection.is_closed]
        self._turn += 1
        return members[self._turn % len(members)] if members else None

    def find(self, client_id: str) -> Member | None:
        """Some connected member with this client id."""
        member = self._found.get(client_id)
        if member is not None and not member.connection.is_closed and member.client_id == client_id:
            return member
        self._found.pop(client_id, None)
        for members in self.groups.values():
            for member in members.values():
                if member.client_id == client_id and not member.connection.is_closed:
                    if len(self._found) >= MEMBERS_MAX:
                        self._found.clear()
                    self._found[client_id] = member
                    return member
        return None
