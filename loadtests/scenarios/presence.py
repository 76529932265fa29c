"""Presence: connections come and go all the time, and everybody must know who is there."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import ClassVar, Final

from loadtests.oracle.roll import Roll
from loadtests.scenarios.contract import Client, RefusedError, Stage
from loadtests.scenarios.moves import Absences, Homes, churn

CUT: Final = 0.5  # share of those who leave that do so without a word
AWAY: Final = (0.0, 1.0)  # seconds
LOOK: Final = 0.1  # seconds between two looks at whether all is as it should be
NAMED: Final = 5  # faults of a channel that the report names


class Presence:
    """Connections join and leave presence channels; every join and leave, and who is there at the end, is audited."""

    name: ClassVar[str] = "presence"

    async def play(self, stage: Stage) -> None:
        """Fill the channels, keep one observer in each, let the others come and go, and compare at the end."""
        homes = Homes(stage)
        clients = await stage.crowd(lambda number: [homes.of(number)])
        members: dict[str, list[Client]] = defaultdict(list)
        for client in clients:
            members[next(iter(client.logs))].append(client)
        watches = [_Watch(channel, people) for channel, people in members.items()]
        await stage.ramped()
        try:
            await asyncio.gather(*(it.begin() for it in watches))
        except RefusedError as error:
            namespace = stage.profile.namespace
            raise ValueError(f"the namespace {namespace!r} does not let its clients see presence: {error}") from None
        by_client = {client: watch for watch in watches for client in watch.people}
        absences = Absences(stage, lambda client: by_client[client].joined(client))
        others = [client for client in clients if client is not by_client[client].observer]
        speaking = partial(stage.speak, [it.observer for it in watches], homes.total, _own_channel)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(churn(stage, others, absences, away=AWAY, cut=CUT))
            if stage.profile.rate:
                tasks.create_task(speaking())
        await absences.over(stage.profile.settle)
        await asyncio.gather(*(_judge(stage, it) for it in watches))


class _Watch:
    """One channel with its members, of whom the first stays and listens to who joins and leaves."""

    def __init__(self, channel: str, people: list[Client]) -> None:
        self.channel = channel
        self.people = people
        self.observer = people[0]
        self._roll = Roll(channel)
        self._joined: set[str] = set()
        self._connection = ""

    async def begin(self) -> None:
        """Listen from now on."""
        self._connection = self.observer.id
        self.observer.member = lambda channel, who, joined: (
            self._roll.told(who, joined) if channel == self.channel else None
        )
        self._roll.present = await self._ask()

    def joined(self, client: Client) -> None:
        """A member is here again, on another connection."""
        self._joined.add(client.id)

    @property
    def interrupted(self) -> bool:
        """Whether the observer lost its connection, and with it joins and leaves."""
        return self.observer.id != self._connection

    async def faults(self) -> list[str]:
        """Say what is not yet, or will never be, as it should: who is there, and what was told of it."""
        there = {it.id for it in self.people if it.connected}
        shown = await self._ask()
        wrong = [f"presence of {self.channel} lacks {it}" for it in sorted(there - shown)]
        wrong += [f"presence of {self.channel} holds {it}, who has gone" for it in sorted(shown - there)]
        told = [] if self.interrupted else self._roll.faults(joined=self._joined, present=there)
        return wrong + told

    async def _ask(self) -> frozenset[str]:
        result = await self.observer.ask({"presence": {"channel": self.channel}})
        return frozenset(result["presence"])


async def _judge(stage: Stage, watch: _Watch) -> None:
    """Wait until all is right, for as long as a run may settle; what is not right then is a fault."""
    faults = ["nobody could be asked"]
    try:
        async with asyncio.timeout(stage.profile.settle):
            while faults:
                try:
                    faults = await watch.faults()
                except RefusedError as error:
                    faults = [f"presence cannot be asked for: {error}"]
                await asyncio.sleep(LOOK if faults else 0)
    except TimeoutError:
        for fault in faults[:NAMED]:
            stage.meters.fault(fault)
        if len(faults) > NAMED:
            stage.meters.fault(f"... and {len(faults) - NAMED} more in {watch.channel}")
    if watch.interrupted:
        stage.meters.remark("an observer lost its connection: joins and leaves of its channel were not audited")


def _own_channel(speaker: Client, _: int) -> str:
    return next(iter(speaker.logs))
