"""What a test may need of the machine, and whether it is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

from loadtests.peers.registry import PEERS
from tests.support import netns, postgres, tools

E2E = Path(__file__).parent.parent / "e2e"


@cache
def missing(what: str) -> str:
    """Return why this machine cannot run such a test; empty = it can."""
    match what:
        case "node":
            return "" if shutil.which("node") and shutil.which("npm") else "no node and npm on PATH"
        case "sdks":
            return missing("node") or ("" if _sdks_are_installed() else "no SDKs: `make test` installs them")
        case "oidc":
            installed = (E2E / "node_modules" / "oidc-provider").is_dir()
            return missing("node") or ("" if installed else "no oidc-provider: `make test` installs it")
        case "chromium":
            return "" if _chromium() else "no chromium on PATH and none of playwright's"
        case "netns":
            return netns.possible()
        case "postgres":
            return "" if postgres.program("postgres") and postgres.program("initdb") else "no PostgreSQL"
        case "redis-tls":
            return "" if _redis_speaks_tls() else "no redis-server with TLS on PATH"
        case _:
            return _missing_for_deploy(what)


def _missing_for_deploy(what: str) -> str:
    match what:
        case "deploy tools":
            return "" if tools.there() else "no tools for deploy artefacts: `make test` installs them"
        case "models":
            return missing("node") or tools.models_missing()
        case "images":
            return tools.cannot_build()
        case "prometheus":
            return (
                "" if shutil.which("prometheus") and shutil.which("promtool") else "no prometheus and promtool on PATH"
            )
        case "redis-exporter":
            return "" if redis_exporter() else "no redis_exporter on PATH"
        case "nginx":
            return "" if shutil.which("nginx") else "no nginx of the system on PATH"
        case "systemd":
            return "" if shutil.which("systemd-analyze") else "no systemd-analyze on PATH"
        case _:
            return _missing_peer(what)


def redis_exporter() -> str | None:
    """Return the program that tells Prometheus of Redis, under its own name or Debian's; None: there is none."""
    return shutil.which("redis_exporter") or shutil.which("prometheus-redis-exporter")


def _missing_peer(what: str) -> str:
    kind, _, name = what.partition(" ")
    if kind != "peer":
        raise ValueError(f"unknown need {what!r}")
    return PEERS[name].missing()


def _sdks_are_installed() -> bool:
    folders = (E2E / "node_modules" / "centrifuge", *(Path(sys.prefix) / "sdk" / it for it in ("0.5", "0.7")))
    return all(folder.is_dir() for folder in folders)


def _chromium() -> bool:
    if any(shutil.which(name) for name in ("chromium", "chromium-browser", "google-chrome")):
        return True
    return any(Path("~/.cache/ms-playwright").expanduser().glob("chromium*"))


def _redis_speaks_tls() -> bool:
    program = shutil.which("redis-server")
    if program is None:
        return False
    # A build without TLS does not know the option; one with it stops because the certificate is missing.
    arguments = [program, "--port", "0", "--tls-port", "1", "--tls-cert-file", "/dev/null"]
    tried = subprocess.run(arguments, capture_output=True, text=True, timeout=10, check=False)
    return "bad directive" not in (tried.stdout + tried.stderr).lower()
