"""A TCP cable between a client and a node that a test can cut and mend."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER of no time: the peer sees a reset, as with a dead network path


@contextmanager
def cable_to(target: int) -> Iterator[Cable]:
    """Lay a cable to a port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as door:
        cable = Cable(door, target)
        threading.Thread(target=cable.serve, daemon=True).start()
        yield cable
        door.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        cable.cut()


class Cable:
    """Carries bytes from a free port of 127.0.0.1 to another; in threads, so that a blocking test can use it."""

    def __init__(self, door: socket.socket, target: int) -> None:
        self._target = target
        self._whole = True
        self._ends: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._door = door
        self.port: int = door.getsockname()[1]
        self.cuts = 0  # links that were up when the cable was cut

    def cut(self) -> None:
        """Reset what is connected, and whoever comes until the cable is mended."""
        with self._lock:
            self._whole = False
            ends, self._ends = self._ends, set()
        self.cuts += len(ends) // 2
        for end in ends:
            _reset(end)

    def mend(self) -> None:
        """Carry bytes again."""
        with self._lock:
            self._whole = True

    def lead_to(self, target: int) -> None:
        """Lead whoever comes from now on to another port, as a load balancer does when a node is gone."""
        self._target = target

    def serve(self) -> None:
        """Accept until the door is closed."""
        with suppress(OSError):  # the door was closed
            while True:
                near, _ = self._door.accept()
                self._connect(near)

    def _connect(self, near: socket.socket) -> None:
        with self._lock:
            if not self._whole:
                _reset(near)
                return
            far = socket.create_connection(("127.0.0.1", self._target))
            self._ends |= {near, far}
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._carry, args=(source, sink), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # cut, or one side went
            while data := source.recv(65_536):
                sink.sendall(data)
        with self._lock:
            self._ends -= {source, sink}
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        end.shutdown(socket.SHUT_RD)  # wakes the thread that reads here
    end.close()
