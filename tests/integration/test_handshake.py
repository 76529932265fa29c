"""The handshake on bare sockets: deadlines, limits, admission, refusals, and what a route may do."""

from __future__ import annotations

import asyncio
import socket

import pytest
from structlog.testing import capture_logs

from gateway.contracts.transport import Transport
from gateway.transports.admission import Admission, TrustedProxies
from gateway.transports.http import HttpLimits
from gateway.transports.wire import WebSocketLimits
from tests.support.rawsocket import CLOSE, DEADLINE, TEXT, RawSocket, masked, on_uvloop, upgrade
from tests.support.socketapp import Attached, EchoReceiver, RecordingReceiver
from tests.support.stage import staged

# --- the request head


@pytest.mark.parametrize(
    ("sent", "answer"),
    [(b"", b""), (upgrade()[:40], b"HTTP/1.1 408 "), (b"GET / HT", b"HTTP/1.1 408 ")],
    ids=["nothing", "half a head", "half a line"],
)
@on_uvloop
async def test_a_head_has_a_deadline(sent: bytes, answer: bytes) -> None:
    """Whoever does not finish the request head in time is told so, whoever sent nothing is dropped; both count."""
    async with staged(http=HttpLimits(head_timeout=0.5)) as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(sent)
        rest = await client.rest()

        assert answer == rest[:13]
        assert 1 == stage.recorder.counts["handshakes", "timeout"]


@on_uvloop
async def test_the_deadline_of_each_counts_from_its_own_start() -> None:
    """One sweep serves all: those that come later are dropped later, those that finished are left alone."""
    async with staged(http=HttpLimits(head_timeout=2.0)) as stage:
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
    async with staged(http=HttpLimits(head_timeout=2.0)) as stage:
        head, client = await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.exactly(int(head.headers["content-length"]))
        await client.send(b"\r\n\r\n")
        assert b"HTTP/1.1 408 " == (await client.rest())[:13], "uvicorn's own keep-alive ends without a word"


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
    async with staged() as stage:
        head, client = await stage.ask(request_head)
        await client.rest()

        assert status == head.status
        assert not client.reset, "an orderly end, so that no client loses the answer"
        assert 1 == stage.recorder.counts["handshakes", "bad_request"]


@on_uvloop
async def test_a_body_is_no_head() -> None:
    """The end of a large body and the beginning of the next head in one read are told apart."""
    async with staged() as stage:
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
    async with staged() as stage:
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
    async with staged(http=HttpLimits(linger=0.1)) as stage:
        client = await RawSocket.connect(stage.url)
        with pytest.raises(ConnectionError):  # noqa: PT012 - the loop is the attack
            async with asyncio.timeout(DEADLINE):
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
    async with staged() as stage:
        head = await stage.refused(request_head)

        assert status == head.status
        assert field is None or field in head.headers.items()
        assert 1 == stage.recorder.counts["handshakes", "bad_request"]


@on_uvloop
async def test_other_upgrades_are_plain_requests() -> None:
    """An upgrade to a protocol we do not speak is answered as if it had not been asked for, then the link ends."""
    async with staged() as stage:
        request = b"GET /plain HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\njunk"
        head, client = await stage.ask(request)
        assert 200 == head.status
        assert b"127.0.0.1 http" == (await client.rest())[-14:]


@on_uvloop
async def test_an_upgrade_behind_an_unanswered_request_is_dropped() -> None:
    """A pipelined upgrade cannot take the socket away under another request."""
    async with staged() as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade() + b"junk")
        await client.rest()

        assert 1 == stage.recorder.counts["handshakes", "bad_request"]


@on_uvloop
async def test_an_upgrade_after_an_answered_request() -> None:
    """A kept-alive connection may become a WebSocket later."""
    async with staged() as stage:
        head, client = await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        await client.exactly(int(head.headers["content-length"]))
        await client.send(upgrade())
        assert 101 == (await client.head()).status
        client.close()


# --- admission


@on_uvloop
async def test_connections_per_address() -> None:
    """Exactly as many as allowed are let in from one address, then 429; another address, or a closed one, gets in."""
    async with staged(admission=Admission(per_address=3)) as stage:
        clients = [await RawSocket.websocket(stage.url) for _ in range(3)]
        refusal = await stage.refused(upgrade())
        assert 429 == refusal.status
        assert 10 <= int(refusal.headers["retry-after"]) <= 20
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
async def test_plain_requests_take_no_place_of_their_address() -> None:
    """Sockets that only ask are not among its connections, kept alive or in the middle of a head."""
    async with staged(admission=Admission(per_address=1)) as stage:
        asking = [await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(3)]
        half = await RawSocket.connect(stage.url)
        await half.send(b"GET /plain HTTP/1.1\r\n")
        assert [200, 200, 200] == [head.status for head, _ in asking]
        assert 0 == stage.rules.admission.connections
        client = await RawSocket.websocket(stage.url)
        assert (1, 429) == (stage.rules.admission.connections, (await stage.refused(upgrade())).status)
        for it in (client, half, *(it for _, it in asking)):
            it.close()


@on_uvloop
async def test_connections_of_the_node() -> None:
    """A full node says 503 and hurts nobody who is there."""
    async with staged(admission=Admission(total=2), attached=Attached(EchoReceiver)) as stage:
        clients = [await RawSocket.websocket(stage.url) for _ in range(2)]
        refusal = await stage.refused(upgrade(), source="127.0.0.2")
        assert 503 == refusal.status
        assert 5 <= int(refusal.headers["retry-after"]) <= 15
        assert 1 == stage.recorder.counts["handshakes", "capacity"]
        for client in clients:
            await client.send(masked(TEXT, b"fine"))
            assert b"fine" == (await client.frame()).payload
            client.close()


@on_uvloop
async def test_connections_per_second() -> None:
    """Beyond the rate: 503 and some seconds to wait; plain requests are not concerned."""
    async with staged(admission=Admission(rate=1.0)) as stage:
        clients = [await RawSocket.connect(stage.url, source=f"127.0.0.{it}") for it in (1, 2)]
        await asyncio.gather(*(it.send(upgrade()) for it in clients))  # both before a second can have gone by
        _, refusal = heads = sorted([await it.head() for it in clients], key=lambda it: it.status)
        assert [101, 503] == [it.status for it in heads]
        assert 1 <= int(refusal.headers["retry-after"]) <= 8
        head, plain = await stage.ask(b"GET /plain HTTP/1.1\r\nHost: x\r\n\r\n")
        assert 200 == head.status
        for it in (plain, *clients):
            it.close()


@on_uvloop
async def test_a_draining_node() -> None:
    """It refuses newcomers with 503 before any route runs, and still answers plain requests."""
    async with staged() as stage:
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
    async with staged(admission=admission, proxies=TrustedProxies(["127.0.0.1"])) as stage:
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
    async with staged() as stage:
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
    async with staged() as stage:
        head, client = await stage.ask(upgrade("/denies"))
        body = await client.rest()

        assert (418, "because", "7") == (head.status, head.headers["x-why"], head.headers["retry-after"])
        assert "text/plain; charset=utf-8" == head.headers["content-type"]
        assert b"teapot" == body


@pytest.mark.parametrize(("path", "code"), [("/closes", 3500), ("/abandons", 1011), ("/sends", 1011)])
@on_uvloop
async def test_a_route_that_accepts_and_keeps_the_socket(path: str, code: int) -> None:
    """It may close with a code of its own; forgetting the socket or using it as plain ASGI is 1011."""
    async with staged() as stage:
        client = await RawSocket.websocket(stage.url, path)
        farewell = await client.frame()
        client.close()

        assert (CLOSE, code) == (farewell.opcode, farewell.code)


@on_uvloop
async def test_a_frame_that_comes_with_the_request_arrives() -> None:
    """Frames sent together with the upgrade request, and half of one more, wait for the receiver."""
    async with staged() as stage:
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
    async with staged() as stage:
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
    async with staged() as stage:
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

    async with staged(websocket=WebSocketLimits(close_timeout=600.0), attached=Attached(fail)) as stage:
        client = await RawSocket.websocket(stage.url)
        farewell = await client.frame()
        await client.send(masked(CLOSE, farewell.payload))
        await client.rest()

        assert 1011 == farewell.code


@on_uvloop
async def test_an_empty_subprotocol_header_is_none() -> None:
    """Some client libraries send one."""
    async with staged() as stage:
        head, client = await stage.ask(upgrade("/ws", "Sec-WebSocket-Protocol: "))
        client.close()

        assert 101 == head.status
        assert "sec-websocket-protocol" not in head.headers


@on_uvloop
async def test_a_client_that_goes_during_the_handshake() -> None:
    """A reset between request and answer ends quietly, and the place is given back."""
    async with staged(admission=Admission(per_address=1)) as stage:
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
    async with staged() as stage:
        client = await RawSocket.connect(stage.url)
        await client.send(upgrade(path))
        await stage.waiting()
        answer = asyncio.create_task(client.rest())
    assert f"HTTP/1.1 {status} ".encode() == (await answer)[:13]


@on_uvloop
async def test_an_accepted_socket_that_nobody_has_when_the_server_goes_down() -> None:
    """It is closed with 1011."""
    async with staged() as stage:
        client = await RawSocket.websocket(stage.url, "/dawdles")
        await stage.waiting()
        leaving = asyncio.create_task(client.frame())
    farewell = await leaving
    client.close()

    assert 1011 == farewell.code
