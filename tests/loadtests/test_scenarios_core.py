"""Fan-out, one to one and idle, on a stage without a server."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from tests.loadtests.test_scenarios import played
from tests.support.playing import FakeStage


async def test_everybody_hears_one_of_few_channels_and_all_are_spoken_in() -> None:
    """Listeners are spread evenly, publishers have connections of their own, and go through the channels."""
    stage = await played("fan-out", connections=20, channels=4, publishers=2)
    assert 4 * [5] == list(Counter(channel for it in stage.clients for channel in it.logs).values())
    assert {20, 21} == {who for who, _ in stage.said}
    assert 5 == len(stage.said)
    first = [channel for who, channel in stage.said if who == 20]
    assert first == [f"c{it}" for it in range(len(first))]
    assert stage.said[0][1] != stage.said[1][1]


@pytest.mark.parametrize("publishers", [1, 3])
async def test_each_channel_has_one_listener_and_its_turn(publishers: int) -> None:
    """Publications go through all channels, whoever makes them."""
    stage = await played("one-to-one", being_long, connections=9, publishers=publishers)
    listeners = [channel for it in stage.clients for channel in it.logs]
    assert sorted(listeners) == sorted(f"c{it}" for it in range(9))
    assert {f"c{it}": 2 for it in range(9)} == Counter(channel for _, channel in stage.said)
    assert 9 * [2] == [log.deliveries for it in stage.clients for log in it.logs.values()]


def being_long(stage: FakeStage) -> None:
    """Let a pace have twice as many events as there are channels."""
    stage.steps = 18


async def test_nobody_says_anything_when_idle() -> None:
    """They are there until the run settles."""
    stage = await played("idle", settling_soon, connections=6, channels=3, rate=0.0)
    assert ([], 6) == (stage.said, len(stage.here))
    assert {"c0": 2, "c1": 2, "c2": 2} == Counter(channel for it in stage.clients for channel in it.logs)


async def test_idle_is_no_scenario_for_speakers() -> None:
    """A rate that nobody would keep is no profile of it: a run in which nothing is published must not look like one."""
    with pytest.raises(ValueError, match="leave out rate=5"):
        await played("idle", connections=6, rate=5.0)


def settling_soon(stage: FakeStage) -> None:
    """Nothing paces this run to its end."""
    asyncio.get_running_loop().call_soon(stage.settle)
