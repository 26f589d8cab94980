"""``make demo``: a cluster from a RocketMQCluster document, a produced and consumed sample, a table of it all, nothing left behind.

Exits with 0 only when every message came back exactly as it was sent and every broker took part.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from rocketmq_client import (
    Admin,
    ClientError,
    ConsumeFrom,
    ConsumeResult,
    MessageView,
    Producer,
    PushConsumer,
    SendStatus,
)
from rocketmq_operator.model import RocketMQCluster
from rocketmq_tools.cli.local import COLUMNS, process_rows, read_document
from rocketmq_tools.cli.output import table
from rocketmq_tools.embedded import clusters, starting
from rocketmq_tools.embedded.directories import ClusterDirectory, ClusterLock
from rocketmq_tools.embedded.identities import is_alive
from rocketmq_tools.embedded.plan import ClusterPlan
from rocketmq_tools.embedded.ports import HeldPorts, PortTaken
from rocketmq_tools.embedded.state import ClusterState, public_view
from rocketmq_tools.errors import CommandError

DOCUMENT = Path(__file__).parents[2] / "examples" / "demo.yaml"
TOPIC = "DemoTopic"
GROUP = "demo_consumers"
QUEUES_PER_BROKER = 4
MESSAGES = 40
RECEIVE_TIMEOUT_S = 20.0


def main(document: Path = DOCUMENT) -> int:
    """Run the demonstration and return the exit code."""
    directory = ClusterDirectory(Path(tempfile.mkdtemp(prefix="rocketmq-demo-")))
    state: ClusterState | None = None
    try:
        cluster = read_document(str(document))
        with HeldPorts() as held:
            plan, lock = _plan(cluster, directory, held)
            say(f"Starting {cluster.name} from {document.name}: {len(plan.processes)} processes")
            state = starting.start_detached(plan, directory, lock)
        say(f"Ready in {(state.ready_after_ms or 0) / 1000:.1f} s\n")
        view = public_view(state)
        print(table(COLUMNS[:-1], [row[:-1] for row in process_rows(view)], bold=sys.stdout.isatty()), flush=True)
        problems = asyncio.run(_sample(state))
    except CommandError as error:
        problems = [error.what, *filter(None, (error.why, error.remedy, error.details))]
    except ClientError as error:
        problems = [str(error)]
    finally:
        clusters.stop(directory, purge=True)
        shutil.rmtree(directory.root, ignore_errors=True)
    left = [p.name for p in state.processes if p.identity and is_alive(p.identity)] if state else []
    problems += [f"{name} is still running" for name in left]
    if problems:
        say("\nThe demonstration failed:")
        for problem in problems:
            say(f"  {problem}")
        return 1
    say("\nStopped; nothing is left running. Next: rocketmq up -f examples/demo.yaml")
    return 0


def _plan(cluster: RocketMQCluster, directory: ClusterDirectory, held: HeldPorts) -> tuple[ClusterPlan, ClusterLock]:
    """The plan on the well-known ports, or on free ones when those are taken, and the cluster's lock."""
    lock = starting.claim(directory, "", str(DOCUMENT))
    try:
        return starting.make_plan(cluster, directory, starting.Options(), source=str(DOCUMENT)), lock
    except PortTaken as taken:
        say(f"Port {taken.port} is in use by {taken.holder}; using free ports instead")
    except BaseException:
        lock.release()
        raise
    try:
        return starting.make_plan(
            cluster, directory, starting.Options(port_base=0), source=str(DOCUMENT), held=held
        ), lock
    except BaseException:
        lock.release()
        raise


async def _sample(state: ClusterState) -> list[str]:
    """Create a topic, send and receive messages, print what happened; what is missing."""
    name_servers = state.name_servers
    brokers = {p.broker_name for p in state.processes if p.role == "broker"}
    problems: list[str] = []
    async with Admin(name_servers) as admin:
        await admin.topics.create(TOPIC, queues=QUEUES_PER_BROKER)
        sent = await _produce(name_servers, problems)
        received = await _consume(name_servers, len(sent))
        stats = await admin.topics.stats(TOPIC)
    stored = Counter({name: 0 for name in brokers if name})
    for row in stats:
        stored[row.queue.broker_name] += row.max_offset - row.min_offset
    consumed = Counter(view.queue.broker_name for view in received.values())
    rows = [[name, QUEUES_PER_BROKER, stored[name], consumed[name]] for name in sorted(stored)]
    print("\n" + table(("BROKER", "QUEUES", "STORED", "CONSUMED"), rows, bold=sys.stdout.isatty()), flush=True)
    for key, body in sent.items():
        view = received.get(key)
        if view is None:
            problems.append(f"message {key} did not arrive")
        elif view.body != body or view.tag != "TagA":
            problems.append(f"message {key} arrived changed")
    problems += [f"{name} stored no message" for name, count in stored.items() if count == 0]
    if sum(stored.values()) != len(sent):
        problems.append(f"{sum(stored.values())} messages are stored, {len(sent)} were sent")
    return problems


async def _produce(name_servers: list[str], problems: list[str]) -> dict[str, bytes]:
    sent: dict[str, bytes] = {}
    started = time.perf_counter()
    async with Producer(name_servers, group="demo_producers") as producer:
        for number in range(MESSAGES):
            key, body = f"order-{number}", f"Hello RocketMQ {number}".encode()
            receipt = await producer.send(TOPIC, body, tag="TagA", keys=key)
            if receipt.status is not SendStatus.SEND_OK:
                problems.append(f"message {key} was answered with {receipt.status.name}")
            sent[key] = body
    say(f"\nSent {len(sent)} messages to {TOPIC} in {(time.perf_counter() - started) * 1000:.0f} ms")
    return sent


async def _consume(name_servers: list[str], expected: int) -> dict[str, MessageView]:
    received: dict[str, MessageView] = {}
    complete = asyncio.Event()

    async def listen(message: MessageView) -> ConsumeResult:
        received[message.keys[0]] = message
        if len(received) == expected:
            complete.set()
        return ConsumeResult.SUCCESS

    started = time.perf_counter()
    async with PushConsumer(
        name_servers, group=GROUP, topics={TOPIC: "TagA"}, listener=listen, consume_from=ConsumeFrom.FIRST
    ):
        try:
            await asyncio.wait_for(complete.wait(), RECEIVE_TIMEOUT_S)
        except TimeoutError:
            say(f"Waited {RECEIVE_TIMEOUT_S:g} s for messages that did not come")
    say(f"Received {len(received)} with group {GROUP} in {(time.perf_counter() - started) * 1000:.0f} ms")
    return received


def say(text: str) -> None:
    """Progress, in the order of what is printed as data."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
