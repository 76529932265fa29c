"""Centrifugo's `engine.type` and `engine.redis.*` as the settings of ours that mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, urlsplit

_DEFAULT: Final = "redis://127.0.0.1:6379"


def map_engine(theirs: Mapping[str, object]) -> dict[str, object]:
    """Turn the mapped keys that are set (with dots) into ours. Raises ValueError saying what cannot be turned."""
    ours: dict[str, object] = {}
    kind = theirs.get("engine.type", "memory")
    if kind == "redis":
        ours["engine.url"] = _url(theirs)
    elif kind != "memory":
        raise ValueError(f"engine.type: should be memory or redis, not {kind}")
    if prefix := theirs.get("engine.redis.prefix"):
        ours["engine.prefix"] = prefix
    if timeout := theirs.get("engine.redis.io_timeout"):
        ours["engine.command_timeout"] = timeout
    return ours


def _url(theirs: Mapping[str, object]) -> str:
    address = _address(theirs.get("engine.redis.address"))
    parts = urlsplit(address if "://" in address else f"redis://{address}")
    secure = parts.scheme == "rediss" or str(theirs.get("engine.redis.tls.enabled", False)).lower() in ("true", "1")
    user = quote(str(theirs.get("engine.redis.user") or ""), safe="") or parts.username or ""
    password = quote(str(theirs.get("engine.redis.password") or ""), safe="") or parts.password or ""
    login = f"{user}:{password}@" if user or password else ""
    database = parts.path.strip("/") or str(theirs.get("engine.redis.db") or 0)
    return f"{'rediss' if secure else 'redis'}://{login}{parts.netloc.rpartition('@')[2]}/{database}"


def _address(value: object) -> str:
    addresses = [value] if isinstance(value, str) else list(value) if isinstance(value, list | tuple) else []
    if len(addresses) > 1:
        raise ValueError(
            "engine.redis.address: for several servers set engine.url to redis://host:port,redis://host:port"
        )
    return str(addresses[0]) if addresses and addresses[0] else _DEFAULT
