"""Free ports for what the tests start: a range of its own for each process that tests, apart from the demo's own."""

from __future__ import annotations

import os
from typing import Final

from gateway.demo.ports import QUIET, Ports

_FIRST: Final = 10_000
_SHARES: Final = 8  # the processes of one run have numbers from 0 on


def _share() -> range:
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _SHARES
    size = (QUIET.start - _FIRST) // _SHARES
    return range(_FIRST + number * size, _FIRST + (number + 1) * size)


free_port: Final = Ports(_share()).free
