"""`rediss://`: the Redis engine over TLS."""

from __future__ import annotations

from gateway.engines.redis import check, create

__all__ = ["check", "create"]
