"""Metrics of a name server, read from its tables when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from rocketmq_common import versions
from rocketmq_remoting.codes import RequestCode, ResponseCode
from rocketmq_remoting.connection import LATENCY_BOUNDS_MS

if TYPE_CHECKING:
    from rocketmq_namesrv.app import NameServer


class NamesrvCollector:
    """A prometheus_client collector."""

    def __init__(self, namesrv: NameServer) -> None:
        self._namesrv = namesrv

    def collect(self) -> Iterator[Metric]:
        """Everything, as it is now."""
        table, server = self._namesrv.table, self._namesrv.server
        brokers = GaugeMetricFamily(
            "rocketmq_namesrv_brokers", "Broker processes registered", labels=["cluster", "node_type"]
        )
        counts: dict[str, int] = {}
        for key in table.live:
            counts[key.cluster] = counts.get(key.cluster, 0) + 1
        for cluster, count in sorted(counts.items()):
            brokers.add_metric([cluster, "nameserver"], count)
        yield brokers
        yield GaugeMetricFamily("rocketmq_namesrv_broker_names", "Broker names registered", value=len(table.brokers))
        yield GaugeMetricFamily("rocketmq_namesrv_topics", "Topics with a route", value=len(table.topics))
        yield GaugeMetricFamily("rocketmq_namesrv_connections", "Open connections", value=len(server.connections))
        yield CounterMetricFamily("rocketmq_namesrv_table_changes", "Changes of the route table", value=table.revision)
        build = GaugeMetricFamily(
            "rocketmq_build_info", "Release that is spoken on the wire", labels=["version", "node_type"]
        )
        build.add_metric([versions.version_name(versions.CURRENT), "nameserver"], 1)
        yield build
        latency = HistogramMetricFamily(
            "rocketmq_rpc_latency_milliseconds",
            "Time from a request's arrival to its answer",
            labels=["node_type", "protocol_type", "request_code", "response_code", "is_long_polling"],
        )
        for (code, response_code, held), buckets in server.latencies.items():
            total = 0
            series = []
            for bound, count in zip((*map(float, LATENCY_BOUNDS_MS), "+Inf"), buckets.counts, strict=True):
                total += count
                series.append((str(bound), total))
            labels = ["nameserver", "remoting", request_name(code), response_name(response_code), str(held).lower()]
            latency.add_metric(labels, series, buckets.sum_ms)
        yield latency


def request_name(code: int) -> str:
    """The lower-case name of a request code; unknown ones share a name, for a client may send any number."""
    try:
        return RequestCode(code).name.lower()
    except ValueError:
        return "unknown"


def response_name(code: int) -> str:
    """The lower-case name of a response code."""
    try:
        return ResponseCode(code).name.lower()
    except ValueError:
        return "unknown"
