"""The handshake on bare sockets: deadlines, limits, admission, refusals, and what a route may do."""

from __future__ import annotations

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from gateway.contracts.transport import Transport
from gateway.disconnects import Disconnect
from gateway.server import ServerRules, running
from gateway.transports.admission import Admission, TrustedProxies
from gateway.transports.http import HttpLimits
from gateway.transports.wire import WebSocketLimits
from tests.support.rawsocket import CLOSE, DEADLINE, PING, PONG, TEXT, Head, RawSocket, masked, on_uvloop, upgrade
from tests.support.recorder import MemoryRecorder
from tests.support.socketapp import Attached, EchoReceiver, RecordingReceiver, Rooms


@dataclass(slots=True)
class Stage:
    """A running server and what a test looks at."""

    url: str
    rules: ServerRules
    recorder: MemoryRecorder
    attached: Attached
    rooms: Rooms

    async def waiting(self) -> None:
        """Wait until a route waits."""
        async with asyncio.timeout(DEADLINE):
            await self.rooms.waiting.wait()

    async def turn(self) -> None:
        """Wait until the server has answered somebody else: by then it has read what was there before."""
        _, other = await self.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        other.close()

    async def ask(self, request: bytes, source: str = "127.0.0.1") -> tuple[Head, RawSocket]:
        """Send bytes on a new connection and read the head of the answer."""
        client = await RawSocket.connect(self.url, source=source)
        await client.send(request)
        return await client.head(), client

    async def refused(self, request: bytes, source: str = "127.0.0.1") -> Head:
        """Send bytes and expect an answer that ends the connection."""
        head, client = await self.ask(request, source)
        await client.rest()
        return head


@asynccontextmanager
async def _stage(
    *,
    http: HttpLimits | None = None,
    websocket: WebSocketLimits | None = None,
    admission: Admission | None = None,
    proxies: TrustedProxies | None = None,
    attached: Attached | None = None,
) -> AsyncIterator[Stage]:
    recorder = MemoryRecorder()
    rules = ServerRules(
        recorder=recorder,
        http=http or HttpLimits(),
        websocket=websocket or WebSocketLimits(),
        admission=admission or Admission(),
        proxies=proxies or TrustedProxies(),
        grace=0.1,
    )
    attached = attached or Attached()
    rooms = Rooms(attached)
    async with running(rooms.app, rules=rules) as url:
        yield Stage(url, rules, recorder, attached, rooms)
    assert 0 == rules.admission.connections, "every admitted connection is given back"


def _resident() -> int:
    """Return the bytes of memory this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


# --- the request head


@pytest.mark.parametrize(
    ("sent", "answer"),
    [(b"", b""), (upgrade()[:40], b"HTTP/1.1 408 "), (b"GET / HT", b"HTTP/1.1 408 ")],
    ids=["nothing", "half a head", "half a line"],
)
@on_uvloop
async def test_a_head_has_a_deadline(sent: bytes, answer: bytes) -> None:
    """Whoever does not finish the request head in time is told so, whoever sent nothing is dropped; both count."""
    async with _stage(http=HttpLimits(head_timeout=0.1)) as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(sent)
        rest = await client.rest()

        assert answer == rest[:13]
        assert 1 == stage.recorder.counts["handshakes", "timeout"]


@on_uvloop
async def test_the_deadline_of_each_counts_from_its_own_start() -> None:
    """One sweep serves all: those that come later are dropped later, those that finished are left alone."""
    async with _stage(http=HttpLimits(head_timeout=0.2)) as stage:
        finished = await RawSocket.websocket(stage.url)
        early = await RawSocket.connect(stage.url)
        await early.rest()
        late = await RawSocket.connect(stage.url)
        await late.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 200 == (await late.head()).status
        await late.send(b"GET /plain HTTP/1.1\r\n")  # a second request that does not end
        assert b"HTTP/1.1 408 " in await late.rest()
        receiver = await stage.attached.next()
        await finished.send(masked(TEXT, b"still here"))
        await receiver.seen(lambda: receiver.messages)
        finished.close()

        assert 2 == stage.recorder.counts["handshakes", "timeout"]


@on_uvloop
async def test_line_breaks_between_requests_do_not_stop_the_clock() -> None:
    """A kept-alive connection that sends line breaks, but no request, is dropped all the same."""
    async with _stage(http=HttpLimits(head_timeout=0.1)) as stage:
        head, client = await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.exactly(int(head.headers["content-length"]))
        await client.send(b"\r\n\r\n")
        async with asyncio.timeout(3.0):  # before uvicorn's own keep-alive would have ended
            assert b"HTTP/1.1 408 " == (await client.rest())[:13]


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (upgrade("/ws", "X-Long: " + "x" * 100_000), 431),
        (upgrade("/ws", "X-Long: " + "x" * 33_000), 431),
        (upgrade("/ws", *(f"X-{number}: x" for number in range(1_000))), 431),
        (b"GET /ws HTTP/1.1\r\nX-Endless: " + b"x" * 3_000_000, 431),
        (upgrade("/ws?" + "x" * 65_536), 414),
        (upgrade("/ws?" + "x" * 8_200), 414),
        (b"GET /" + b"x" * 20_000, 414),
    ],
    ids=["100 KiB field", "33 KB field", "1,000 fields", "endless field", "64 KiB URL", "8 KiB URL", "endless URL"],
)
@on_uvloop
async def test_a_head_has_a_size(request_head: bytes, status: int) -> None:
    """A head over the limits is refused with 431, a URL over its limit with 414, whole or not."""
    async with _stage() as stage:
        head, client = await stage.ask(request_head)
        await client.rest()

        assert status == head.status
        assert not client.reset, "an orderly end, so that no client loses the answer"
        assert 1 == stage.recorder.counts["handshakes", "bad_request"]


@on_uvloop
async def test_a_body_is_no_head() -> None:
    """The end of a large body and the beginning of the next head in one read are told apart."""
    async with _stage() as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 40000\r\n\r\n")
        head = await client.head()
        await client.exactly(int(head.headers["content-length"]))
        await client.send(b"x" * 40_000 + b"GET /plain HTTP/1.1\r\nHo")
        await stage.turn()
        await client.send(b"st: x\r\n\r\n")
        assert 200 == (await client.head()).status
        client.close()


@on_uvloop
async def test_a_head_within_its_size_is_served() -> None:
    """The limits leave honest requests alone: 30 KB of head, a body far larger than a head, and a second request."""
    async with _stage() as stage:
        head, client = await stage.ask(upgrade("/ws", "X-Long: " + "x" * 30_000))
        assert 101 == head.status
        client.close()
        body = b"x" * 200_000
        post = b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        head, client = await stage.ask(post + post)
        assert 200 == head.status
        await client.exactly(int(head.headers["content-length"]))
        assert 200 == (await client.head()).status
        client.close()


@on_uvloop
async def test_a_refused_client_that_goes_on_sending_is_dropped() -> None:
    """It is read from for a while, so that it can see the refusal, and no longer."""
    async with _stage(http=HttpLimits(linger=0.1)) as stage:
        client = await RawSocket.connect(stage.url)
        with pytest.raises(ConnectionError):  # noqa: PT012 - the loop is the attack
            while True:
                await client.send(b"GET /" + b"x" * 50_000)
        client.close()


@pytest.mark.parametrize(
    ("request_head", "status", "field"),
    [
        (upgrade("/ws", "Sec-WebSocket-Version: 8"), 426, ("sec-websocket-version", "13")),
        (upgrade("/ws", key="short"), 400, None),
        (upgrade("/ws").replace(b"Sec-WebSocket-Key", b"X-Key"), 400, None),
        (upgrade("/ws", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), 400, None),
        (upgrade("/ws", method="POST"), 405, ("allow", "GET")),
        (upgrade("/ws", "Content-Length: 5", method="POST") + b"hello", 405, ("allow", "GET")),
        (upgrade("/ws", version="HTTP/1.0"), 400, None),
        (upgrade("*"), 400, None),
        (upgrade("/ws", "Transfer-Encoding: chunked", "Content-Length: 5"), 400, None),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400, None),
        (b"CONNECT gateway.test:443 HTTP/1.1\r\nHost: x\r\n\r\n", 400, None),
    ],
)
@on_uvloop
async def test_a_bad_upgrade_is_the_clients_fault(
    request_head: bytes, status: int, field: tuple[str, str] | None
) -> None:
    """Wrong version, key, method, protocol or target: a 4xx that says what would be right, never a 5xx."""
    async with _stage() as stage:
        head = await stage.refused(request_head)

        assert status == head.status
        assert field is None or field in head.headers.items()
        assert 1 == stage.recorder.counts["handshakes", "bad_request"]


@on_uvloop
async def test_other_upgrades_are_plain_requests() -> None:
    """An upgrade to a protocol we do not speak is answered as if it had not been asked for, then the link ends."""
    async with _stage() as stage:
        request = b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\njunk"
        head, client = await stage.ask(request)
        assert 200 == head.status
        assert b"127.0.0.1 http" == (await client.rest())[-14:]


@on_uvloop
async def test_an_upgrade_behind_an_unanswered_request_is_dropped() -> None:
    """A pipelined upgrade cannot take the socket away under another request."""
    async with _stage() as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade() + b"junk")
        await client.rest()

        assert 1 == stage.recorder.counts["handshakes", "bad_request"]


@on_uvloop
async def test_an_upgrade_after_an_answered_request() -> None:
    """A kept-alive connection may become a WebSocket later."""
    async with _stage() as stage:
        head, client = await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.exactly(int(head.headers["content-length"]))
        await client.send(upgrade())
        assert 101 == (await client.head()).status
        client.close()


# --- admission


@on_uvloop
async def test_connections_per_address() -> None:
    """Exactly as many as allowed are let in from one address, then 429; another address, or a closed one, gets in."""
    async with _stage(admission=Admission(per_address=3)) as stage:
        clients = [await RawSocket.websocket(stage.url) for _ in range(3)]
        refusal = await stage.refused(upgrade())
        assert (429, "10") == (refusal.status, refusal.headers["retry-after"])
        assert 1 == stage.recorder.counts["handshakes", "limit_ip"]
        head, other = await stage.ask(upgrade(), source="127.0.0.2")
        assert 101 == head.status
        receiver = await stage.attached.next()
        clients[0].close()
        await receiver.seen(lambda: receiver.losses)
        clients[0] = await RawSocket.websocket(stage.url)
        for client in (*clients, other):
            client.close()


@on_uvloop
async def test_connections_of_the_node() -> None:
    """A full node says 503 and hurts nobody who is there."""
    async with _stage(admission=Admission(total=2), attached=Attached(EchoReceiver)) as stage:
        clients = [await RawSocket.websocket(stage.url) for _ in range(2)]
        refusal = await stage.refused(upgrade(), source="127.0.0.2")
        assert (503, "5") == (refusal.status, refusal.headers["retry-after"])
        assert 1 == stage.recorder.counts["handshakes", "capacity"]
        for client in clients:
            await client.send(masked(TEXT, b"fine"))
            assert b"fine" == (await client.frame()).payload
            client.close()


@on_uvloop
async def test_connections_per_second() -> None:
    """Beyond the rate: 503 and a second to wait; plain requests are not concerned."""
    async with _stage(admission=Admission(rate=1.0)) as stage:
        client = await RawSocket.websocket(stage.url)
        refusal = await stage.refused(upgrade(), source="127.0.0.2")
        assert (503, "1") == (refusal.status, refusal.headers["retry-after"])
        head, plain = await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 200 == head.status
        plain.close()
        client.close()


@on_uvloop
async def test_a_draining_node() -> None:
    """It refuses newcomers with 503 before any route runs, and still answers plain requests."""
    async with _stage() as stage:
        stage.rules.admission.draining = True
        assert 503 == (await stage.refused(upgrade("/raises"))).status
        assert 1 == stage.recorder.counts["handshakes", "draining"]
        head, plain = await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 200 == head.status
        plain.close()


@on_uvloop
async def test_behind_a_trusted_proxy() -> None:
    """Its word on address and scheme counts for limits, scope and peer; a stranger's does not."""
    admission = Admission(per_address=1)
    async with _stage(admission=admission, proxies=TrustedProxies(["127.0.0.1"])) as stage:
        forwarded = "X-Forwarded-For: 6.6.6.6, 198.51.100.7"
        head, client = await stage.ask(upgrade("/ws", forwarded))
        receiver = await stage.attached.next()
        assert (101, "198.51.100.7") == (head.status, receiver.transport.peer.address)
        assert 429 == (await stage.refused(upgrade("/ws", forwarded))).status
        for source, seen in (("127.0.0.1", b"198.51.100.7 https"), ("127.0.0.2", b"127.0.0.2 http")):
            request = f"GET /plain HTTP/1.1\r\nHost: x\r\n{forwarded}\r\nX-Forwarded-Proto: https\r\n\r\n"
            head, plain = await stage.ask(request.encode(), source)
            assert seen == await plain.exactly(int(head.headers["content-length"]))
            plain.close()
        client.close()


# --- what a route may do


@pytest.mark.parametrize(("path", "status"), [("/raises", 500), ("/returns", 403), ("/denies", 418), ("/nowhere", 403)])
@on_uvloop
async def test_a_route_that_does_not_accept(path: str, status: int) -> None:
    """A raise is 500, a return without an answer 403, a denial what the route says."""
    async with _stage() as stage:
        with capture_logs() as logs:
            head, client = await stage.ask(upgrade(path + "?token=secret"))
            body = await client.rest()

        assert status == head.status
        assert "close" == head.headers["connection"]
        assert int(head.headers["content-length"]) == len(body)
        failures = [entry["path"] for entry in logs if entry["event"] == "handshake.failed"]
        assert ([path] if status == 500 else []) == failures
        assert "secret" not in str(logs)


@on_uvloop
async def test_a_denial_is_exactly_the_routes() -> None:
    """Status, headers and body of the route reach the client."""
    async with _stage() as stage:
        head, client = await stage.ask(upgrade("/denies"))
        body = await client.rest()

        assert (418, "because", "7") == (head.status, head.headers["x-why"], head.headers["retry-after"])
        assert "text/plain; charset=utf-8" == head.headers["content-type"]
        assert b"teapot" == body


@pytest.mark.parametrize(("path", "code"), [("/closes", 3500), ("/abandons", 1011), ("/sends", 1011)])
@on_uvloop
async def test_a_route_that_accepts_and_keeps_the_socket(path: str, code: int) -> None:
    """It may close with a code of its own; forgetting the socket or using it as plain ASGI is 1011."""
    async with _stage() as stage:
        client = await RawSocket.websocket(stage.url, path)
        farewell = await client.frame()
        client.close()

        assert (CLOSE, code) == (farewell.opcode, farewell.code)


@on_uvloop
async def test_a_frame_that_comes_with_the_request_arrives() -> None:
    """Frames sent together with the upgrade request, and half of one more, wait for the receiver."""
    async with _stage() as stage:
        late = masked(TEXT, b"late")
        head, client = await stage.ask(upgrade() + masked(TEXT, b"early") + late[:3])
        receiver = await stage.attached.next()
        await client.send(late[3:])
        await receiver.seen(lambda: len(receiver.messages) == 2)
        client.close()

        assert 101 == head.status
        assert [(b"early", True), (b"late", True)] == receiver.messages
        assert 1 == stage.recorder.counts["handshakes", "ok"]


@on_uvloop
async def test_a_frame_that_comes_while_the_route_decides_arrives() -> None:
    """Nothing is read from the socket until somebody is there to receive it."""
    async with _stage() as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(upgrade("/late"))
        await stage.waiting()
        await client.send(masked(TEXT, b"early"))
        await stage.turn()
        stage.rooms.go.set()
        receiver = await stage.attached.next()
        await receiver.seen(lambda: receiver.messages)
        client.close()

        assert [(b"early", True)] == receiver.messages


@on_uvloop
async def test_a_refused_client_that_sent_ahead_reads_the_refusal() -> None:
    """Frames that nobody will read do not turn the refusal into a reset."""
    async with _stage() as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(upgrade("/waits"))
        await stage.waiting()
        await client.send(masked(TEXT, b"x" * 1000))
        answer = asyncio.create_task(client.rest())
    assert b"HTTP/1.1 503 " == (await answer)[:13]
    assert not client.reset


@on_uvloop
async def test_a_failed_attach_ends_as_soon_as_the_client_answers() -> None:
    """The link of which no connection came is read, too: the close frame's answer ends it."""

    def fail(_transport: Transport) -> RecordingReceiver:
        raise LookupError("on purpose")

    async with _stage(websocket=WebSocketLimits(close_timeout=600.0), attached=Attached(fail)) as stage:
        client = await RawSocket.websocket(stage.url)
        farewell = await client.frame()
        await client.send(masked(CLOSE, farewell.payload))
        await client.rest()

        assert 1011 == farewell.code


@on_uvloop
async def test_an_empty_subprotocol_header_is_none() -> None:
    """Some client libraries send one."""
    async with _stage() as stage:
        head, client = await stage.ask(upgrade("/ws", "Sec-WebSocket-Protocol: "))
        client.close()

        assert 101 == head.status
        assert "sec-websocket-protocol" not in head.headers


@on_uvloop
async def test_a_client_that_goes_during_the_handshake() -> None:
    """A reset between request and answer ends quietly, and the place is given back."""
    async with _stage(admission=Admission(per_address=1)) as stage:
        client = await RawSocket.connect(stage.url)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # close = reset
        await client.send(upgrade("/returns"))
        client.close()
        async with asyncio.timeout(DEADLINE):
            while True:
                head, again = await stage.ask(upgrade("/returns"))
                await again.rest()
                if head.status == 403:
                    break


@pytest.mark.parametrize(("path", "status"), [("/waits", 503), ("/half", 503)])
@on_uvloop
async def test_a_handshake_that_is_undecided_when_the_server_goes_down(path: str, status: int) -> None:
    """It is answered with 503, and its route is cancelled."""
    async with _stage() as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(upgrade(path))
        await stage.waiting()
        answer = asyncio.create_task(client.rest())
    assert f"HTTP/1.1 {status} ".encode() == (await answer)[:13]


@on_uvloop
async def test_an_accepted_socket_that_nobody_has_when_the_server_goes_down() -> None:
    """It is closed with 1011."""
    async with _stage() as stage:
        client = await RawSocket.websocket(stage.url, "/dawdles")
        await stage.waiting()
        leaving = asyncio.create_task(client.frame())
    farewell = await leaving
    client.close()

    assert 1011 == farewell.code


# --- the socket after the take-over


@on_uvloop
async def test_no_delay() -> None:
    """Small frames are not held back by the kernel, and what was set on the listening socket is inherited."""
    async with _stage() as stage:
        client = await RawSocket.websocket(stage.url)
        receiver = await stage.attached.next()
        link = receiver.transport._link.get_extra_info("socket")  # type: ignore[attr-defined] # not in the contract
        client.close()

        assert 0 != link.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert 10_000 == link.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 2 * 65_536 == link.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)  # Linux doubles what it is told


@on_uvloop
async def test_a_client_that_breaks_a_rule_reads_which() -> None:
    """What it had sent beyond does not turn the close frame into a reset."""
    async with _stage() as stage:
        client = await RawSocket.websocket(stage.url)
        await client.send(masked(TEXT, b"\xff") + b"x" * 3_000_000)
        farewell = await client.frame()
        await client.rest()

        assert 1007 == farewell.code
        assert not client.reset


@on_uvloop
async def test_a_ping_flood_is_cut_by_its_budget() -> None:
    """A client over its budget of control frames is told 3013, and at once."""
    async with _stage() as stage:
        client = await RawSocket.websocket(stage.url)
        receiver = await stage.attached.next()
        await client.send(masked(PING, b"x") * 100)
        frames = [await client.frame() for _ in range(21)]
        client.close()
        await receiver.seen(lambda: receiver.losses)

        assert [PONG] * 20 == [frame.opcode for frame in frames[:20]]
        assert 3013 == frames[20].code
        assert [(3013, "server")] == receiver.losses


@on_uvloop
async def test_a_ping_flood_that_is_not_read_is_aborted() -> None:
    """Without that budget the unread answers are bounded, and with them the memory."""
    async with _stage(websocket=WebSocketLimits(control_rate=0.0)) as stage:
        client = await RawSocket.connect(stage.url, receive_buffer=4096)
        await client.send(upgrade())
        await client.head()
        receiver = await stage.attached.next()
        before = _resident()
        flood = masked(PING, b"x" * 125) * 1000
        with pytest.raises(ConnectionError):  # noqa: PT012 - the loop is the attack
            while True:
                await client.send(flood)
        client.close()
        await receiver.seen(lambda: receiver.losses)

        assert [(None, "server")] == receiver.losses
        assert _resident() - before < 4 * 1024 * 1024


@on_uvloop
async def test_answered_pings_do_not_add_up() -> None:
    """A client that reads its pongs may go on for ever, also past what may be outstanding."""
    async with _stage(websocket=WebSocketLimits(control_rate=0.0, control_backlog=1000)) as stage:
        client = await RawSocket.websocket(stage.url)
        for _ in range(50):
            await client.send(masked(PING, b"x" * 100))
            assert PONG == (await client.frame()).opcode
        client.close()


@on_uvloop
async def test_a_client_that_never_reads_is_gone_after_the_close() -> None:
    """With a full buffer a close still ends, by abort after its grace."""
    async with _stage() as stage:
        client = await RawSocket.connect(stage.url, receive_buffer=4096)
        await client.send(upgrade())
        await client.head()
        receiver = await stage.attached.next()
        while receiver.transport.backlog() < 200_000:
            receiver.say(b"x" * 50_000)
        receiver.transport.close(Disconnect(3008, "slow"), 0.1)
        await receiver.seen(lambda: receiver.losses)
        client.close()

        assert [(3008, "server")] == receiver.losses


async def test_plain_asyncio() -> None:
    """The same works on the event loop of the standard library, from early frame to goodbye."""
    async with _stage(attached=Attached(EchoReceiver)) as stage:
        head, client = await stage.ask(upgrade() + masked(TEXT, b"early"))
        assert 101 == head.status
        assert b"early" == (await client.frame()).payload
        await client.send(masked(PING, b"x"))
        assert PONG == (await client.frame()).opcode
        receiver = await stage.attached.next()
        receiver.transport.close(Disconnect(3001, "shutdown"), 5.0)
        assert 3001 == (await client.frame()).code
        await client.send(masked(CLOSE, (3001).to_bytes(2)))
        await client.rest()
        assert 503 == (await _drained(stage)).status


async def _drained(stage: Stage) -> Head:
    stage.rules.admission.draining = True
    return await stage.refused(upgrade())
