"""An HTTP server for one request: what it answers is settled beforehand."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

PATIENCE: Final = 60.0  # seconds for somebody to ask; then there is no answer, and the test says what it missed


@contextmanager
def answering(answer: bytes, *, until: bytes = b"\r\n\r\n") -> Iterator[tuple[str, list[bytes]]]:
    """Listen, answer the first request that ends with `until`, and hang up; yields the URL and each request line.

    A request is read whole: what is left unread would turn the end into a reset.
    """
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE)

        def serve() -> None:
            with suppress(OSError):
                link, _ = server.accept()
                with link:
                    link.settimeout(PATIENCE)
                    request = _read(link, until)
                    asked.append(request.split(b"\r\n")[0])
                    link.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", asked
        thread.join()


def _read(link: socket.socket, until: bytes) -> bytes:
    request = b""
    while not request.endswith(until):
        more = link.recv(65_536)
        if not more:
            raise ConnectionError("gone before the end")
        request += more
    return request
