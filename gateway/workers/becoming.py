"""How `gateway serve` becomes the parent of workers: by another program in the same process, a fraction of its size."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from gateway.settings import Settings
from gateway.settings.workers import to_bytes


def become_parent(settings: Settings) -> NoReturn:
    """Run the parent in place of this program. Buffered output is written first.

    The settings go with it in memory that has no name, as they were checked: workers that are started later read no
    file that was changed meanwhile.
    """
    descriptor = keep(settings)
    os.set_inheritable(descriptor, True)
    http, log = settings.http_server, settings.log
    words = [str(http.workers), str(descriptor), log.level, log.format]
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-P", "-m", "gateway.workers", *words])  # noqa: S606 - no shell is wanted


def keep(settings: Settings) -> int:
    """Return a descriptor of memory that holds the settings."""
    descriptor = os.memfd_create("gateway-settings")
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(to_bytes(settings))
    return descriptor
