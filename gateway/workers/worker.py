"""`python -m gateway.workers.worker SETTINGS INDEX TOLD PARENT`: one node among those that a parent runs."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

from gateway.workers import UP

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main(settings: str, index: str, told: str, parent: str) -> int:
    """Be the node with this index, by the settings in that descriptor; return the exit code.

    One byte is written to `told` when all ports answer. When the parent dies, however, this node drains and goes.
    """
    if not end_with(int(parent)):
        return 1
    # Heavy, and only now: a parent that dies meanwhile has been taken care of.
    import structlog  # noqa: PLC0415 - see above

    from gateway.errors import OperatorError  # noqa: PLC0415 - see above
    from gateway.log import configure  # noqa: PLC0415 - see above
    from gateway.serving import serve_node  # noqa: PLC0415 - see above
    from gateway.settings.workers import from_bytes, worker_settings  # noqa: PLC0415 - see above

    mine = worker_settings(from_bytes(read_all(int(settings))), int(index))
    os.close(int(settings))  # nobody else needs to find secrets there
    configure(mine.log.level, mine.log.format)
    structlog.contextvars.bind_contextvars(worker=int(index))
    try:
        return serve_node(mine, started=lambda: _tell(int(told)))
    except OperatorError as error:
        for line in str(error).splitlines():
            print(f"gateway: {line}", file=sys.stderr)  # noqa: T201 - as the command that was given would have
        return 1


def end_with(parent: int) -> bool:
    """Have the kernel send SIGTERM when the parent dies; False: it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def read_all(descriptor: int) -> bytes:
    """Return what a file holds, whoever else reads it by the same descriptor."""
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def _tell(told: int) -> None:
    os.write(told, UP)
    os.close(told)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
