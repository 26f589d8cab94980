"""Metrics of a name server, read from its tables when they are asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from rocketmq_common import versions
from rocketmq_common.exposition import COUNTER, GAUGE, HISTOGRAM, Family
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.latencies import LATENCY_BOUNDS_MS

if TYPE_CHECKING:
    from rocketmq_namesrv.app import NameServer

COMMON: Final = {"node_type": "nameserver"}
CALL_LABELS: Final = ("protocol_type", "request_code", "response_code", "is_long_polling")


def collect(namesrv: NameServer) -> Iterator[Family]:
    """Everything, as it is now."""
    table, server = namesrv.table, namesrv.server
    brokers = Family(GAUGE, "rocketmq_namesrv_brokers", "Broker processes registered", COMMON, ["cluster"])
    for cluster, count in sorted(Counter(key.cluster for key in table.live).items()):
        brokers.add([cluster], count)
    yield brokers
    yield _single(GAUGE, "rocketmq_namesrv_broker_names", "Broker names registered", len(table.brokers))
    yield _single(GAUGE, "rocketmq_namesrv_topics", "Topics with a route", len(table.topics))
    yield _single(GAUGE, "rocketmq_namesrv_connections", "Open connections", len(server.connections))
    yield _single(COUNTER, "rocketmq_namesrv_table_changes_total", "Changes of the route table", table.revision)
    build = Family(GAUGE, "rocketmq_build_info", "Release that is spoken on the wire", COMMON, ["version"])
    build.add([versions.version_name(versions.CURRENT)], 1)
    yield build
    calls = Family(
        HISTOGRAM,
        "rocketmq_rpc_latency_milliseconds",
        "Time from a request's arrival to its answer",
        COMMON,
        CALL_LABELS,
    )
    # Unknown codes share a name: a client may send any number, and each would be a series for ever.
    merged: dict[tuple[str, ...], tuple[list[int], float]] = {}
    for (code, response_code, held), buckets in server.latencies.items():
        key: tuple[str, ...] = (
            "remoting",
            _name(RequestCode, code),
            _name(ResponseCode, response_code),
            str(held).lower(),
        )
        counts, sum_ms = merged.get(key, ([0] * len(buckets.counts), 0.0))
        merged[key] = ([a + b for a, b in zip(counts, buckets.counts, strict=True)], sum_ms + buckets.sum_ms)
    for key, (counts, sum_ms) in merged.items():
        calls.add_histogram(key, LATENCY_BOUNDS_MS, counts, sum_ms)
    yield calls


def _single(kind: str, name: str, text: str, value: float) -> Family:
    family = Family(kind, name, text, COMMON)
    family.add([], value)
    return family


def _name(codes: type[RequestCode] | type[ResponseCode], code: int) -> str:
    try:
        return codes(code).name.lower()
    except ValueError:
        return "unknown"
