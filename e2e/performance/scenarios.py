"""What is measured. Each scenario yields rows of figures for one contender; repeated and alternated, their medians are reported."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from e2e.performance import observation, pools, scale
from e2e.performance.consuming import Drain, Subscription, drain, paced
from e2e.performance.contenders import Contender
from e2e.performance.generator import Load, LoadFailed, closed_loop, quantile
from e2e.performance.observation import CpuMeter
from e2e.performance.pop import pop
from e2e.performance.timer import burst
from e2e.performance.transactions import transact
from e2e.processes import wait_until

Figures = Mapping[str, float]
RAMP_SECONDS = 1.0
DRAIN_WARM_MESSAGES = 100_000
POP_WARM_SECONDS = 10.0
FILTER_WARM_DRAINS = 3
TIMER_MESSAGES = 10_000


@dataclass(frozen=True, slots=True)
class Extent:
    """How long and how much; ``--quick`` shrinks it for a look, not for a judgement."""

    seconds: float = 10.0
    rounds: int = 3
    pool_frames: int = 200_000
    backlog_messages: int = 500_000
    large_backlog_messages: int = 1_000_000
    warm_cpu_seconds: float = 15.0
    idle_seconds: float = 20.0
    log_bytes: int = 2 * 1024**3


QUICK = Extent(
    seconds=3.0,
    rounds=1,
    pool_frames=50_000,
    backlog_messages=100_000,
    large_backlog_messages=200_000,
    warm_cpu_seconds=12.0,
    idle_seconds=5.0,
    log_bytes=256 * 1024**2,
)


@dataclass(frozen=True, slots=True)
class Mode:
    """What ``broker.conf`` says besides the defaults; brokers are started anew for each mode."""

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    has_slave: bool = False


DEFAULTS = Mode("async-flush")
SYNC_FLUSH = Mode("sync-flush", {"flushDiskType": "SYNC_FLUSH"})
REPLICATED_SYNC = Mode("replicated-sync", {"brokerRole": "SYNC_MASTER", "inSyncReplicas": "2"}, has_slave=True)
REPLICATED_ASYNC = Mode("replicated-async", has_slave=True)
FILTERING = Mode("filtering", {"enablePropertyFilter": "true"})
SCALE = Mode("scale")
MODES = (DEFAULTS, FILTERING, SCALE, SYNC_FLUSH, REPLICATED_SYNC, REPLICATED_ASYNC)


@dataclass(frozen=True, slots=True)
class Scenario:
    """``run(contender, extent, round)`` returns figures by name."""

    name: str
    title: str
    run: Callable[[Contender, Extent, int], Figures]
    mode: Mode = DEFAULTS


def load_figures(load: Load, meter: CpuMeter) -> Figures:
    """The figures of a closed loop; anything but code 0 makes it worthless."""
    if set(load.codes) != {0}:
        raise LoadFailed(f"answers with codes {load.codes}")
    return {
        "msg_per_second": load.messages_per_second,
        "cpu_us_per_msg": meter.us_per_message(load.messages),
        "broker_cores": meter.seconds / meter.wall_seconds,
        "p50_ms": load.quantile_ms(0.5),
        "p99_ms": load.quantile_ms(0.99),
        "max_ms": load.quantile_ms(1.0),
    }


def sends(body_size: int, window: int) -> Callable[[Contender, Extent, int], Figures]:
    """Plain sends of one size with ``window`` in flight on one connection."""

    def run(contender: Contender, extent: Extent, number: int) -> Figures:
        topic = f"BenchSend{body_size}"
        contender.create_topic(topic)
        frames = extent.pool_frames if window > 1 else extent.pool_frames // 4
        pool = pools.single_sends(topic, body_size, frames, run=number + 1)
        meter = CpuMeter(contender.pid)
        return load_figures(measured(contender, pool, window, extent, meter), meter)

    return run


def measured(contender: Contender, pool: pools.Pool, window: int, extent: Extent, meter: CpuMeter) -> Load:
    """A closed loop without the generator's own garbage collections in it."""
    gc.collect()
    gc.disable()
    try:
        return closed_loop(
            contender.address,
            pool,
            window,
            extent.seconds,
            ramp_seconds=RAMP_SECONDS,
            on_measure=meter.start,
            on_end=meter.stop,
        )
    finally:
        gc.enable()


def replicated(window: int) -> Callable[[Contender, Extent, int], Figures]:
    """Plain sends to a master; the CPU of its slave, which shares its core, counts too, and the slave must have everything."""
    send = sends(128, window)

    def run(contender: Contender, extent: Extent, number: int) -> Figures:
        slave = contender.slave
        meter = CpuMeter(slave.process.pid)
        meter.start()
        figures = dict(send(contender, extent, number))
        started = time.monotonic()
        contender.wait_replicated()
        meter.stop()
        # The slave's share of its core from the start of the run until it had everything.
        return figures | {"slave_cores": meter.seconds / meter.wall_seconds, "lag_s": time.monotonic() - started}

    return run


def batches(contender: Contender, extent: Extent, number: int) -> Figures:
    """Batches of 100 messages of 128 bytes, 8 in flight."""
    contender.create_topic("BenchBatch")
    pool = pools.batch_sends("BenchBatch", 128, 100, max(200, extent.pool_frames // 100), run=number + 1)
    meter = CpuMeter(contender.pid)
    return load_figures(measured(contender, pool, 8, extent, meter), meter)


def backlog_drain(contender: Contender, extent: Extent, number: int) -> Figures:
    """Pull a backlog from its start: 32 a pull, 4 pulls in flight."""
    if number == 0:
        fill_backlog(contender, "BenchDrainWarm", DRAIN_WARM_MESSAGES)
        drain(contender.address, "BenchDrainWarm", DRAIN_WARM_MESSAGES, on_measure=noop, on_end=noop)
        fill_backlog(contender, "BenchDrain", extent.backlog_messages)
    meter = CpuMeter(contender.pid)
    out = drain(contender.address, "BenchDrain", extent.backlog_messages, on_measure=meter.start, on_end=meter.stop)
    return drain_figures(out, meter)


def drain_figures(out: Drain, meter: CpuMeter) -> Figures:
    return {
        "msg_per_second": out.messages / out.seconds,
        "cpu_us_per_msg": meter.us_per_message(out.messages),
        "broker_cores": meter.seconds / meter.wall_seconds,
        "p50_ms": quantile(out.latencies, 0.5) * 1000,
        "p99_ms": quantile(out.latencies, 0.99) * 1000,
        "max_ms": quantile(out.latencies, 1.0) * 1000,
    }


def filtered_drain(expression_type: str, expression: str) -> Callable[[Contender, Extent, int], Figures]:
    """A push consumer that wants one message of ten drains a backlog; messages are those that it passed."""

    def run(contender: Contender, extent: Extent, number: int) -> Figures:
        topic, count = "BenchFilter", extent.backlog_messages
        subscription = Subscription(f"bench_{expression_type}", expression, expression_type, count // 10)
        if topic not in contender.topics:
            contender.fill(
                topic, pools.batch_sends(topic, 128, 100, min(count // 100, 2000), is_marked=True), count // 100
            )
        for _ in range(FILTER_WARM_DRAINS if number == 0 else 0):
            drain(contender.address, topic, count, subscription=subscription, on_measure=noop, on_end=noop)
        meter = CpuMeter(contender.pid)
        out = drain(
            contender.address, topic, count, subscription=subscription, on_measure=meter.start, on_end=meter.stop
        )
        return drain_figures(out, meter)

    return run


def noop() -> None:
    """For what is not measured."""


def fill_backlog(contender: Contender, topic: str, messages: int) -> None:
    contender.fill(topic, pools.batch_sends(topic, 128, 100, min(messages // 100, 2000)), messages // 100)


def long_poll(contender: Contender, extent: Extent, number: int) -> Figures:
    """500 messages a second, consumed by pulls that wait at the broker."""
    contender.create_topic("BenchPoll")
    meter = CpuMeter(contender.pid)
    meter.start()
    out = paced(contender.address, "BenchPoll", 500, extent.seconds, offsets=contender.max_offsets("BenchPoll"))
    meter.stop()
    return delivery_figures(out.end_to_end) | {
        "broker_cores": meter.seconds / meter.wall_seconds,
        "send_p50_ms": quantile(out.send_latencies, 0.5) * 1000,
    }


def delivery_figures(seconds: list[float]) -> dict[str, float]:
    return {
        "p50_ms": quantile(seconds, 0.5) * 1000,
        "p99_ms": quantile(seconds, 0.99) * 1000,
        "max_ms": quantile(seconds, 1.0) * 1000,
        "min_ms": min(seconds) * 1000,
    }


def delay(contender: Contender, extent: Extent, number: int) -> Figures:
    """Lateness of delay level 1 (1 s) at 200 messages a second; a message must never be early."""
    contender.create_topic("BenchDelay")
    out = paced(
        contender.address,
        "BenchDelay",
        200,
        extent.seconds,
        delay_level=1,
        delay_seconds=1.0,
        offsets=contender.max_offsets("BenchDelay"),
    )
    return delivery_figures(out.end_to_end)


def idle(contender: Contender, extent: Extent, number: int) -> Figures:
    """CPU of a broker that nobody uses, and memory of it and its name server."""
    started = observation.precise_cpu_seconds(contender.pid)
    wall = time.monotonic()
    time.sleep(extent.idle_seconds)
    share = (observation.precise_cpu_seconds(contender.pid) - started) / (time.monotonic() - wall)
    broker = observation.memory(contender.pid)
    namesrv = observation.memory(contender.cluster.namesrvs[0].pid)
    return {
        "idle_core_percent": share * 100,
        "private_mib": broker.private_mib,
        "resident_mib": broker.resident_mib,
        "namesrv_private_mib": namesrv.private_mib,
    }


def first_send_seconds(contender: Contender) -> float:
    """Seconds from the start of the broker process to its first accepted send."""
    pool = pools.single_sends("BenchStart", 128, 1)

    def accepted() -> bool:
        contender.cluster.broker.process.check()
        try:
            return closed_loop(contender.address, pool, 1, 5.0, requests_max=1).codes == {0: 1}
        except OSError:
            return False

    wait_until(accepted, "a send is accepted", 120, poll_seconds=0.005)
    return time.monotonic() - contender.cluster.broker.process.started_monotonic


def restart(contender: Contender, extent: Extent, number: int) -> Figures:
    """Start after kill -9 with ``log_bytes`` of log: everything acknowledged must be there again."""
    topic = "BenchRestart"
    stored = contender.stored(topic) if topic in contender.topics else 0
    if number == 0:
        pool = pools.batch_sends(topic, 1024, 100, 200)
        contender.fill(topic, pool, max(1, extent.log_bytes // (pool.frame_size * 12 // 10)))
        stored = contender.stored(topic)
    contender.cluster.broker.process.kill()
    contender.cluster.broker.process.start()
    seconds = first_send_seconds(contender)
    cpu = observation.cpu_seconds(contender.pid)
    after = contender.stored(topic)
    if after != stored:
        raise LoadFailed(f"{after} of {stored} acknowledged messages are there after kill -9")
    return {"start_seconds": seconds, "start_cpu_seconds": cpu, "messages": float(stored)}


def large_backlog(contender: Contender, extent: Extent, number: int) -> Figures:
    """Latency of sends with nobody consuming a large backlog, against the same on an empty topic; memory before and after."""
    topic = "BenchBacklog"
    contender.create_topic(topic)
    pool = pools.single_sends(topic, 128, extent.pool_frames, run=number + 1)
    meter = CpuMeter(contender.pid)
    empty = load_figures(measured(contender, pool, 64, extent, meter), meter)
    before = observation.memory(contender.pid)
    fill_backlog(contender, topic, extent.large_backlog_messages)
    full = load_figures(measured(contender, pool, 64, extent, meter), meter)
    after = observation.memory(contender.pid)
    return dict(full) | {
        "p99_to_empty": full["p99_ms"] / empty["p99_ms"],
        "private_before_mib": before.private_mib,
        "private_after_mib": after.private_mib,
    }


def transactions(contender: Contender, extent: Extent, number: int) -> Figures:
    """Half messages of 128 bytes, 32 in flight, each committed; every one must be in the topic once."""
    topic = "BenchTransactions"
    contender.create_topic(topic)
    before = contender.stored(topic)
    meter = CpuMeter(contender.pid)
    out = transact(
        contender.address, topic, 128, 32, extent.seconds, run=number + 1, ramp_seconds=RAMP_SECONDS,
        on_measure=meter.start, on_end=meter.stop,
    )  # fmt: skip
    wait_until(lambda: contender.stored(topic) - before >= out.total, "all transactions are committed", 30)
    if contender.stored(topic) - before != out.total:
        raise LoadFailed(f"{contender.stored(topic) - before} messages of {out.total} transactions")
    return {
        "msg_per_second": out.transactions / out.seconds,
        "cpu_us_per_msg": meter.us_per_message(out.transactions),
        "broker_cores": meter.seconds / meter.wall_seconds,
        "p50_ms": quantile(out.latencies, 0.5) * 1000,
        "p99_ms": quantile(out.latencies, 0.99) * 1000,
        "max_ms": quantile(out.latencies, 1.0) * 1000,
    }


def pops(contender: Contender, extent: Extent, number: int) -> Figures:
    """Pop a backlog, 32 a pop, 4 pops in flight, and acknowledge every message; no message may come twice."""
    topic = "BenchPop"
    if number == 0:
        fill_backlog(contender, topic, extent.backlog_messages)
        pop(
            contender.address, topic, "bench_pop_warm", extent.backlog_messages, 4, POP_WARM_SECONDS,
            on_measure=noop, on_end=noop,
        )  # fmt: skip
    meter = CpuMeter(contender.pid)
    out = pop(
        contender.address, topic, f"bench_pop_{number}", extent.backlog_messages, 4, extent.seconds,
        on_measure=meter.start, on_end=meter.stop,
    )  # fmt: skip
    return {
        "msg_per_second": out.messages / out.seconds,
        "cpu_us_per_msg": meter.us_per_message(out.messages),
        "broker_cores": meter.seconds / meter.wall_seconds,
        "p50_ms": quantile(out.latencies, 0.5) * 1000,
        "p99_ms": quantile(out.latencies, 0.99) * 1000,
        "max_ms": quantile(out.latencies, 1.0) * 1000,
    }


def timers(contender: Contender, extent: Extent, number: int) -> Figures:
    """Ten thousand timer messages due within one second, consumed by long poll; every one must come, and none early."""
    topic = f"BenchTimer{number}"
    contender.create_topic(topic)
    meter = CpuMeter(contender.pid)
    out = burst(
        contender.address, topic, TIMER_MESSAGES, [0] * pools.QUEUE_COUNT, run=number + 1,
        on_measure=meter.start, on_end=meter.stop,
    )  # fmt: skip
    if min(out.lateness) < 0:
        raise LoadFailed(f"a message came {-min(out.lateness) * 1000:.1f} ms early")
    return {
        "messages": len(out.lateness),
        "cpu_us_per_msg": meter.us_per_message(len(out.lateness)),
        "p50_ms": quantile(out.lateness, 0.5) * 1000,
        "p99_ms": quantile(out.lateness, 0.99) * 1000,
        "max_ms": quantile(out.lateness, 1.0) * 1000,
    }


def many(contender: Contender, extent: Extent, number: int) -> Figures:
    """Sends, start, memory and answers with 5 000 topics, 20 000 queues and 2 000 groups, against sends without them."""
    topic = "BenchScaleSend"
    contender.create_topic(topic)
    pool = pools.single_sends(topic, 128, extent.pool_frames, run=2 * number)
    meter = CpuMeter(contender.pid)
    figures: dict[str, float] = {}
    if number == 0:
        alone = load_figures(measured(contender, pool, 64, extent, meter), meter)
        figures = {"alone_msg_per_second": alone["msg_per_second"], "alone_p99_ms": alone["p99_ms"]}
        scale.build(contender.address)
    process = contender.cluster.broker.process
    process.stop()
    process.start()
    figures["start_seconds"] = first_send_seconds(contender)
    figures["start_cpu_seconds"] = observation.cpu_seconds(contender.pid)
    contender.cluster.wait_registered()
    seconds, name = scale.slowest_answer(contender.address)
    print(f"slowest answer: {name}", file=sys.stderr)
    meter = CpuMeter(contender.pid)
    figures |= load_figures(measured(contender, pool, 64, extent, meter), meter)
    return figures | {
        "answer_max_ms": seconds * 1000,
        "private_mib": observation.memory(contender.pid).private_mib,
    }


SCENARIOS = (
    Scenario("idle", "idle for a while after the start", idle),
    Scenario("send-128", "single sends, 128 B, 64 in flight", sends(128, 64)),
    Scenario("send-1k", "single sends, 1 KB, 64 in flight", sends(1024, 64)),
    Scenario("window-1", "single sends, 128 B, one in flight", sends(128, 1)),
    Scenario("batch", "batches of 100 x 128 B, 8 in flight", batches),
    Scenario("drain", "draining a backlog, 32 a pull, 4 in flight", backlog_drain),
    Scenario("poll", "produce to consume by long poll, 500/s", long_poll),
    Scenario("delay", "lateness of delay level 1, 200/s", delay),
    Scenario("timer", "lateness of 10 000 timer messages due within one second", timers),
    Scenario("transactions", "half message and commit, 128 B, 32 in flight", transactions),
    Scenario("pop", "pop 32 a pop, 4 in flight, and acknowledge each message", pops),
    Scenario("backlog", "sends with a large backlog, 64 in flight", large_backlog),
    Scenario("restart", "start after kill -9", restart),
    Scenario("filter-tag", "one of ten by its tag, from a backlog", filtered_drain("TAG", "t3"), FILTERING),
    Scenario(
        "filter-sql",
        "one of ten by SQL92, from a backlog",
        filtered_drain("SQL92", "level > 8 AND (colour = 'blue' OR colour IS NULL)"),
        FILTERING,
    ),
    Scenario("scale", "5 000 topics, 20 000 queues, 2 000 groups: sends after a restart, 64 in flight", many, SCALE),
    Scenario("sync-1", "SYNC_FLUSH, 128 B, one in flight", sends(128, 1), SYNC_FLUSH),
    Scenario("sync-64", "SYNC_FLUSH, 128 B, 64 in flight", sends(128, 64), SYNC_FLUSH),
    Scenario("sync-512", "SYNC_FLUSH, 128 B, 512 in flight", sends(128, 512), SYNC_FLUSH),
    Scenario(
        "replicated-sync-512", "SYNC_MASTER, inSyncReplicas=2, 128 B, 512 in flight", replicated(512), REPLICATED_SYNC
    ),
    Scenario("replicated-async", "ASYNC_MASTER with a slave, 128 B, 64 in flight", replicated(64), REPLICATED_ASYNC),
)
