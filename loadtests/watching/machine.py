"""Says on which machine, and with which versions, a run was made: a figure without them is none."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

import redis.asyncio
from redis.exceptions import RedisError

from loadtests.kit.result import Machine

PACKAGES: Final = ("uvloop", "msgspec")  # what a generator's speed hangs on
PATIENCE: Final = 2.0  # seconds for a server to say its version
CPUINFO: Final = Path("/proc/cpuinfo")


def machine() -> Machine:
    """Return where this process runs."""
    return Machine(
        cores=cores(),
        model=cpu_model(_text(CPUINFO)) or platform.processor() or platform.machine(),
        system=f"{platform.system()} {platform.release()}",
        python=f"{platform.python_implementation()} {platform.python_version()}",
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
    )


def cores() -> int:
    """Return how many cores this process may use: in a container not all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def cpu_model(cpuinfo: str) -> str:
    """Return the name of the first processor; empty if the kernel gives none, as on some ARM."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"model name", "Model"}:
            return " ".join(value.split())
    return ""


def versions(of_nodes: Mapping[str, str], engine: str = "") -> dict[str, str]:
    """Return what ran: the generator's own versions, what the nodes said, and the engine if known."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, **of_nodes, **({"engine": engine} if engine else {})}


async def engine_version(url: str) -> str:
    """Return what the server at this `redis://` URL is, as `Valkey 8.1.1`; empty if it does not say."""
    async with redis.asyncio.Redis.from_url(url, socket_timeout=PATIENCE, socket_connect_timeout=PATIENCE) as link:
        try:
            told = await link.info("server")
        except (RedisError, OSError):
            return ""
    if "valkey_version" in told:
        return f"Valkey {told['valkey_version']}"
    return f"Redis {told['redis_version']}" if "redis_version" in told else ""


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
