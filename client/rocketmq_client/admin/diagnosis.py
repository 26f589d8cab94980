"""Why a consumer group does not consume as it should: pure rules over what brokers and members say."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from rocketmq_client.admin.connections import ConsumerConnections
from rocketmq_client.admin.dead_letters import DeadLetters
from rocketmq_client.admin.groups import GroupProgress, Groups
from rocketmq_client.admin.topics import Topics, queue_from
from rocketmq_client.errors import ClientError, NobodyOnline, NotFound
from rocketmq_common import names
from rocketmq_common.groups import SubscriptionGroupConfig
from rocketmq_remoting.bodies import CLUSTERING, MessageQueue

# A member that holds messages and finished none for so long is stuck in its listener.
STUCK_MS = 60_000
CONSUME_POP = "CONSUME_POP"  # members that share messages, not queues
# Members asked how they run at the same time.
ASKED_AT_ONCE = 20


class Severity(Enum):
    """A ``PROBLEM`` loses or delays messages; a ``WARNING`` may be meant so."""

    PROBLEM = "problem"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be: what, and what to do about it."""

    severity: Severity
    check: str
    detail: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class MemberReport:
    """What one member says of itself: topic → "TYPE expression", and per queue what it holds."""

    client_id: str
    subscriptions: Mapping[str, str]
    queues: Mapping[MessageQueue, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class GroupEvidence:
    """Everything that the rules look at. ``silent``: members that did not answer. ``now_ms``: the time of asking."""

    config: SubscriptionGroupConfig
    progress: GroupProgress
    connections: ConsumerConnections | None
    members: Sequence[MemberReport] = ()
    silent: Sequence[str] = ()
    queues: Mapping[str, Sequence[MessageQueue]] = field(default_factory=dict)
    pending_dead_letters: int = 0
    now_ms: int = 0


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The findings, problems first, and what they were found in."""

    findings: Sequence[Finding]
    evidence: GroupEvidence


def member_report(client_id: str, info: Mapping[str, Any]) -> MemberReport:
    """From ConsumerRunningInfo; the retry topic is left out, to which not every kind of client subscribes."""
    subscriptions = {
        str(s.get("topic")): f"{s.get('expressionType') or 'TAG'} {s.get('subString', '*')}"
        for s in info.get("subscriptionSet") or []
        if not names.is_retry_topic(str(s.get("topic")))
    }
    queues = {queue_from(key): row for key, row in (info.get("mqTable") or {}).items()}
    return MemberReport(client_id, subscriptions, queues)


def diagnose(evidence: GroupEvidence) -> list[Finding]:
    """The findings, problems first; empty when all is well."""
    found = [
        *_consumption(evidence),
        *_subscriptions(evidence),
        *_shares(evidence),
        *_stuck(evidence),
        *_remains(evidence),
    ]
    return sorted(found, key=lambda finding: finding.severity is not Severity.PROBLEM)


def _consumption(evidence: GroupEvidence) -> list[Finding]:
    group, lag = evidence.progress.group, evidence.progress.lag
    if not evidence.config.consume_enable:
        return [
            Finding(
                Severity.PROBLEM,
                "disabled",
                f"group {group} may not consume",
                f"rocketmq group create {group} --consume",
            )
        ]
    if evidence.connections is None:
        severity = Severity.PROBLEM if lag else Severity.WARNING
        return [Finding(severity, "nobody", f"no consumer is connected, {lag} messages wait", "start a consumer")]
    return [
        Finding(Severity.WARNING, "silent", f"{client_id} does not tell how it runs", "its process may hang")
        for client_id in evidence.silent
    ]


def _subscriptions(evidence: GroupEvidence) -> list[Finding]:
    found = []
    topics = sorted({topic for member in evidence.members for topic in member.subscriptions})
    for topic in topics:
        wishes: dict[str, list[str]] = {}
        for member in evidence.members:
            wishes.setdefault(member.subscriptions.get(topic, "not at all"), []).append(member.client_id)
        if len(wishes) > 1:
            text = "; ".join(f"{wish}: {', '.join(sorted(clients))}" for wish, clients in sorted(wishes.items()))
            found.append(
                Finding(
                    Severity.PROBLEM,
                    "subscriptions",
                    f"members subscribe to {topic} differently, so some of its messages reach nobody: {text}",
                    "let all members of a group subscribe alike, or give them groups of their own",
                )
            )
    return found


def _shares(evidence: GroupEvidence) -> list[Finding]:
    """Queues of nobody, of two, and members without any. POP and broadcasting share nothing out."""
    connections = evidence.connections
    if (
        connections is None
        or not evidence.members
        or connections.message_model != CLUSTERING
        or connections.consume_type == CONSUME_POP
    ):
        return []
    found = []
    for topic, queues in sorted(evidence.queues.items()):
        owners: dict[MessageQueue, list[str]] = {queue: [] for queue in queues}
        for member in evidence.members:
            for queue, row in member.queues.items():
                if queue in owners and not row.get("droped"):
                    owners[queue].append(member.client_id)
        orphans = [queue for queue, clients in owners.items() if not clients]
        if orphans and not evidence.silent:
            text = ", ".join(f"{queue.broker_name}:{queue.queue_id}" for queue in orphans)
            found.append(
                Finding(
                    Severity.PROBLEM,
                    "queues",
                    f"nobody consumes {text} of {topic}",
                    "look again in 20 s, for members may be sharing out; else look at their logs",
                )
            )
        for queue, clients in owners.items():
            if len(clients) > 1:
                where = f"{queue.broker_name}:{queue.queue_id} of {topic}"
                found.append(
                    Finding(
                        Severity.PROBLEM,
                        "queues",
                        f"{where} is consumed by {' and '.join(sorted(clients))}",
                        "members must use one allocation strategy; look again in 20 s, for they may be sharing out",
                    )
                )
    topics = [topic for topic in evidence.queues if not names.is_retry_topic(topic)]
    idle = [
        member.client_id for member in evidence.members if not any(queue.topic in topics for queue in member.queues)
    ]
    if idle and topics:
        count = max(len(evidence.queues[topic]) for topic in topics)
        found.append(
            Finding(
                Severity.WARNING,
                "idle",
                f"{len(idle)} of {len(evidence.members)} members have no queue: {', '.join(sorted(idle))}",
                f"there are {count} queues: more members than that do nothing, unless the topic gets more queues",
            )
        )
    return found


def _stuck(evidence: GroupEvidence) -> list[Finding]:
    found = []
    for member in evidence.members:
        for queue, row in sorted(member.queues.items()):
            held, last_ms = int(row.get("cachedMsgCount") or 0), int(row.get("lastConsumeTimestamp") or 0)
            if held and last_ms and evidence.now_ms - last_ms > STUCK_MS:
                where = f"{queue.topic} {queue.broker_name}:{queue.queue_id}"
                seconds = (evidence.now_ms - last_ms) // 1000
                found.append(
                    Finding(
                        Severity.PROBLEM,
                        "stuck",
                        f"{member.client_id} holds {held} messages of {where} and finished none for {seconds} s",
                        "its listener hangs or always fails: look at its threads and its log",
                    )
                )
    return found


def _remains(evidence: GroupEvidence) -> list[Finding]:
    group = evidence.progress.group
    found = []
    if evidence.connections is not None:
        wanted = evidence.connections.subscription_table
        left = sorted({q.queue.topic for q in evidence.progress.queues if q.lag and q.queue.topic not in wanted})
        found += [
            Finding(Severity.WARNING, "left behind", f"nobody subscribes to {topic} any more, its offsets remain")
            for topic in left
        ]
    if evidence.pending_dead_letters:
        found.append(
            Finding(
                Severity.WARNING,
                "dead letters",
                f"{evidence.pending_dead_letters} messages failed for good",
                f"rocketmq dlq show {group}, then rocketmq dlq resend {group}",
            )
        )
    return found


async def gather(groups: Groups, topics: Topics, dead_letters: DeadLetters, group: str) -> GroupEvidence:
    """Ask brokers and members; raises GroupNotFound. A member that does not answer becomes evidence."""
    config = await groups.config(group)
    progress = await groups.progress(group)
    try:
        connections = await groups.members(group)
    except NobodyOnline:
        connections = None
    slots = asyncio.Semaphore(ASKED_AT_ONCE)

    async def ask(client_id: str) -> MemberReport | str:
        async with slots:
            try:
                return member_report(client_id, await groups.running_info(group, client_id))
            except ClientError:
                return client_id

    client_ids = [] if connections is None else [c.client_id for c in connections.connection_set]
    answers = await asyncio.gather(*(ask(client_id) for client_id in client_ids))
    queues: dict[str, Sequence[MessageQueue]] = {}
    for topic in [] if connections is None else sorted(connections.subscription_table):
        try:
            queues[topic] = (await topics.route(topic)).read_queues
        except NotFound:
            continue  # a retry topic that does not exist yet
    try:
        pending = (await dead_letters.count(group)).pending
    except NotFound:
        pending = 0
    return GroupEvidence(
        config,
        progress,
        connections,
        [answer for answer in answers if isinstance(answer, MemberReport)],
        [answer for answer in answers if isinstance(answer, str)],
        queues,
        pending,
        time.time_ns() // 1_000_000,
    )
