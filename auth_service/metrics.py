"""What Prometheus may know of us: one object with a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# a hash takes some 40 ms; beyond that is waiting
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counters and gauges; label values are from small fixed sets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.logins = Counter("auth_logins", "Log-ins by result: ok, refused.", ["result"], registry=self.registry)
        self.login_seconds = Histogram(
            "auth_login_duration_seconds", "Time a log-in took.", buckets=_BUCKETS, registry=self.registry
        )
        self.registrations = Counter(
            "auth_registrations", "Registrations by result: ok, taken.", ["result"], registry=self.registry
        )
        self.refreshes = Counter(
            "auth_refreshes", "Uses of refresh tokens by result: ok, refused.", ["result"], registry=self.registry
        )
        self.refresh_reuse = Counter(
            "auth_refresh_reuse", "Refresh tokens presented a second time.", registry=self.registry
        )
        self.logouts = Counter("auth_logouts", "Sessions ended by their users.", registry=self.registry)
        self.tokens = Counter(
            "auth_tokens_issued",
            "Tokens by kind: access, refresh, subscription, ticket.",
            ["kind"],
            registry=self.registry,
        )

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read at scrape time."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def exposition(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self.registry)
