"""What Prometheus may know of us: one object with a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

# a hash takes some 40 ms; beyond that is waiting
_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# a gateway takes milliseconds; beyond seconds it is away
_CLOSURE_BUCKETS = (0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0)


class Metrics:
    """Counters and gauges; label values are from small fixed sets."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        counter = partial(Counter, registry=self.registry)
        histogram = partial(Histogram, registry=self.registry)
        self.logins = counter("auth_logins", "Log-ins by result: ok, refused.", ["result"])
        self.login_seconds = histogram("auth_login_duration_seconds", "Time a log-in took.", buckets=_BUCKETS)
        self.throttled = counter(
            "auth_throttled",
            "Attempts refused for coming too often, by what counted them: account, address, device.",
            ["by"],
        )
        self.hash_refusals = counter("auth_password_hash_refusals", "Passwords not hashed: too many were waiting.")
        self.rehashes = counter("auth_password_rehashes", "Passwords hashed anew at a log-in, by parameters or pepper.")
        self.registrations = counter("auth_registrations", "Registrations by result: ok, taken.", ["result"])
        self.refreshes = counter(
            "auth_refreshes",
            "Uses of refresh tokens by result: ok, again (the answer was lost), refused.",
            ["result"],
        )
        self.refresh_reuse = counter("auth_refresh_reuse", "Sessions ended because a used refresh token came back.")
        self.logouts = counter("auth_logouts", "Sessions ended by their users.")
        self.tokens = counter("auth_tokens_issued", "Tokens by kind: access, refresh, subscription, ticket.", ["kind"])
        self.closures = counter(
            "auth_closures", "Orders to the gateway by result: told, failed (tried again), given_up.", ["result"]
        )
        self.closure_seconds = histogram(
            "auth_closure_seconds",
            "Time from the end of a session or key until the gateway knew of it.",
            buckets=_CLOSURE_BUCKETS,
        )
        self.audited = counter("auth_audit_events", "Events of the audit log.", ["action", "result"])
        self.audit_lost = counter("auth_audit_lost", "Events that could not be written to AUTH_AUDIT_FILE.")

    def gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge that is read at scrape time."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def exposition(self) -> bytes:
        """Return everything in the text format."""
        return generate_latest(self.registry)
