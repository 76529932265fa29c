from __future__ import annotations

from typing import Any

import pytest

from gateway import repair as repairing
from gateway.repair import CHECK_PERIOD
from gateway.types import Channel
from tests.support.clock import ManualClock
from tests.support.listening import CHANNEL, Listener, at
from tests.support.recorder import MemoryRecorder
from tests.support.shop import Shop


@pytest.fixture(name="shop")
def _shop(clock: ManualClock, recorder: MemoryRecorder) -> Shop:
    return Shop(clock, recorder)


def silent(shop: Shop, seconds: float) -> None:
    """Let time pass in the steps in which a node looks."""
    for _ in range(int(seconds * 10)):
        shop.wait(0.1)


def test_a_loss_that_nothing_follows_is_found_by_the_position_check(shop: Shop) -> None:
    """After so long without a publication the top is read, once a period; what is ahead of us was lost."""
    listener = shop.listener()
    shop.interest.meta_ttl = 600.0
    shop.publish()
    silent(shop, CHECK_PERIOD + 1)  # until the first look; what is published after it is no silence
    shop.publish()
    silent(shop, CHECK_PERIOD)
    assert not shop.stream.asked
    shop.lose()
    silent(shop, CHECK_PERIOD)
    assert [(0, None, 600.0)] == [(it.limit, it.since, it.meta_ttl) for it, _ in shop.stream.asked]
    shop.read()
    assert [at(2)] == [it.since for it, _ in shop.stream.asked]
    shop.read()
    assert ["p1", "p2", "p3"] == shop.heard(listener)
    assert {("gaps_detected", "position_check"): 1, ("repairs", "full"): 1} == shop.recorder.counts


@pytest.mark.parametrize("what", ["same", "fault", "moved", "gone"])
def test_a_check_that_finds_nothing_changes_nothing(shop: Shop, what: str) -> None:
    """The same top, no answer, a publication meanwhile, nobody left."""
    listener = shop.listener()
    silent(shop, 2 * CHECK_PERIOD + 2)
    assert 1 == len(shop.stream.asked)
    if what == "fault":
        shop.stream.failing = "timeout"
    elif what == "moved":
        shop.stream.serve(1)
        shop.publish()
    elif what == "gone":
        shop.lose()
        shop.world.hub.leave(CHANNEL, listener)
    shop.read()
    assert {} == shop.recorder.counts
    assert not shop.stream.asked


def test_a_new_stream_is_found_by_the_position_check(shop: Shop) -> None:
    """The server has lost everything, and nothing is published."""
    listener = shop.listener()
    shop.begin_anew()
    silent(shop, 2 * CHECK_PERIOD + 2)
    shop.read()
    shop.read()
    assert [(CHANNEL, at(0))] == listener.missed


def test_channels_are_looked_at_a_slice_at_a_time(shop: Shop) -> None:
    """A thousand silent channels are a few reads at a time; those without a position or in repair are none."""
    for n in range(1000):
        shop.listener(channel=Channel(f"chat:{n}"))
    Listener(shop.world).enter()
    shop.listener(channel=Channel("chat:suspect"))
    shop.suspect(Channel("chat:suspect"))
    shop.stream.asked.clear()
    most = count = 0
    for _ in range(round(2 * CHECK_PERIOD * 10) + 20):
        shop.wait(0.1)
        most, count = max(most, len(shop.stream.asked)), count + len(shop.stream.asked)
        shop.read()
    assert 1000 == pytest.approx(count, abs=60)
    assert 6 >= most


def test_a_node_that_stood_still_does_not_look_at_all_channels_at_once(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has missed is made up for at a few times the pace, and no channel is left out."""
    channels = {Channel(f"chat:{n}") for n in range(1000)}
    for channel in channels:
        shop.listener(channel=channel)
    looked_at: list[Channel] = []
    read = shop.stream.read

    def seen(channel: Channel, query: Any, done: Any) -> None:
        looked_at.append(channel)
        read(channel, query, done)

    monkeypatch.setattr(shop.stream, "read", seen)
    silent(shop, CHECK_PERIOD + 1)
    most, seconds = 0, 10 * CHECK_PERIOD
    for _ in range(round(CHECK_PERIOD / 2 * 10)):
        before = len(looked_at)
        shop.wait(seconds)
        most, seconds = max(most, len(looked_at) - before), 0.1
        shop.read()
    assert channels == set(looked_at)
    assert 11 >= most


def test_only_so_many_looks_are_under_way(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that answers late is not asked ever more; with every answer the next look goes out, at once."""
    monkeypatch.setattr(repairing, "CHECK_READS", 10)
    for n in range(1000):
        shop.listener(channel=Channel(f"chat:{n}"))
    silent(shop, 2 * CHECK_PERIOD)
    assert 10 == len(shop.stream.asked)
    shop.stream.serve(4)
    shop.stream.answer(4)
    assert 10 == len(shop.stream.asked)
    count = 4
    while shop.stream.asked:
        count += len(shop.stream.asked)
        shop.read()
    silent(shop, 1.0)
    assert 1000 > count > 4
    while shop.stream.asked:
        shop.read()
