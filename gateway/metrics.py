"""What the node counts and measures, and how Prometheus reads it."""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Final, NamedTuple, TypeAlias, cast, get_args

from prometheus_client import GCCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector, CollectorRegistry

from gateway import __version__
from gateway.build import build
from gateway.contracts.recorder import Recorder
from gateway.disconnects import DISCONNECTS
from gateway.protocol.messages import Command, Push

Reading: TypeAlias = float | Mapping[str, float]
"""What the source of a gauge gives: one number, or one per value of its label."""

OTHER: Final = "other"
"""Where a label that the table does not know is counted: what a peer sends can make no new series."""

_COMMANDS: Final = " ".join(sorted(it.__name__.lower() for it in get_args(Command)))
_PUSHES: Final = " ".join(sorted(it.__name__.removesuffix("Push").lower() for it in get_args(Push)))
_CLOSES: Final = " ".join(
    f"{code}:{initiator}"
    for code in (OTHER, 1000, 1001, 1005, 1006, *(it.code for it in DISCONNECTS))
    for initiator in ("client", "server", "network")
)


class CounterRow(NamedTuple):
    """One counter: `labels` are its label names, `values` all they may be; two labels are written `a:b`."""

    help: str
    labels: tuple[str, ...] = ()
    values: str = ""


class HistogramRow(NamedTuple):
    """One histogram; `bounds` are the upper bounds of its buckets, without infinity."""

    name: str
    help: str
    bounds: tuple[float, ...]


class GaugeRow(NamedTuple):
    """One gauge, read when Prometheus asks."""

    help: str
    label: str = ""


# Said in full, or mypyc keeps the numbers in a form that it cannot tell from "not set yet".
_FAST: Final[tuple[float, ...]] = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_LASTING: Final[tuple[float, ...]] = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 43_200.0, 86_400.0)
_MANY: Final[tuple[float, ...]] = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0)

COUNTERS: Final[Mapping[str, CounterRow]] = {
    "handshakes": CounterRow(
        "Handshakes by how they ended.",
        ("result",),
        "ok origin token limit_ip limit_user capacity draining unavailable bad_request timeout",
    ),
    "disconnects": CounterRow("Ended connections by close code and who closed.", ("code", "initiator"), _CLOSES),
    "messages_received": CounterRow("Commands of clients.", ("type",), _COMMANDS),
    "messages_sent": CounterRow("Replies, errors and pushes to clients.", ("type",), f"reply error {_PUSHES}"),
    "received_bytes": CounterRow("Bytes read from clients."),
    "sent_bytes": CounterRow("Bytes written to clients."),
    "publishes": CounterRow("Publications handed to the engine.", ("result",), "ok duplicate error"),
    "recoveries": CounterRow("Recoveries by how much came back.", ("result",), "full empty failed"),
    "gaps_detected": CounterRow("Lost publications noticed.", ("where",), "live link epoch position_check"),
    "repairs": CounterRow("Gaps mended by this node.", ("result",), "full empty lost failed overflow"),
    "duplicates_dropped": CounterRow("Publications that had been delivered before."),
    "slow_consumers": CounterRow("Clients closed for not reading.", ("reason",), "bytes age"),
    "transport_aborts": CounterRow("Links cut without a closing handshake.", ("reason",), "close_timeout backlog"),
    "rate_limited": CounterRow("Refused for coming too fast.", ("kind",), "command control error"),
    "auth_failures": CounterRow("Tokens that were not accepted.", ("reason",), "invalid expired unavailable"),
    "permission_denied": CounterRow(
        "Attempts of clients at what they may not do.",
        ("action",),
        "connect refresh subscribe sub_refresh publish message presence presence_stats members history",
    ),
    "jwks_refreshes": CounterRow("Fetches of the auth service's keys.", ("result",), "ok error"),
    "revocations": CounterRow(
        "Revocations that this node was told, by what they are about.", ("kind",), "sid jti kid user"
    ),
    "revocations_forgotten": CounterRow("Revocations that went before their end because there were too many."),
    "redis_errors": CounterRow(
        "Failed calls to Redis.", ("kind",), "down timeout lost refused busy oom readonly moved"
    ),
    "redis_reconnects": CounterRow("Links to Redis built again.", ("role",), "command pubsub"),
    "redis_publish_zero_receivers": CounterRow("Publications that reached no node although this one listens."),
    "redis_pubsub_probe_timeouts": CounterRow("Links that were up and carried nothing."),
    "redis_epochs_begun": CounterRow("Times a server turned out to be another than the one before."),
    "presence_expired": CounterRow("Presence entries of dead nodes that this node removed."),
    "presence_refresh_failures": CounterRow("Times this node had lost its own lease."),
    "redis_foreign_payloads": CounterRow("Messages in our channels that are not ours."),
    "errors": CounterRow("Bugs met at run time.", ("root",), "frame task"),
}
"""Short name → counter `gateway_<short name>_total`."""

HISTOGRAMS: Final[Mapping[str, HistogramRow]] = {
    "publish_duration": HistogramRow("publish_duration_seconds", "From publish to the engine's answer.", _FAST),
    "delivery_latency": HistogramRow("delivery_latency_seconds", "From publish to the socket, once each.", _FAST),
    "handshake_duration": HistogramRow("handshake_duration_seconds", "From accept to the open connection.", _FAST),
    "connection_duration": HistogramRow("connection_duration_seconds", "How long connections last.", _LASTING),
    "redis_command": HistogramRow("redis_command_duration_seconds", "From a command to Redis's answer.", _FAST),
    "redis_pubsub_probe_rtt": HistogramRow(
        "redis_pubsub_probe_rtt_seconds", "From Redis's answer to a probe to its arrival.", _FAST
    ),
    "repair_duration": HistogramRow("repair_duration_seconds", "From a gap to its mending.", _FAST),
    "event_loop_lag": HistogramRow("event_loop_lag_seconds", "How late the loop runs what is due.", _FAST),
    "recovered_messages": HistogramRow("recovered_messages", "Publications in a recovery.", _MANY),
}

GAUGES: Final[Mapping[str, GaugeRow]] = {
    "connections": GaugeRow("Connections by state.", "state"),
    "users": GaugeRow("Users with a connection on this node."),
    "subscriptions": GaugeRow("Subscriptions on this node."),
    "channels": GaugeRow("Channels somebody on this node listens to."),
    "redis_up": GaugeRow("Whether the link to Redis stands.", "role"),
    "jwks_age": GaugeRow("Seconds since the auth service's keys were fetched."),
    "revocations_in_force": GaugeRow("Sessions, tokens, keys and users whose tokens are barred."),
    "client_queue_bytes": GaugeRow("Bytes waiting for all clients."),
    "client_queue_max_bytes": GaugeRow("Bytes waiting for the slowest client."),
    "draining": GaugeRow("1 while the node is being emptied."),
    "drain_remaining_connections": GaugeRow("Connections that a drain has still to move away."),
    "presence_entries": GaugeRow("Presence entries held by this node."),
    "engine_in_memory": GaugeRow("1 if state is kept in this process alone."),
    "tasks": GaugeRow("Tasks of the event loop; none belongs to an idle connection."),
    "memory_limit": GaugeRow("Bytes that the node may occupy; beyond 80 % it lets nobody in. Not there: no limit."),
    "timers": GaugeRow("Entries of the timer wheel: a few of the node, one for each connection."),
}
_GAUGE_NAMES: Final = {"jwks_age": "jwks_age_seconds", "memory_limit": "memory_limit_bytes"}


class _Histogram:
    """Buckets as a plain list, so that a value costs one bisection and two additions."""

    __slots__ = ("bounds", "buckets", "row", "total")

    def __init__(self, row: HistogramRow) -> None:
        self.row = row
        self.bounds = row.bounds
        self.buckets = [0] * (len(row.bounds) + 1)
        self.total = 0.0


class Metrics(Recorder):
    """The metrics of one node, on a registry of their own, to which it is what `Collector` describes.

    Counting and measuring touch plain integers only; Prometheus's objects are made when it reads.
    """

    def __init__(self) -> None:
        self._counts = {name: dict.fromkeys(row.values.split() or [""], 0) for name, row in COUNTERS.items()}
        self._histograms = {name: _Histogram(row) for name, row in HISTOGRAMS.items()}
        self._sources: dict[str, Callable[[], Reading]] = {}
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(cast("Collector", self))

    def count(self, name: str, label: str = "", n: int = 1) -> None:
        """Add to a counter of `COUNTERS`. A wrong name raises KeyError; a label not in the table counts as `other`."""
        counts = self._counts[name]
        count = counts.get(label)
        if count is not None:
            counts[label] = count + n
        else:
            admitted = _admitted(label, counts)
            counts[admitted] = counts.get(admitted, 0) + n

    def observe(self, name: str, seconds: float) -> None:
        """Put a value into a histogram of `HISTOGRAMS`. A wrong name raises KeyError."""
        histogram = self._histograms[name]
        histogram.buckets[bisect_left(histogram.bounds, seconds)] += 1
        histogram.total += seconds

    def watch(self, name: str, source: Callable[[], Reading]) -> None:
        """Read a gauge of `GAUGES` from `source` at each scrape; it is called on the loop and must not block.

        A wrong name raises KeyError; a gauge nobody watches is not shown.
        """
        if name not in GAUGES:
            raise KeyError(name)
        self._sources[name] = source

    def exposition(self) -> tuple[bytes, str]:
        """Return what `/metrics` answers: the body and its content type."""
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4

    def collect(self) -> Iterator[Metric]:
        """Yield everything in Prometheus's own words (called by the registry)."""
        yield _build_info()
        yield from (_counter_family(name, counts) for name, counts in self._counts.items())
        yield from map(_histogram_family, self._histograms.values())
        yield from (_gauge_family(name, source()) for name, source in self._sources.items())

    def describe(self) -> Sequence[Metric]:
        """Return nothing: names need no check against another collector (called by the registry)."""
        return ()


def _admitted(label: str, known: Mapping[str, int]) -> str:
    with_initiator = f"{OTHER}:{label.rpartition(':')[2]}"  # clients choose codes: keep who it was
    return with_initiator if with_initiator in known else OTHER


def _build_info() -> Metric:
    info = GaugeMetricFamily("gateway_build_info", "What is running.", labels=["version", "python", "build"])
    info.add_metric([__version__, platform.python_version(), build()], 1)
    return info


def _counter_family(name: str, counts: Mapping[str, int]) -> Metric:
    row = COUNTERS[name]
    family = CounterMetricFamily(f"gateway_{name}", row.help, labels=row.labels)
    for label, value in counts.items():
        if value or len(row.labels) < 2:  # noqa: PLR2004 - the many pairs of two labels are shown once they happened
            family.add_metric((label.split(":") * 2)[: len(row.labels)], value)
    return family


def _histogram_family(histogram: _Histogram) -> Metric:
    row = histogram.row
    family = HistogramMetricFamily(f"gateway_{row.name}", row.help)
    bounds = [*map(str, row.bounds), "+Inf"]
    family.add_metric((), list(zip(bounds, accumulate(histogram.buckets), strict=True)), histogram.total)
    return family


def _gauge_family(name: str, reading: Reading) -> Metric:
    row = GAUGES[name]
    family = GaugeMetricFamily(
        f"gateway_{_GAUGE_NAMES.get(name, name)}", row.help, labels=[row.label] if row.label else []
    )
    for label, value in reading.items() if isinstance(reading, Mapping) else [("", reading)]:
        family.add_metric([label] if row.label else [], value)
    return family
