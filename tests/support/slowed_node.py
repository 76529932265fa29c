"""The gateway with needless work for each write to a client, so that a test can see the gate find it.

SLOWED_BY=MICROSECONDS python -m tests.support.slowed_node serve ...
"""

from __future__ import annotations

import os
import time

from gateway import cli
from gateway.outbox import Outbox


def slow_down(microseconds: float) -> None:
    """Let each flush of an outbox use so much CPU time more."""
    usual, nanoseconds = Outbox.flush, int(microseconds * 1000)

    def flush(outbox: Outbox) -> None:
        stop = time.perf_counter_ns() + nanoseconds
        while time.perf_counter_ns() < stop:
            pass
        usual(outbox)

    Outbox.flush = flush  # type: ignore[assignment, method-assign] # to replace it is the point


if __name__ == "__main__":
    slow_down(float(os.environ["SLOWED_BY"]))
    cli.main()
