"""A lasting link to one Redis server: dials, checks, dials again; while it is down every command fails at once."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Literal, TypeAlias

import structlog

from gateway.contracts.recorder import Recorder
from gateway.engines.redis.address import Address
from gateway.engines.redis.wire import Answered, Args, Pushed, Wire
from gateway.errors import EngineFault

Role: TypeAlias = Literal["command", "pubsub"]
Prepare: TypeAlias = Callable[[Wire], Awaitable[None]]

DIAL_TIMEOUT: Final = 3.0  # seconds from the first packet to a link that may be used
BACKOFF: Final = 0.05  # seconds before the second try at most; doubles
BACKOFF_MAX: Final = 1.0
STEADY: Final = 5.0  # a link that lived so many seconds starts again at the fast end of the backoff
UNACKNOWLEDGED: Final = 10_000  # milliseconds (TCP_USER_TIMEOUT): the kernel's own word on a dead path

log = structlog.get_logger(__name__)


class Link:
    """Two per server: one for commands, one for pub/sub. `run` is its life; the owner sees that it runs.

    `prepare` is awaited on each new connection before any other command; it raises EngineFault if the server will not
    do. `came_up` and `went_down` follow. Nothing is ever sent twice: what was in flight when a connection went is
    answered with EngineFault("lost").
    """

    def __init__(
        self,
        address: Address,
        role: Role,
        *,
        clock: Callable[[], float],
        timeout: float,
        recorder: Recorder,
        prepare: Prepare,
    ) -> None:
        self.address = address
        self.role = role
        self.pushed: Pushed = lambda _push: None
        self.came_up: Callable[[], None] = lambda: None
        self.went_down: Callable[[str], None] = lambda _why: None
        self.fault = f"redis: connecting to {address}"  # one line; "" while the link is up
        self.last_fault = ""  # stays: a link that comes up and is refused again and again is up now and then
        self._clock = clock
        self._timeout = timeout
        self._recorder = recorder
        self._prepare = prepare
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._logged = ""
        self._was_up = False
        self._closing = False
        self._standing = asyncio.Event()

    @property
    def up(self) -> bool:
        """Whether commands are taken."""
        return self._wire is not None

    async def stands(self) -> None:
        """Wait until the link is up."""
        await self._standing.wait()

    def call(self, args: Args, done: Answered) -> None:
        """Send a command; `done` gets the reply or an EngineFault, never inside this call."""
        wire = self._wire
        if wire is not None and not wire.congested:
            wire.call(args, done)
            return
        self._recorder.count("redis_errors", "down")
        why = self.fault or f"redis: {self.address} does not keep up"
        self._loop.call_soon(done, EngineFault("down", why))

    def tell(self, args: Args) -> None:
        """Send a command that is answered by pushes; dropped while the link is down."""
        if self._wire is not None:
            self._wire.tell(args)

    def sweep(self, now: float) -> None:
        """Enforce deadlines; call it a few times a second."""
        if self._wire is not None:
            self._wire.sweep(now)

    async def run(self) -> None:
        """Keep the link up until cancelled; then close it, answering whatever is in flight."""
        tries = 0
        while True:
            wire = self._new_wire()
            born = self._clock()
            try:
                await self._dial(wire)
                self._up(wire)
                await asyncio.shield(wire.gone)
            except asyncio.CancelledError:
                self._closing = True
                raise
            except (OSError, EngineFault) as error:
                self._failed(f"redis: {_plainly(error, self.address)}; retrying")
            finally:
                await wire.close()
            tries = 0 if self._clock() - born > STEADY else tries + 1
            # Full jitter, so that the nodes of a cluster do not come back all at once.
            await asyncio.sleep(random.uniform(0, min(BACKOFF_MAX, BACKOFF * 2**tries)))  # noqa: S311 - not a secret

    # --- inside

    def _new_wire(self) -> Wire:
        def lost(why: str) -> None:
            if self._wire is wire:
                self._wire = None
                self._standing.clear()
                self.went_down(why)
                if self._closing:
                    self.fault = "redis: closed"
                else:
                    self._failed(f"redis: lost {self.address} ({why}); retrying")

        wire = Wire(
            clock=self._clock,
            timeout=self._timeout,
            recorder=self._recorder,
            pushed=self.pushed,
            lost=lost,
        )
        return wire

    async def _dial(self, wire: Wire) -> None:
        """Connect, log in, and make sure that this is the server to write to."""
        address = self.address
        host = address.host if address.tls else None
        async with asyncio.timeout(DIAL_TIMEOUT):
            transport, _ = await self._loop.create_connection(
                lambda: wire, address.host, address.port, ssl=address.tls, server_hostname=host
            )
            _tune(transport.get_extra_info("socket"))
            await wire.ask(*_hello(address, self.role))
            if address.db:
                await wire.ask("SELECT", address.db)
            role = await wire.ask("ROLE")
            if role[0] != b"master":
                raise EngineFault("readonly", "is a replica, not the primary")
            await self._prepare(wire)

    def _up(self, wire: Wire) -> None:
        if self._was_up:
            self._recorder.count("redis_reconnects", self.role)
        self._was_up = True
        self.fault = self._logged = ""
        self._wire = wire
        self._standing.set()
        log.info("redis.link_up", role=self.role, address=str(self.address))
        self.came_up()

    def _failed(self, line: str) -> None:
        """Note a state; logged when it differs from the one before, not once per try."""
        self.fault = self.last_fault = line
        if line != self._logged:
            self._logged = line
            log.warning("redis.link_down", role=self.role, why=line)


def _hello(address: Address, role: Role) -> Args:
    login: Args = ()
    if address.username or address.password:
        login = ("AUTH", address.username or "default", address.password)
    return ("HELLO", 3, *login, "SETNAME", f"gateway-{role}")


def _tune(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)


def _plainly(error: OSError | EngineFault, address: Address) -> str:
    """Say in one line what went wrong on the way to a link."""
    if isinstance(error, EngineFault):
        if error.kind == "lost":
            return f"{address} hung up on us ({error.detail})"
        return f"{address} refused us ({error.detail})"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", "") or str(error)  # a constant of OpenSSL: WRONG_VERSION_NUMBER
        why = getattr(error, "verify_message", "") or f"TLS: {reason.replace('_', ' ').lower()}"
    elif isinstance(error, TimeoutError) and error.errno is None:
        why = f"no answer within {DIAL_TIMEOUT:g} s"
    elif isinstance(error, socket.gaierror):
        why = error.strerror or str(error)
    else:
        why = os.strerror(error.errno) if error.errno else str(error)
    if why[:2].istitle():
        why = why[0].lower() + why[1:]
    return f"cannot connect to {address} ({why})"
