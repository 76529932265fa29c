"""`rediss+sentinel://`: the Redis engine behind Sentinel, everything over TLS."""

from __future__ import annotations

from gateway.engines.redis_sentinel import check, create

__all__ = ["check", "create"]
