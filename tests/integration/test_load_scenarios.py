"""Scenarios of the load-test kit in small against a real node: what they play, and what they find when it errs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from loadtests.kit.result import Result
from tests.support import withholding
from tests.support.fleet import Node
from tests.support.loading import came, node, played

QUEUE: Final = 128 << 10  # bytes


@pytest.fixture(name="good", scope="module")
def _good(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Run a node that is as it should be; its outboxes are small, so that they overflow in a second."""
    with node(tmp_path_factory.mktemp("good"), CLIENT__QUEUE_MAX_SIZE=str(QUEUE)) as it:
        yield it


@pytest.fixture(name="broken", scope="module")
def _broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Run a node that never shows every tenth publication of a channel with history."""
    with node(tmp_path_factory.mktemp("broken"), program=withholding.program("publications")) as it:
        yield it


def assert_whole(result: Result) -> None:
    """Fail unless all that was published was acknowledged, and nobody missed anything or was told so."""
    assert result.audit.clean, result.audit
    assert (0, {}, {}) == (result.audit.lost, result.closes, result.refusals)
    assert result.audit.published == result.audit.acknowledged > 0
    assert [] == result.broken


def assert_about(expected: int, seen: int) -> None:
    """Fail unless it is this number: of a phase, at each end of which one that is due may fall to either side."""
    assert abs(expected - seen) <= 0.05 * expected, (expected, seen)


async def test_rooms(good: Node) -> None:
    """Forty members in rooms of five, in two processes: each publication reaches five, and its latency is measured."""
    result = await played(good, "rooms", processes=2, members=5, rate=60)
    assert_whole(result)
    assert result.audit.delivered == 5 * result.audit.published
    assert_about(60 * 5, result.delivery.count)
    assert 0 < came(result.delivery.p50) <= came(result.delivery.max)


async def test_presence(good: Node) -> None:
    """People come and go in two processes; all joins and leaves come, and presence is right at the end."""
    result = await played(good, "presence", processes=2, channels=4, churn=30, rate=8)
    assert_whole(result)
    assert result.connect.count > 40 + 10, "there was churn"


async def test_storm(good: Node) -> None:
    """Everybody is cut off twice and is back in time; what was said meanwhile is recovered."""
    result = await played(good, "storm", connections=30, channels=3, cuts=2, jitter=0.2, rate=40, duration=2)
    assert_whole(result)
    assert_about(80, result.acknowledge.count)
    assert 30 <= result.recover.count <= result.connect.count - 35, "who is cut while he comes back counts once"
    assert 0 < result.figures["back_95_seconds"] <= result.figures["back_100_seconds"]


async def test_recovery(good: Node) -> None:
    """Everybody gets the hundred that he missed, in each of two rounds, and what that took is measured."""
    result = await played(
        good, "recovery", connections=20, channels=2, cuts=2, missed=100, rate=1000, duration=2, publishers=2
    )
    assert_whole(result)
    assert 2 * 2 * 100 == result.audit.published
    assert 2 * 100 * 20 == result.audit.delivered
    assert 2 * 20 == result.recover.count
    assert 0 < came(result.recover.p50)


async def test_recovery_beyond_the_history(good: Node) -> None:
    """Who missed more than history holds is told so, and the run fails by it: nobody takes that for a recovery."""
    result = await played(
        good, "recovery", connections=10, channels=1, cuts=1, missed=1100, rate=4000, duration=1, publishers=2
    )
    assert not result.audit.clean
    assert ["10 clients were told that they could not recover 1100 missed publications"] == result.audit.offences
    assert {"unrecovered": 10} == result.audit.told


async def test_slow(good: Node) -> None:
    """Who reads next to nothing is cut off, again and again; the others get everything, and nobody loses unheard."""
    result = await played(good, "slow", connections=20, slow=0.2, rate=15, size=8000, duration=4)
    assert result.audit.clean, result.audit
    assert 4 <= sum(result.closes.values()), "each of the four at least once"
    assert {"3008", "1006"} >= set(result.closes)
    assert 4 <= sum(it.slow for it in result.nodes), "the node says the same"
    assert_about(4 * 15 * 16, result.delivery.count)
    assert [] == result.broken


async def test_soak(good: Node) -> None:
    """People come and go for a while, and nobody misses anything."""
    result = await played(good, "soak", channels=4, churn=20, rate=40, publishers=2, duration=2, size=100)
    assert_whole(result)
    assert_about(80, result.acknowledge.count)
    assert result.recover.count > 10


async def test_mixed(good: Node) -> None:
    """Broadcast, rooms and 1:1 beside each other, in two processes, with churn: nothing is lost."""
    result = await played(good, "mixed", processes=2, members=5, rate=200, churn=10)
    assert_whole(result)
    assert_about(200, result.acknowledge.count)
    assert result.audit.delivered > result.audit.published * 2, "some are heard by many"


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("rooms", {"members": 10, "rate": 60, "namespace": "history"}),
        ("storm", {"channels": 1, "cuts": 1, "rate": 60, "jitter": 0.1}),
        ("soak", {"channels": 1, "churn": 5, "rate": 60, "publishers": 1}),
        ("mixed", {"members": 20, "rate": 200, "churn": 5}),
    ],
)
async def test_a_node_that_loses_is_found_out(broken: Node, name: str, fields: dict[str, Any]) -> None:
    """Every tenth publication is shown to nobody: the audit counts it as lost, and the run does not pass."""
    result = await played(broken, name, connections=20, settle=2, **fields)
    assert not result.audit.clean
    assert result.audit.lost > 0
    assert ["lost"] == [it.name for it in result.broken]
    assert not result.passed
    assert result.audit.offences


async def test_a_node_that_forgets_joins_is_found_out(tmp_path: Path) -> None:
    """Every third join is told to nobody: presence is right all the same, and the run fails by what was not told."""
    with node(tmp_path, program=withholding.program("joins")) as it:
        result = await played(it, "presence", connections=20, channels=2, churn=20, settle=2)
    assert not result.audit.clean
    assert not result.passed
    assert any(it.startswith("a join was lost in presence:") for it in result.audit.offences), result.audit
