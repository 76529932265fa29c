"""`python -m gateway.workers COUNT SETTINGS LEVEL FORMAT`: what `gateway serve --workers` becomes; see `becoming`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from gateway.log import configure
from gateway.workers.parent import Parent, Program
from gateway.workers.supervision import Supervision

if TYPE_CHECKING:
    from typing import Literal


def main(count: str, settings: str, level: str, style: str) -> int:
    """Run so many workers by the settings in that descriptor; return the exit code."""
    configure(level, cast("Literal['auto', 'json', 'console']", style))
    command = [sys.executable, "-P", "-m", "gateway.workers.worker", settings]
    return Parent(Program(command, [int(settings)]), Supervision(int(count))).run()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
