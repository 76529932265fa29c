"""What one connection says in Centrifuge JSON, and what it is told; it ends with its link."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import orjson

from gateway.types import Position
from loadtests.clients.ground import Ground
from loadtests.clients.link import Link
from loadtests.clients.publications import ELSEWHERE, PUSH
from loadtests.oracle import Log
from loadtests.scenarios.contract import RefusedError

PONG: Final = b"{}"
RESUBSCRIBE: Final = range(2500, 3000)  # codes of unsubscribe pushes that invite to come back
IN_DOUBT: Final = frozenset({100})  # errors after which nobody knows whether it happened
ANSWER_SECONDS: Final = 30.0  # for a command; under a storm a server may take its time


class Speaker(Protocol):
    """Whose conversation it is."""

    logs: dict[str, Log]
    member: Callable[[str, str, bool], None] | None

    def unsubscribed(self, channel: str, code: int) -> None:
        """The server ended a subscription."""
        ...

    def read_something(self) -> None:
        """A message came."""
        ...


class Conversation:
    """Commands with their answers, pushes and pings of one connection."""

    __slots__ = ("_asked", "_ground", "_ids", "_publishing", "_speaker", "_timed", "link", "ping")

    def __init__(self, speaker: Speaker, ground: Ground, *, timed: bool) -> None:
        """`timed`: deliveries are, too."""
        self.link: Link | None = None
        self.ping = 0.0  # seconds between pings as the server promised; 0: none
        self._speaker = speaker
        self._ground = ground
        self._timed = timed
        self._ids = 0
        self._asked: dict[int, tuple[asyncio.Future[Mapping[str, Any]], Callable[[Mapping[str, Any]], None]]] = {}
        self._publishing: dict[int, tuple[str, int, int]] = {}  # channel, number, due

    @property
    def pending(self) -> int:
        """How many answers to publications are still to come."""
        return len(self._publishing)

    async def ask(
        self, command: Mapping[str, Any], then: Callable[[Mapping[str, Any]], None] = lambda _: None
    ) -> Mapping[str, Any]:
        """Send a command and return the whole reply. Raises RefusedError, with code 0 when the link goes away.

        `then` is called with a reply that is no error before anything that came behind it is looked at.
        """
        if self.link is None:
            raise RefusedError(0, "not connected")
        self._ids = ref = self._ids + 1
        answer: asyncio.Future[Mapping[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[ref] = answer, then
        self.link.send(orjson.dumps({"id": ref, **command}))
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                reply: Mapping[str, Any] = await answer
        except TimeoutError:
            raise RefusedError(0, f"no answer within {ANSWER_SECONDS:g} s") from None
        finally:
            self._asked.pop(ref, None)
        if (error := reply.get("error")) is not None:
            raise RefusedError(error["code"], error["message"])
        return reply

    async def connect(self, token: str) -> Mapping[str, Any]:
        """Say who we are; returns the result. Raises RefusedError."""
        result: Mapping[str, Any] = (await self.ask({"connect": {"token": token} if token else {}})).get("connect", {})
        self.ping = float(result.get("ping", 0))
        return result

    async def subscribe(
        self, channel: str, log: Log, *, since: Position | None, recovery: bool, late: bool = False
    ) -> bool:
        """Subscribe, from a position if there is one; returns whether the server keeps what can be recovered.

        `late`: what is recovered came late by the server's fault, and is timed. Raises RefusedError.
        """
        began = time.monotonic_ns()
        wanted: dict[str, Any] = {"channel": channel}
        if recovery:
            wanted |= {"positioned": True, "recoverable": True}
        if since is not None:
            wanted |= {"recover": True, "offset": since.offset, "epoch": since.epoch}

        def subscribed(reply: Mapping[str, Any]) -> None:
            self._ground.meters.took("subscribe", (time.monotonic_ns() - began) // 1000)
            self._subscribed(log, reply.get("subscribe", {}), asked=since is not None, timed=late and self._timed)

        reply = await self.ask({"subscribe": wanted}, subscribed)
        return bool(reply.get("subscribe", {}).get("recoverable", False))

    def publish(self, channel: str, number: int, due: int) -> None:
        """Send a publication; how it ended comes to the ledger."""
        if self.link is not None:
            self._ids = ref = self._ids + 1
            self._publishing[ref] = (channel, number, due)
            data = self._ground.stamp.data(number, due)
            self.link.send(b'{"id":%d,"publish":{"channel":%b,"data":%b}}' % (ref, _quoted(channel), data))

    def told(self, payload: bytes) -> None:
        """Take a message of the server."""
        if payload == PONG:  # a ping looks the same
            if self.link is not None:
                self.link.send(PONG)
        elif (publications := self._ground.hearsay.publications(payload)) is None:
            for line in payload.split(b"\n"):
                self._line(line)
        else:
            logs, timed, delivered = self._speaker.logs, self._timed, self._ground.meters.delivered
            for channel, offset, number, epoch, due in publications:
                if (log := logs.get(channel)) is not None:
                    log.publication(offset, number, epoch)
                    delivered(due if timed else ELSEWHERE)
        self._speaker.read_something()

    def over(self) -> None:
        """The link is gone: nobody answers any more. What was being published stays in doubt."""
        self.link = None
        self._publishing.clear()
        for answer, _ in self._asked.values():
            if not answer.done():
                answer.set_exception(RefusedError(0, "the connection ended"))
                answer.exception()  # whoever gave up waiting does not ask for it

    # --- inside

    def _line(self, line: bytes) -> None:
        if line == PONG:
            self.told(line)
        elif line.startswith(PUSH):
            publications = self._ground.hearsay.publications(line)
            self._push(orjson.loads(line)["push"]) if publications is None else self.told(line)
        elif line:
            reply = orjson.loads(line)
            ref = reply.get("id", 0)
            if (sent := self._publishing.pop(ref, None)) is not None:
                self._published(*sent, reply.get("error"))
            elif (asked := self._asked.get(ref)) is not None:
                self._answered(*asked, reply)

    @staticmethod
    def _answered(
        answer: asyncio.Future[Mapping[str, Any]], then: Callable[[Mapping[str, Any]], None], reply: Mapping[str, Any]
    ) -> None:
        if not answer.done():
            if "error" not in reply:
                then(reply)
            answer.set_result(reply)

    def _subscribed(self, log: Log, result: Mapping[str, Any], *, asked: bool, timed: bool) -> None:
        missed = [self._ground.stamp.read(log.channel, it) for it in result.get("publications", ())]
        log.subscribed(
            Position(result.get("offset", 0), result.get("epoch", "")),
            recovered=result.get("recovered", False),
            asked=asked,
            publications=[(it.offset, it.number) for it in missed],
        )
        for it in missed:
            self._ground.meters.delivered(it.due if timed else ELSEWHERE)

    def _published(self, channel: str, number: int, due: int, error: Mapping[str, Any] | None) -> None:
        ground = self._ground
        if error is None:
            ground.ledger.acknowledged(channel, number)
            ground.meters.acknowledged(due)
            return
        ground.meters.count("errors")
        ground.meters.refused(str(error["code"]))
        if error["code"] not in IN_DOUBT:
            ground.ledger.refused(channel, number)

    def _push(self, push: Mapping[str, Any]) -> None:
        speaker, channel = self._speaker, push.get("channel", "")
        if "unsubscribe" in push:
            speaker.unsubscribed(channel, push["unsubscribe"]["code"])
        elif speaker.member is not None and "join" in push:
            speaker.member(channel, push["join"]["info"]["client"], True)
        elif speaker.member is not None and "leave" in push:
            speaker.member(channel, push["leave"]["info"]["client"], False)


def _quoted(channel: str) -> bytes:
    return orjson.dumps(channel)
