"""What a test may need of the machine, and whether it is there."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

E2E = Path(__file__).parent.parent / "e2e"


@cache
def missing(what: str) -> str:
    """Return why this machine cannot run such a test; empty = it can."""
    match what:
        case "node":
            return "" if shutil.which("node") and shutil.which("npm") else "no node and npm on PATH"
        case "sdks":
            return missing("node") or ("" if _sdks_are_installed() else "no SDKs: `make test` installs them")
        case "chromium":
            return "" if _chromium() else "no chromium on PATH and none of playwright's"
        case "redis-tls":
            return "" if _redis_speaks_tls() else "no redis-server with TLS on PATH"
        case _:
            raise ValueError(f"unknown need {what!r}")


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
