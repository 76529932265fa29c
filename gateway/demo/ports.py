"""Free ports of this machine, for programs that are about to start."""

from __future__ import annotations

import random
import socket
from collections import deque
from collections.abc import Collection
from typing import Final

from gateway.errors import OperatorError

HOST: Final = "127.0.0.1"
QUIET: Final = range(20_000, 32_000)  # below the range of outgoing connections, which Linux begins at 32768


class Ports:
    """Ports of a range, each given once a round: two programs that have not bound theirs yet never get the same.

    Not ports that the kernel would choose: those it also gives to outgoing connections before our program binds them.
    """

    def __init__(self, numbers: range) -> None:
        self._range = numbers
        self._next = deque(random.sample(numbers, len(numbers)))

    def free(self, besides: Collection[int] = ()) -> int:
        """Return a port that nobody listens on now, none of `besides`. Raises OperatorError when none was found."""
        for _ in range(len(self._next)):
            self._next.rotate(-1)
            port = self._next[-1]
            if port not in besides and fault(port) is None:
                return port
        raise OperatorError(f"no free port from {self._range.start} to {self._range.stop} on {HOST}")


def fault(port: int) -> str | None:
    """Say why a port cannot be listened on; nothing when it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            return str(error.strerror)
    return None


free_port: Final = Ports(QUIET).free
