"""Clients who only connect and stay: how many a node lets in, and what it tells the others."""

from __future__ import annotations

import asyncio
import socket
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import jwt

from tests.support.crowd_client import Ears, Link, RefusedError
from tests.support.fleet import SECRET

PER_ADDRESS: Final = 150  # connections; nodes refuse an address beyond 200
WITHIN: Final = 10.0  # seconds for a handshake
GONE: Final = 0  # the status of who got no answer


def token(user: str, **claims: Any) -> str:
    """Sign a token that is good for an hour; `claims` are added, or stand instead."""
    whole = {"sub": user, "aud": "gateway", "exp": int(time.time()) + 3600, **claims}
    return jwt.encode(whole, SECRET, algorithm="HS256")


class Newcomers:
    """Some clients of 127.0.<net>.x; `held` are those who got in."""

    def __init__(self, url: str, net: int = 7) -> None:
        self.url = url
        self.held: list[Link] = []
        self._net = net
        self._came = 0

    async def knock(self, presented: str = "") -> int:
        """Come; return 101, the status of the refusal, the error code of connect, or GONE."""
        self._came += 1
        sock = socket.socket()
        sock.setblocking(False)
        sock.bind((f"127.0.{self._net}.{1 + self._came // PER_ADDRESS}", 0))
        ears = Ears(lambda _: None, lambda _number, _message: None)
        link = Link(self.url, presented or token(f"newcomer-{self._came}"), {}, ears)
        try:
            await link.open(sock, WITHIN)
        except RefusedError as error:
            return error.status
        except OSError:
            link.cut()
            return GONE
        self.held.append(link)
        return 101

    async def knock_often(self, count: int, at_once: int = 20) -> Counter[int]:
        """Come so many times; count the answers."""
        answers: Counter[int] = Counter()
        while answers.total() < count:
            several = min(at_once, count - answers.total())
            answers.update(await asyncio.gather(*(self.knock() for _ in range(several))))
        return answers

    def go(self) -> None:
        """Leave, all of us."""
        for link in self.held:
            link.cut()
        self.held.clear()


@contextmanager
def newcomers(url: str, net: int = 7) -> Iterator[Newcomers]:
    """Give some who come to this node; they are gone in the end."""
    people = Newcomers(url, net)
    try:
        yield people
    finally:
        people.go()
