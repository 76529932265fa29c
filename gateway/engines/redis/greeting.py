"""The first words on a new connection to Redis, and how it is said in plain words that there is none."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Final, cast

from gateway.engines.redis.address import Address
from gateway.engines.redis.packing import Args
from gateway.engines.redis.wire import Wire
from gateway.errors import EngineFault

UNACKNOWLEDGED: Final = 10_000  # milliseconds (TCP_USER_TIMEOUT): the kernel's own word on a dead path


async def greet(wire: Wire, address: Address, role: str) -> None:
    """Connect and log in. Raises OSError or EngineFault; it sets no deadline, and may be cancelled at any time."""
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: cast("asyncio.Protocol", wire),
            address.host,
            address.port,
            ssl=address.tls,
            server_hostname=address.host if address.tls else None,
        )
    except BaseException:
        wire.forget()  # it may have been made in the turn in which we were cancelled; then uvloop tells it of no end
        raise
    _tune(transport.get_extra_info("socket"))
    await wire.ask(*hello(address, role))


def hello(address: Address, role: str) -> Args:
    """Return the command that logs in; `role` stands in what operators see."""
    login: Args = ()
    if address.username or address.password:
        login = ("AUTH", address.username or "default", address.password)
    return ("HELLO", 3, *login, "SETNAME", f"gateway-{role}")


def plainly(error: OSError | EngineFault, where: str, within: float) -> str:
    """Say in one line what went wrong on the way to a server; `within` are the seconds it had."""
    if isinstance(error, EngineFault):
        if error.kind == "lost":
            return f"{where} hung up on us ({error.detail})"
        return f"{where} refused us ({error.detail})"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", "") or str(error)  # a constant of OpenSSL: WRONG_VERSION_NUMBER
        why = getattr(error, "verify_message", "") or f"TLS: {reason.replace('_', ' ').lower()}"
    elif isinstance(error, TimeoutError) and error.errno is None:
        why = f"no answer within {within:g} s"
    elif isinstance(error, socket.gaierror):
        why = error.strerror or str(error)
    else:
        why = os.strerror(error.errno) if error.errno else str(error)
    if why[:2].istitle():
        why = why[0].lower() + why[1:]
    return f"cannot connect to {where} ({why})"


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
