from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import pytest

from loadtests import scenarios
from loadtests.kit.profile import Profile
from loadtests.scenarios.contract import RefusedError, Share, Stage
from loadtests.scenarios.mixed import Plan
from loadtests.scenarios.moves import Homes
from loadtests.scenarios.slow import reads_slowly
from tests.support.idleness import in_no_time
from tests.support.playing import SETTLE, TURNS, FakeStage


def staged(share: Share | None = None, **fields: Any) -> FakeStage:
    """Return a stage for a scenario, without a server."""
    told = {"connections": 20, "channels": 2, "settle": SETTLE, "rate": 10.0, "jitter": 0.0, "duration": 60.0, **fields}
    return FakeStage(Profile.model_validate({"scenario": "any", **told}), share)


async def played(name: str, prepare: Callable[[FakeStage], None] = lambda _: None, **fields: Any) -> FakeStage:
    """Play a scenario on such a stage."""
    stage = staged(**fields)
    prepare(stage)
    await scenarios.find(name)().play(as_stage(stage))
    return stage


def being(**fields: object) -> Callable[[FakeStage], None]:
    """Return what makes a stage so before the scenario begins."""

    def prepare(stage: FakeStage) -> None:
        for name, value in fields.items():
            setattr(stage, name, value)

    return prepare


def as_stage(stage: FakeStage) -> Stage:
    """Its puppets know more than clients do, which no type allows in a list."""
    return cast("Stage", stage)


def test_helpers_are_no_scenarios() -> None:
    """What `list` shows can be played, and what scenarios share is not among it."""
    names = scenarios.names()
    assert {"rooms", "presence", "storm", "slow", "recovery", "soak", "mixed"} <= set(names)
    assert names == [scenarios.find(it).name for it in names]


# --- whose channels are whose


@pytest.mark.parametrize(("channels", "processes", "expected"), [(1, 3, 3), (10, 3, 10), (3, 3, 3)])
def test_no_two_processes_share_a_home(channels: int, processes: int, expected: int) -> None:
    """Every client has a channel, every channel one process, and with few channels there are as many as processes."""
    owners: dict[str, int] = {}
    totals = set()
    for index in range(processes):
        stage = staged(Share(index, processes), connections=30, channels=channels)
        homes = Homes(as_stage(stage))
        totals.add(homes.total)
        for number in stage.mine(30):
            assert index == owners.setdefault(homes.of(number), index)
    assert {expected} == {*totals, len(owners)}


# --- rooms


@in_no_time
async def test_rooms_are_full_and_everybody_speaks_in_his_own() -> None:
    """Each room has its members, the last one what is left, and nobody speaks elsewhere."""
    stage = await played("rooms", being(steps=25), connections=25, members=10)
    homes = {it.number: next(iter(it.logs)) for it in stage.clients}
    assert {"c0": 10, "c1": 10, "c2": 5} == Counter(homes.values())
    assert set(homes.items()) == set(stage.said)
    assert [it for it, _ in stage.said] != sorted(homes), "rooms take turns"


# --- presence


@in_no_time
async def test_presence_that_is_right_has_no_fault() -> None:
    """People come and go, all is told and shown: nothing to report."""
    stage = await played("presence", churn=5.0)
    assert [] == stage.meters.faults + stage.meters.remarks
    assert sum(it.comings for it in stage.clients) > len(stage.clients), "somebody went and came back"
    assert {"c0", "c1"} == {channel for _, channel in stage.said}


@in_no_time
async def test_presence_without_a_rate_is_churn_alone() -> None:
    """A profile that publishes nothing is one of joins and leaves."""
    stage = await played("presence", churn=5.0, rate=0.0)
    assert [] == stage.said + stage.meters.faults


def hides_somebody(stage: FakeStage) -> None:
    """Never show one who never leaves: an observer."""
    stage.hidden.add("user-0/1")


def keeps_somebody(stage: FakeStage) -> None:
    """Show one who is not there."""
    presence = stage.presence
    stage.presence = lambda channel: {"presence": {**presence(channel)["presence"], "ghost": {}}}  # type: ignore[method-assign] # what the test turns wrong


def forgets_returns(stage: FakeStage) -> None:
    """Tell nobody of a second coming."""
    stage.untold.update(f"user-{it}/2" for it in range(20))


def refuses(stage: FakeStage) -> None:
    """Answer no question after the first ones."""
    presence, asked = stage.presence, Counter[str]()

    def once(channel: str) -> Any:
        asked[channel] += 1
        stage.refusing = asked[channel] > 1
        return presence(channel)

    stage.presence = once  # type: ignore[method-assign] # what the test turns wrong


@pytest.mark.parametrize(
    ("broken", "fault"),
    [
        (hides_somebody, "presence of c0 lacks user-0/1"),
        (keeps_somebody, "presence of c0 holds ghost, who has gone"),
        (forgets_returns, "a join was lost in c"),
        (refuses, "presence cannot be asked for: 100 internal server error"),
    ],
)
@in_no_time
async def test_presence_that_is_wrong_is_a_fault(broken: Callable[[FakeStage], None], fault: str) -> None:
    """Whoever is missing, is still there, or came unannounced is named."""
    stage = await played("presence", broken, churn=5.0)
    assert any(it.startswith(fault) for it in stage.meters.faults), stage.meters.faults


@in_no_time
async def test_many_faults_of_a_channel_are_counted() -> None:
    """The first few are named; the others, who is not shown and whose coming nobody heard of, are a number."""
    stage = await played("presence", being(hidden={f"user-{it}/1" for it in range(20)}))
    assert 2 * (5 + 1) == len(stage.meters.faults)
    assert ["... and 15 more in c0", "... and 15 more in c1"] == sorted(
        it for it in stage.meters.faults if "more" in it
    )


@in_no_time
async def test_presence_that_nobody_may_see_is_no_target() -> None:
    """A namespace without the right is the profile's fault, and told as such."""
    with pytest.raises(ValueError, match="does not let its clients see presence: 100 internal"):
        await played("presence", being(refusing=True))


@in_no_time
async def test_who_lost_his_connection_judges_no_joins() -> None:
    """An observer that was away may have missed what it likes: presence is judged, and a remark says what was not."""

    def observer_comes_twice(stage: FakeStage) -> None:
        stage.untold.update(f"user-{it}/2" for it in range(20))
        settle = stage.settle

        def settling() -> None:
            for it in stage.clients[:2]:
                it.id += "again"
            settle()

        stage.settle = settling  # type: ignore[method-assign] # what the test turns wrong

    stage = await played("presence", observer_comes_twice, churn=5.0)
    assert [] == stage.meters.faults
    [remark] = set(stage.meters.remarks)
    assert "were not audited" in remark


# --- storm


@in_no_time
async def test_a_storm_says_how_long_it_took() -> None:
    """Everybody is cut as often as the profile says; the two figures are there for each cut."""
    stage = await played("storm", being(steps=5 * TURNS), cuts=3)
    assert {4} == {it.comings for it in stage.clients if it.logs}
    assert {1} == {it.comings for it in stage.clients if not it.logs}, "who speaks stays"
    figures = stage.meters.figures
    assert (3, 3) == (len(figures["back_95_seconds"]), len(figures["back_100_seconds"]))
    assert all(most <= every for most, every in zip(*figures.values(), strict=True))
    assert [] == stage.meters.faults


@in_no_time
async def test_a_storm_that_is_called_off() -> None:
    """Once the run settles nobody is cut any more."""
    stage = await played("storm", being(steps=1), cuts=3)
    assert {1} == {it.comings for it in stage.clients}


def ends_soon(stage: FakeStage) -> None:
    """Let the run settle by itself."""
    asyncio.get_running_loop().call_later(SETTLE, stage.settle)


@in_no_time
async def test_a_storm_without_publications() -> None:
    """Nobody has to speak while all are away."""
    stage = await played("storm", ends_soon, cuts=1, rate=0.0)
    assert [] == stage.said + stage.meters.faults


@pytest.mark.parametrize(("name", "fields"), [("storm", {}), ("soak", {"churn": 5.0}), ("mixed", {"churn": 5.0})])
@in_no_time
async def test_who_does_not_come_back_is_a_fault(name: str, fields: dict[str, Any]) -> None:
    """A client that the server never takes again is named."""
    stage = await played(name, being(stuck=set(range(20)), steps=2 * TURNS), **fields)
    [fault] = stage.meters.faults
    assert "clients did not come back within 10 s: user-" in fault


@in_no_time
async def test_who_is_told_to_stay_away_is_a_fault() -> None:
    """A refusal for good is one of the server; anything else is a bug of ours, and ends the run."""
    stage = await played("storm", being(barred={4: RefusedError(3500, "no")}, steps=2 * TURNS))
    assert ["1 clients did not come back within 10 s: user-4"] == stage.meters.faults
    with pytest.raises(ExceptionGroup) as error:
        await played("storm", being(barred={4: KeyError("x")}, steps=2 * TURNS))
    assert error.group_contains(KeyError)


# --- recovery


@in_no_time
async def test_everybody_recovers_what_he_missed() -> None:
    """In each round each channel gets its publications while nobody is there."""
    stage = await played("recovery", being(steps=100), cuts=2, missed=7)
    assert [] == stage.meters.faults
    assert {"c0": 14, "c1": 14} == Counter(channel for _, channel in stage.said)
    assert {14} == {log.deliveries for it in stage.clients for log in it.logs.values()}


@pytest.mark.parametrize(
    ("field", "value", "fault"),
    [
        ("losing", 1, "20 clients got another number than 7 missed publications"),
        ("forgetful", True, "20 clients were told that they could not recover 7 missed publications"),
        ("stuck", {3}, "1 clients did not come back within 10 s: user-3"),
    ],
)
@in_no_time
async def test_who_does_not_recover_is_a_fault(field: str, value: object, fault: str) -> None:
    """One publication too few for everybody, an empty history, or somebody who stays away."""
    stage = await played("recovery", being(steps=100, **{field: value}), missed=7)
    assert fault in stage.meters.faults


@pytest.mark.parametrize("fields", [{"rate": 0.0}, {"rate": 1.0, "missed": 13}])
@in_no_time
async def test_a_round_must_be_long_enough(fields: dict[str, Any]) -> None:
    """What cannot be published while everybody is away is refused before anybody connects."""
    with pytest.raises(ValueError, match="more `rate` or `duration`"):
        await played("recovery", **fields)


@in_no_time
async def test_a_run_that_ends_early_publishes_no_more() -> None:
    """With the settling the rest of a round is left out, and everybody comes back."""
    stage = await played("recovery", being(steps=3), cuts=2, missed=7)
    assert 3 == len(stage.said)
    assert all(it.connected for it in stage.clients)


@in_no_time
async def test_a_round_waits_for_the_answers() -> None:
    """Nobody comes back before all is taken, or the run ends: what is not in history yet cannot be recovered."""
    answered = []

    def answers_late(stage: FakeStage) -> None:
        stage.steps = 100
        stage.ledger.publishing("c0", 1)

        def answer() -> None:
            answered.append(max(it.comings for it in stage.clients))
            stage.ledger.acknowledged("c0", 1)

        asyncio.get_running_loop().call_later(SETTLE, answer)

    stage = await played("recovery", answers_late, missed=2)
    assert [1] == answered
    assert [] == stage.meters.faults


# --- slow


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0), (0.1, 10), (0.33, 33), (1.0, 100)])
def test_slow_clients_are_spread_evenly(share: float, expected: int) -> None:
    """The share is met, in each part of the crowd alike."""
    slow = [reads_slowly(it, share) for it in range(100)]
    assert expected == sum(slow)
    assert abs(sum(slow[:50]) - sum(slow[50:])) <= 1


@pytest.mark.parametrize(("number", "faults"), [(9, 0), (8, 1)])
@in_no_time
async def test_only_slow_clients_may_be_cut_off(number: int, faults: int) -> None:
    """The end of a slow one is the plan, that of a healthy one a fault."""

    def cut_off(stage: FakeStage) -> None:
        settle = stage.settle

        def settling() -> None:
            stage.clients[number].closes[3008] += 1
            settle()

        stage.settle = settling  # type: ignore[method-assign] # what the test turns wrong

    stage = await played("slow", cut_off, slow=0.1)
    assert [9, 19] == [it.number for it in stage.clients if it.slow]
    assert [9, 19] == [it.number for it in stage.clients if it.hurried], "in the end they get what waits for them"
    assert faults * ["1 of 18 healthy clients lost their connection because of slow ones"] == stage.meters.faults


# --- soak


@in_no_time
async def test_a_soak_brings_everybody_home() -> None:
    """At the end all are there, whoever was away."""
    stage = await played("soak", being(steps=15), churn=5.0)
    assert [] == stage.meters.faults
    assert all(it.connected for it in stage.clients)
    assert max(it.comings for it in stage.clients) > 1


@in_no_time
async def test_a_soak_without_churn_is_publications_alone() -> None:
    """Nobody goes unless the profile says so."""
    stage = await played("soak")
    assert {1} == {it.comings for it in stage.clients}


# --- mixed


@in_no_time
async def test_all_kinds_of_channels_are_spoken_in() -> None:
    """Announcers speak to all; the others in their rooms and to one who is not themselves, and they stay."""
    stage = await played("mixed", churn=5.0, members=5)
    plan = Plan(as_stage(stage))
    homes = {it.number: list(it.logs) for it in stage.clients}
    assert {"c0"} == {channel for who, channel in stage.said if who >= 20}
    assert [homes[who][1] for who, _ in stage.said if who < 20].count("c0") == 0
    for who, channel in stage.said:
        assert who >= 20 or channel == homes[who][1] or (channel != homes[who][2] and int(channel[1:]) > 4), channel
    assert {5} == {sum(homes[it][1] == room for it in range(20)) for room in ("c1", "c2", "c3", "c4")}
    assert len({homes[it][2] for it in range(20)}) == 20
    assert {1} == {it.comings for it in stage.clients if it.number % 2 == 0}
    assert ["c0", "c1", "c5"] == plan.channels_of(0)


@in_no_time
async def test_a_mix_without_a_rate_is_churn_alone() -> None:
    """Nobody speaks."""
    stage = await played("mixed", churn=5.0, rate=0.0)
    assert [] == stage.said + stage.meters.faults


def test_a_message_goes_to_another_one_each_time() -> None:
    """In as many turns as there are others, everybody gets one, and the speaker none."""
    stage = staged(connections=5, members=2)
    plan, speaker = Plan(as_stage(stage)), stage.client(3)
    assert {"c4", "c5", "c6", "c8"} == {plan.to_one(speaker, it) for it in range(4)}
