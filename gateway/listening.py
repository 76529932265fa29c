"""Listening sockets: opened and tuned, and left without refusing anybody when others listen on the port, too.

With SO_REUSEPORT the kernel gives a connection to one of the sockets of the port when its SYN comes, and resets what
was not accepted yet when that one is closed. So a socket that is to close drops every SYN that comes to it first. What
had begun is accepted as ever; a client whose SYN was dropped hears nothing, sends it again after a second, and by then
only the others are there.
"""

from __future__ import annotations

import ctypes
import errno
import socket
import struct
import sys
from typing import Final

import structlog

from gateway.errors import OperatorError

BACKLOG: Final = 4096  # a herd that comes back after a restart is larger than the usual 128
SEND_BUFFER: Final = 65_536  # of the kernel, per socket: what a client that does not read may tie up there
USER_TIMEOUT_MS: Final = 10_000  # a peer that acknowledges nothing for so long is gone

STEP_ASIDE: Final = 0.5  # seconds for handshakes under way; below the second after which a SYN comes again

_SO_ATTACH_FILTER: Final = 26  # asm-generic/socket.h; needs no privilege
_FLAGS_AT: Final = 13  # of the TCP header, which is where the packet begins for this filter
_SYN: Final = 0x02
_SYN_ACK: Final = 0x12
_ONLY_OTHERS: Final = (  # linux/filter.h: code, where to if true, where to if false, constant
    (0x30, 0, 0, _FLAGS_AT),  # load that byte
    (0x54, 0, 0, _SYN_ACK),  # keep SYN and ACK of it
    (0x15, 0, 1, _SYN),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop it,
    (0x06, 0, 0, 0xFFFF_FFFF),  # else take all of it
)

log = structlog.get_logger(__name__)


def listen(host: str, port: int, *, reuse_port: bool = False, option: str = "--port") -> socket.socket:
    """Open a listening socket; `port` 0 = any. Raises OperatorError, naming `option` as the way out."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except socket.gaierror as error:
        raise OperatorError(f"cannot listen on {host}: {error.strerror}; give an address of this machine") from None
    sock = socket.socket(family, kind, protocol)
    try:
        _tune(sock, reuse_port=reuse_port)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise OperatorError(_advice(host, port, option, error)) from None
    sock.setblocking(False)
    return sock


def _tune(sock: socket.socket, *, reuse_port: bool) -> None:
    """Set what every accepted socket inherits. Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _advice(host: str, port: int, option: str, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} on {host} is taken: stop what listens there, or choose another with {option}"
    if error.errno == errno.EACCES:
        return f"port {port} needs more rights than this process has: choose one from 1024 up with {option}"
    return f"cannot listen on {host} port {port}: {error.strerror}"


def step_aside(listening: socket.socket) -> bool:
    """Leave new connections to the other sockets of the port; False: this system has no way for that.

    To be closed after STEP_ASIDE, and accepted from until then. Cannot be taken back.
    """
    if sys.platform != "linux":
        return False
    program = b"".join(struct.pack("=HBBI", *line) for line in _ONLY_OTHERS)
    held = ctypes.create_string_buffer(program, len(program))
    try:
        listening.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", len(_ONLY_OTHERS), ctypes.addressof(held))
        )
    except OSError as error:
        log.warning("server.port_not_left", why=error.strerror)
        return False
    return True
