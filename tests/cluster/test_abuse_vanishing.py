"""Who leaves all at once: behind a proxy that dies, a cable that is cut, a process that is killed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.cluster.siege import Siege, siege, token
from tests.support.attackers import connected
from tests.support.exactness import within
from tests.support.rawsocket import RawSocket, on_uvloop

MANY = 2000
PER_ADDRESS = 150  # less than an address may have
HELD_UP = within(0.1, otherwise=3.0)  # seconds for anybody else; it was 0.9 when all were taken down in one turn


@pytest.fixture(scope="module", name="besieged")
def _besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    with siege(tmp_path_factory.mktemp("siege")) as running:
        yield running


async def arrived(besieged: Siege) -> list[RawSocket]:
    """Let many come, each with a channel of its own and seen there."""
    return [
        await connected(
            besieged.url,
            token(f"vanishing-{number}"),
            source=f"127.0.4.{1 + number // PER_ADDRESS}",
            channels=[f"watched:{number}"],
        )
        for number in range(MANY)
    ]


@on_uvloop
async def test_two_thousand_who_vanish_at_once_hold_up_nobody(besieged: Siege) -> None:
    """Those who stay wait for a few turns of the loop, not for all that the others had to be taken out of."""
    before = besieged.connections()
    async with besieged.attack(rss=48.0, longest=HELD_UP):
        crowd = await arrived(besieged)
        assert besieged.connections() == before + MANY
        began = time.monotonic()
        for client in crowd:
            client.close()
        await besieged.until(lambda: besieged.connections() == before)
        gone = time.monotonic()
        others = besieged.healthy.stretch(began, gone)
    print(f"{MANY} were gone after {gone - began:.2f} s, others waited {others.worst:.3f} s at the longest")  # noqa: T201 - figures for who runs it with -s
