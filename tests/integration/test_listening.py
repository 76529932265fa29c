from __future__ import annotations

import asyncio
import socket
import sys
from contextlib import ExitStack

import pytest

from gateway.listening import listen, step_aside
from tests.support.rawsocket import DEADLINE

CLIENTS = 40


def connecting(port: int) -> socket.socket:
    """Begin to connect."""
    client = socket.socket()
    client.setblocking(False)
    client.connect_ex(("127.0.0.1", port))
    return client


def accepted(listening: socket.socket, held: ExitStack) -> int:
    """Accept all that waits; return how many those were."""
    count = 0
    while True:
        try:
            held.enter_context(listening.accept()[0])
        except BlockingIOError:
            return count
        count += 1


async def test_nobody_is_lost_by_a_port_that_is_left() -> None:
    """Who came before is accepted, who comes after gets to the other socket, though this one is closed meanwhile."""
    with ExitStack() as held:
        leaving = held.enter_context(listen("127.0.0.1", 0, reuse_port=True))
        port = leaving.getsockname()[1]
        staying = held.enter_context(listen("127.0.0.1", port, reuse_port=True))
        clients = [held.enter_context(connecting(port)) for _ in range(CLIENTS)]
        assert step_aside(leaving)
        clients += [held.enter_context(connecting(port)) for _ in range(CLIENTS)]
        before = accepted(leaving, held)
        assert 0 < before < CLIENTS
        assert 0 == accepted(leaving, held)
        leaving.close()
        others = 0
        async with asyncio.timeout(DEADLINE):
            while others < 2 * CLIENTS - before:
                others += accepted(staying, held)
                await asyncio.sleep(0.01)  # until their SYN comes again
        assert [0] * len(clients) == [it.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for it in clients]


def test_what_has_connected_goes_on() -> None:
    """Bytes pass over connections that were there, and over those that were accepted afterwards."""
    with ExitStack() as held:
        leaving = held.enter_context(listen("127.0.0.1", 0))
        early = held.enter_context(socket.create_connection(leaving.getsockname()))
        late = held.enter_context(socket.create_connection(leaving.getsockname()))
        early_end = held.enter_context(leaving.accept()[0])
        step_aside(leaving)
        late_end = held.enter_context(leaving.accept()[0])
        for here, there in ((early, early_end), (late, late_end)):
            there.settimeout(DEADLINE)
            here.sendall(b"hello")
            assert b"hello" == there.recv(5)
            here.shutdown(socket.SHUT_WR)
            assert b"" == there.recv(5)


def test_a_port_that_cannot_be_left_is_closed_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another system, or a kernel that refuses: nothing is raised in the middle of a drain."""
    with socket.socket() as gone:
        pass
    assert not step_aside(gone)
    monkeypatch.setattr(sys, "platform", "darwin")
    with listen("127.0.0.1", 0) as listening:
        assert not step_aside(listening)
