"""HTTP/1.1 with limits on the request head, and the upgrade to WebSocket with admission before any ASGI code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from gateway.contracts.recorder import Recorder
from gateway.transports.admission import Admission, Refusal, TrustedProxies, answer
from gateway.transports.handshake import Handshake
from gateway.transports.upgrade import BAD_REQUEST, fault, request_id, values, websocket_scope
from gateway.types import Peer

REQUEST_TIMEOUT: Final = answer("408 Request Timeout", "the request took too long\n")
URI_TOO_LONG: Final = answer("414 URI Too Long", "the URL is too long\n")
HEAD_TOO_LARGE: Final = answer("431 Request Header Fields Too Large", "the request head is too large\n")


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What a request head may be; sizes in bytes, times in seconds."""

    head_timeout: float = 10.0  # from connecting, or from its first byte, to its end
    head_size: int = 32_768
    head_fields: int = 128
    url_size: int = 8_192
    linger: float = 2.0  # how long a refused client is read from, so that it can read the refusal


class Sweep:
    """Deadlines of many at the cost of one timer: all are equally far away when they are set."""

    def __init__(self, seconds: float, expired: Callable[[HttpProtocol], None]) -> None:
        self._seconds = seconds
        self._expired = expired
        self._due: dict[HttpProtocol, float] = {}  # in the order of the deadlines
        self._timer: asyncio.TimerHandle | None = None

    def add(self, protocol: HttpProtocol) -> None:
        """Set the deadline, unless one is set."""
        loop = asyncio.get_running_loop()
        self._due.setdefault(protocol, loop.time() + self._seconds)
        if self._timer is None:
            self._timer = loop.call_later(self._seconds, self._sweep)

    def discard(self, protocol: HttpProtocol) -> None:
        """Forget the deadline."""
        self._due.pop(protocol, None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        now = loop.time()
        while self._due:
            protocol, due = next(iter(self._due.items()))
            if due > now:
                # not sooner than a tenth of the time: a steady stream of connections must not mean a timer each
                self._timer = loop.call_later(max(due - now, self._seconds / 10), self._sweep)
                return
            del self._due[protocol]
            self._expired(protocol)


class HttpProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol behind limits; the subclass made by `http_protocol` carries the rules."""

    limits: ClassVar[HttpLimits]
    admission: ClassVar[Admission]
    proxies: ClassVar[TrustedProxies]
    recorder: ClassVar[Recorder]
    guarded: ClassVar[bool]
    heads: ClassVar[Sweep]
    lingering: ClassVar[Sweep]

    url = b""
    _descriptor = -1
    _head_size = 0
    _in_head = True
    _begun = False  # in this very read
    _refused = False  # answered for good: whatever comes is dropped

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn has it
        """Begin to count the time; with the last files in use, say so and end it."""
        super().connection_made(transport)
        sock = transport.get_extra_info("socket")
        self._descriptor = -1 if sock is None else sock.fileno()
        refusal = self.admission.listen_to(self._descriptor, asyncio.get_running_loop().time())
        if refusal is not None and self.guarded:
            self._turn_away(refusal)
        else:
            self.heads.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self.heads.discard(self)
        self.lingering.discard(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; refuse what breaks a rule."""
        if self._refused:
            return
        self._unset_keepalive_if_required()
        self._begun = False
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            if not self._refused:
                self._upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            if not self._refused:
                self._refuse(BAD_REQUEST, "bad_request")
        else:
            if not self._refused:
                self._parsed(len(data))

    def _parsed(self, size: int) -> None:
        """Go on after a read that neither completed an upgrade nor broke the parser."""
        if self._in_head:
            self._measure(size)
        elif not self._answering():
            self.heads.add(self)  # line breaks between requests begin none, but cost the keep-alive its timer

    def _measure(self, size: int) -> None:
        """Refuse a head that is too large already. A later request may share its first read with an earlier body."""
        if self._cycle() is None or not self._begun:
            self._head_size += size
        if len(self.url) > self.limits.url_size:
            self._refuse(URI_TOO_LONG, "bad_request")
        elif self._head_size > self.limits.head_size:
            self._refuse(HEAD_TOO_LARGE, "bad_request")

    # --- parser callbacks

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._begun = self._in_head = True
        self._head_size = 0
        self.heads.add(self)

    def on_headers_complete(self) -> None:
        """The head is there: check what it says of sizes and of the client, then let uvicorn go on."""
        self._in_head = False
        self.heads.discard(self)
        limits = self.limits
        if len(self.url) > limits.url_size:
            self._refuse(URI_TOO_LONG, "bad_request")
        elif len(self.headers) > limits.head_fields or self._field_bytes() > limits.head_size:
            self._refuse(HEAD_TOO_LARGE, "bad_request")
        else:
            self._identify()
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        if not self._refused:
            super().on_message_complete()

    # --- within

    def _cycle(self) -> RequestResponseCycle | None:
        return self.cycle  # uvicorn's annotation leaves out the None it begins with

    def _answering(self) -> bool:
        cycle = self._cycle()
        return cycle is not None and not cycle.response_complete

    def _field_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers) + 4 * len(self.headers)

    def _identify(self) -> None:
        """Believe a trusted proxy about the client's address and scheme."""
        if self.client is None or not self.proxies.trusts(self.client[0]):
            return
        address = self.proxies.client(self.client[0], values(self.headers, b"x-forwarded-for"))
        if address != self.client[0]:
            self.scope["client"] = (address, 0)
        scheme = values(self.headers, b"x-forwarded-proto")
        if scheme and scheme[-1] in (b"http", b"https"):
            self.scope["scheme"] = scheme[-1].decode("ascii")

    def _upgrade(self, early: bytes) -> None:
        """Admit and hand over to the handshake, or refuse."""
        if not self._should_upgrade():
            self._refused = True  # it is answered as a plain request; what follows is in a protocol we do not speak
            cycle = self._cycle()
            if cycle is not None:
                cycle.keep_alive = False
            return
        if self._answering():
            self.recorder.count("handshakes", "bad_request")
            self.transport.abort()  # pipelined behind a request that is not answered yet
            return
        wrong = fault(self.scope["method"], self.scope["http_version"], self.headers)
        if wrong is not None:
            self._refuse(wrong, "bad_request")
            return
        try:
            scope = websocket_scope(cast("dict[str, Any]", self.scope), self.url, self.root_path)
        except ValueError:
            self._refuse(BAD_REQUEST, "bad_request")
            return
        self._admit(scope, early)

    def _admit(self, scope: dict[str, Any], early: bytes) -> None:
        address = scope["client"][0] if scope["client"] else ""
        refusal = self.admission.admit(address, asyncio.get_running_loop().time(), self._descriptor)
        if refusal is not None:
            self._turn_away(refusal)
            return
        peer = Peer(address, request_id(self.headers))
        handshake = cast("type[Handshake]", self.ws_protocol_class)(self.config, self.server_state, self.app_state)
        self.connections.discard(self)
        self.parser = None  # type: ignore[assignment] # as uvicorn does; it refers back to us
        handshake.begin(self.transport, scope, peer, early)

    def _turn_away(self, refusal: Refusal) -> None:
        """Answer and end at once: there is no room to linger."""
        self.recorder.count("handshakes", refusal.label)
        self._refused = True
        self.transport.write(refusal.choose())
        self.transport.close()

    def _refuse(self, response: bytes, label: str) -> None:
        """Answer and end; read on for a while, since closing with input unread would lose the answer."""
        self._refused = True
        self.heads.discard(self)
        self.recorder.count("handshakes", label)
        self.transport.write(response)
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.lingering.add(self)
        else:
            self.transport.close()

    def abort(self) -> None:
        """Drop the link at once."""
        self.transport.abort()

    def head_expired(self) -> None:
        """The request head took too long."""
        self._refused = True
        self.recorder.count("handshakes", "timeout")
        if self._answering():
            self.transport.abort()
            return
        if self.scope is not None:
            self.transport.write(REQUEST_TIMEOUT)
        self.transport.close()

    def linger_expired(self) -> None:
        """A refused client went on sending."""
        self.transport.abort()


def http_protocol(
    limits: HttpLimits, *, admission: Admission, proxies: TrustedProxies, recorder: Recorder, guarded: bool = True
) -> type[HttpProtocol]:
    """Make the class that uvicorn takes as `http`; one per server, since it holds the server's deadlines.

    Not `guarded`: a port that only operators reach, who are listened to until the last file is gone.
    """
    rules = {
        "limits": limits,
        "admission": admission,
        "proxies": proxies,
        "recorder": recorder,
        "guarded": guarded,
        "heads": Sweep(limits.head_timeout, HttpProtocol.head_expired),
        "lingering": Sweep(limits.linger, HttpProtocol.linger_expired),
    }
    return type("GatewayHttp", (HttpProtocol,), rules)
