"""The publishers of a crowd: one per channel numbers its messages and notes how each ended."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.types import Position
from loadtests.oracle import Ending, Ledger
from tests.support.crowd_client import Link
from tests.support.crowd_http import Api, NotSentError, UnansweredError
from tests.support.crowd_records import Attempt, Records

BETWEEN_RETRIES: Final = (0.1, 0.5)  # seconds
GIVE_UP: Final = 120.0  # seconds after which a repeated publication is left in doubt
INTERNAL: Final = 100  # the error of everything that may or may not have happened


class Sent(NamedTuple):
    """What came of one attempt; `detail` names the failure."""

    ending: Ending
    position: Position | None = None
    detail: str = ""


Way = Callable[[str, Mapping[str, Any], str], Awaitable[Sent]]  # channel, data, idempotency key or ""


class ByApi:
    """Publishes through the server API of a random node."""

    def __init__(self, api: Api, nodes: Sequence[str]) -> None:
        self._api = api
        self._nodes = nodes

    async def __call__(self, channel: str, data: Mapping[str, Any], key: str) -> Sent:
        """Publish once. A refusal counts as certain only where the request cannot have reached the engine."""
        body = {"channel": channel, "data": data} | ({"idempotency_key": key} if key else {})
        try:
            status, answer = await self._api.call(random.choice(self._nodes), "publish", body)
        except NotSentError as error:
            return Sent("refused", None, f"not sent: {error}")
        except UnansweredError as error:
            return Sent("doubtful", None, f"unanswered: {error}")
        if status != 200 or not isinstance(answer, dict):
            return Sent("refused" if 400 <= status < 500 else "doubtful", None, f"status {status}")
        return _judged(answer.get("error"), answer.get("result", {}))


class ByCommand:
    """Publishes with a client's own command, over links that somebody else keeps up."""

    def __init__(self, links: Callable[[], Sequence[Link]], timeout: float) -> None:
        self._links = links
        self._timeout = timeout
        self._waiting: dict[tuple[Link, int], asyncio.Future[Mapping[str, Any]]] = {}

    def answered(self, link: Link, number: int, message: Mapping[str, Any]) -> None:
        """Take a reply."""
        waiting = self._waiting.get((link, number))
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    async def __call__(self, channel: str, data: Mapping[str, Any], key: str) -> Sent:
        """Publish once; clients have no idempotency keys."""
        assert not key, "a client's publish command has no idempotency key"
        links = self._links()
        if not links:
            return Sent("refused", None, "not connected")
        link = random.choice(links)
        number = link.send({"publish": {"channel": channel, "data": data}})
        answer = self._waiting[link, number] = asyncio.get_running_loop().create_future()
        try:
            await asyncio.wait({answer, link.lost}, timeout=self._timeout, return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._waiting[link, number]
        if not answer.done():
            return Sent("doubtful", None, "cut off" if link.lost.done() else "unanswered")
        return _judged(answer.result().get("error"), {})


def _judged(error: Mapping[str, Any] | None, result: Mapping[str, Any]) -> Sent:
    if error is not None:
        return Sent("doubtful" if error["code"] == INTERNAL else "refused", None, f"error {error['code']}")
    offset = result.get("offset", 0)
    return Sent("acknowledged", Position(offset, result.get("epoch", "")) if offset else None)


class Publisher:
    """Numbers the messages of one channel, `interval` seconds apart, one in flight; `retry`: with idempotency keys."""

    def __init__(
        self, channel: str, *, way: Way, ledger: Ledger, records: Records, interval: float, retry: bool, padding: str
    ) -> None:
        self.channel = channel
        self.number = 0
        self._way = way
        self._ledger = ledger
        self._records = records
        self._interval = interval
        self._retry = retry
        self._padding = padding

    async def run(self, going_on: Callable[[], bool]) -> None:
        """Publish until told to stop. What an outage delayed is left out, not made up for."""
        due = time.monotonic() + random.uniform(0, self._interval)
        while going_on():
            await asyncio.sleep(due - time.monotonic())
            if going_on():
                await self.publish()
            due = max(due + self._interval, time.monotonic())

    async def publish(self) -> Sent:
        """Publish the next message and note how that ended. Cancelled: it stays in doubt."""
        self.number += 1
        number = self.number
        self._ledger.publishing(self.channel, number)
        # The process is in the key: who starts numbering anew must not meet the answers of an earlier run.
        key = f"{self.channel}.{number}.{id(self._ledger):x}" if self._retry else ""
        give_up = time.monotonic() + GIVE_UP
        doubted = False
        while True:
            sent = await self._attempt(number, key)
            doubted = doubted or sent.ending == "doubtful"
            if sent.ending == "acknowledged" or not self._retry or time.monotonic() > give_up:
                break
            await asyncio.sleep(random.uniform(*BETWEEN_RETRIES))
        if sent.ending == "acknowledged":
            self._ledger.acknowledged(self.channel, number, sent.position)
        elif sent.ending == "refused" and not doubted:
            self._ledger.refused(self.channel, number)
        return sent

    async def _attempt(self, number: int, key: str) -> Sent:
        start = time.monotonic()
        data: dict[str, Any] = {"n": number, "at": start}
        if self._padding:
            data["pad"] = self._padding
        sent = await self._way(self.channel, data, key)
        self._records.attempts.append(Attempt(start, time.monotonic() - start, sent.ending, sent.detail))
        return sent
