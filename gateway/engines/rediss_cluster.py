"""`rediss+cluster://`: the Redis engine over a cluster, everything over TLS."""

from __future__ import annotations

from gateway.engines.redis_cluster import check, create

__all__ = ["check", "create"]
