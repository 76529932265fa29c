"""The stage in one process: clients, phases, and what is said of them each second."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

from gateway.types import Position
from loadtests.clients.centrifuge import CentrifugeClient
from loadtests.clients.ground import Ground
from loadtests.kit.profile import Profile
from loadtests.oracle import Ledger
from loadtests.scenarios.contract import Client, Phase, RefusedError, Share
from loadtests.workers.meters import ProcessMeters
from loadtests.workers.pace import Timetable

PATIENCE: Final = 60.0  # seconds after the ramp for everybody to stand
SHOWN: Final = 3  # reasons that an error names
JUDGES: Final = 1 << 21  # numbers from here on belong to no client of a scenario


class HopelessError(Exception):
    """The run cannot begin; the text says what to do."""


class ProcessStage:
    """See `scenarios.contract.Stage`."""

    def __init__(
        self, profile: Profile, share: Share, *, ground: Ground, meters: ProcessMeters, timetable: Timetable
    ) -> None:
        self.profile = profile
        self.share = share
        self.rng: random.Random = ground.rng
        self.meters = meters
        self.ledger: Ledger = ground.ledger
        self.clients: list[CentrifugeClient] = []
        self.ready = asyncio.Event()
        self._ground = ground
        self._timetable = timetable
        self._prefix = f"{profile.namespace}:{ground.run}-" if profile.namespace else f"{ground.run}-"

    @property
    def phase(self) -> Phase:
        """See the contract."""
        return self._timetable.phase

    def mine(self, total: int) -> range:
        """See the contract."""
        return range(self.share.part, total, self.share.of)

    def channel(self, number: int) -> str:
        """See the contract."""
        return f"{self._prefix}{number}"

    def client(self, number: int, channels: Sequence[str] = (), *, slow: bool = False) -> CentrifugeClient:
        """See the contract."""
        made = CentrifugeClient(self._ground, number, channels, slow=slow)
        self.clients.append(made)
        return made

    async def crowd(
        self,
        channels_of: Callable[[int], Sequence[str]],
        total: int = 0,
        *,
        first: int = 0,
        slow: Callable[[int], bool] | None = None,
    ) -> list[Client]:
        """See the contract. Raises HopelessError: not all could come, and more patience would not help."""
        total = total or self.profile.connections
        each = self.profile.ramp / self.profile.connections
        made = [self.client(first + it, channels_of(it), slow=slow is not None and slow(it)) for it in self.mine(total)]
        delays = [it * each for it in self.mine(total)]
        try:
            async with asyncio.timeout(each * total + PATIENCE), asyncio.TaskGroup() as tasks:
                for client, delay in zip(made, delays, strict=True):
                    tasks.create_task(_open(client, delay))
        except TimeoutError:
            raise HopelessError(self._missing(made)) from None
        except ExceptionGroup as group:
            refused, rest = group.split(HopelessError)
            if rest is not None or refused is None:
                raise
            raise HopelessError(str(refused.exceptions[0])) from None
        return [*made]

    async def ramped(self) -> None:
        """See the contract."""
        for client in self.clients:
            for log in client.logs.values():
                log.attend()
        gc.collect()
        gc.freeze()  # else each full collection would walk all clients, and be measured as latency
        self.ready.set()
        await self._timetable.until("warm-up")

    async def until(self, phase: Phase) -> None:
        """See the contract."""
        await self._timetable.until(phase)

    async def at(self, seconds: float) -> None:
        """See the contract."""
        await self._timetable.at(seconds)

    def pace(self, rate: float, *, offset: float = 0.0) -> AsyncIterator[int]:
        """See the contract."""
        return self._timetable.pace(rate, offset)

    async def speak(
        self, speakers: Sequence[Client], total: int, channel_of: Callable[[Client, int], str], rate: float = 0.0
    ) -> None:
        """See the contract."""
        everybody = rate or self.profile.rate
        if not speakers or not everybody:
            await self.until("settle")
            return
        number, here = 0, len(speakers)
        async for due in self.pace(everybody * here / total, offset=self.share.part / self.share.of):
            turn, place = divmod(number, here)
            speaker = speakers[place]
            speaker.publish(channel_of(speaker, turn), due)
            number += 1

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """See the contract."""
        self._ground.spawn(work)

    # --- what the worker asks

    def standing(self) -> int:
        """Count the clients that are where they want to be."""
        return sum(it.standing for it in self.clients)

    def pending(self) -> int:
        """Count the answers to publications that are still to come."""
        return sum(it.pending for it in self.clients)

    def unfinished(self) -> list[str]:
        """Say what was waited for in vain: a server that froze has lost nothing that it acknowledged."""
        faults: list[str] = []
        if pending := self.pending():
            faults.append(f"{pending:,} publications of one process were never answered, on connections that stand")
        if away := len(self.clients) - self.standing():
            faults.append(f"{away:,} clients of one process were not connected and subscribed again at the end")
        for why, count in sum((it.barred for it in self.clients), Counter[str]()).items():
            faults.append(f"clients of one process were refused for good after they had come, {count:,} times: {why}")
        if damaged := self._ground.stamp.damaged:
            faults.append(f"{damaged:,} publications came to one process with other data than was sent")
        for name, it in self.meters.run.items():
            if it.beyond:
                faults.append(f"{it.beyond:,} latencies ({name}) were longer than a day, and are shown as a day")
        return faults

    def look(self) -> None:
        """Once a second: see who went silent."""
        for client in self.clients:
            client.look()

    async def tops(self) -> dict[str, Position]:
        """Ask the server where the streams stand that clients here follow; what it does not say is left out."""
        logs = [log for client in self.clients for log in client.logs.values()]
        known = [(it.channel, it.position) for it in logs if it.position is not None]
        kept = {channel for channel, position in known if position.epoch}
        found = {channel: Position(0, "") for channel, _ in known if channel not in kept}
        judge = self.client(JUDGES + self.share.part)
        try:
            if kept:
                async with asyncio.timeout(PATIENCE):
                    await judge.open()
            for channel in sorted(kept):
                async with asyncio.timeout(PATIENCE):
                    await judge.subscribe(channel)
                    position = judge.logs[channel].position
                    await judge.unsubscribe(channel)
                if position is not None:
                    found[channel] = position
        except (RefusedError, TimeoutError) as error:
            self.meters.fault(f"where the streams stand at the end could not be asked for: {str(error) or 'no answer'}")
        self.clients.remove(judge)
        return found

    def _missing(self, made: Sequence[CentrifugeClient]) -> str:
        why = Counter(it.refusal or "no answer" for it in made if not it.standing)
        reasons = "; ".join(f"{count} x {reason}" for reason, count in why.most_common(SHOWN))
        return (
            f"{sum(why.values())} of {len(made)} clients of one process could not come within {PATIENCE:g} s after the "
            f"ramp ({reasons}). For 503 and 429 see `client.connection_rate_limit`, `client.connection_limit` and "
            "`http_server.connections_per_ip` of the target, or let them come more slowly: --set ramp=60"
        )


async def _open(client: CentrifugeClient, delay: float) -> None:
    started = time.monotonic()
    await asyncio.sleep(delay)
    try:
        await client.open()
    except RefusedError as error:
        when = time.monotonic() - started
        raise HopelessError(
            f"{client.user} was refused {when:.1f} s after the beginning of the ramp: {error}"
        ) from None
